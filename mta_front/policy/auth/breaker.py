"""A circuit breaker: what fails again and again is left alone for a while, so that nobody waits for it in vain.

After `failures` in a row it opens: everything is refused at once for `open_s`. Then one caller at a time probes; the
first success closes it, a failure opens it for another `open_s`.
"""

from __future__ import annotations

import time
from collections.abc import Callable


class Breaker:
    """For one place that may fail. Of one hub: greenlets switch nowhere in here."""

    __slots__ = ("_clock", "_failed", "_failures", "_open_s", "_probed_at", "_until")

    def __init__(self, failures: int, open_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._failures = failures
        self._open_s = open_s
        self._clock = clock
        self._failed = 0  # in a row
        self._until = 0.0  # when it may be probed; 0 = closed
        self._probed_at = 0.0  # when the probe under way began; 0 = none is

    @property
    def is_open(self) -> bool:
        """Whether it is open, or half open."""
        return self._until > 0

    def admits(self) -> bool:
        """Whether to try now. Who is told yes must say `succeeded` or `failed` afterwards."""
        if not self._until:
            return True
        now = self._clock()
        # A probe that never said how it ended (its greenlet was killed) does not keep the breaker open for ever.
        if now < self._until or (self._probed_at and now < self._probed_at + self._open_s):
            return False
        self._probed_at = now
        return True

    def succeeded(self) -> bool:
        """It works. True if that is news: the breaker was open."""
        news = self.is_open
        self._failed = 0
        self._until = self._probed_at = 0.0
        return news

    def failed(self) -> bool:
        """It does not work. True if that is news: the breaker opens now."""
        self._failed += 1
        self._probed_at = 0.0
        if self._failed < self._failures:
            return False
        news = not self._until
        self._until = self._clock() + self._open_s
        return news
