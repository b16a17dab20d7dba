"""When the limits' store is asked, and when each worker decides for itself. Pure: the clock is an argument.

It opens at once when a call fails, and when calls are slow: the median of the last 20 over the limit. While it is open
nobody waits for the store; a probe every now and then tells when it is well again. Then what sessions ask goes back to
it in the course of a second, not all at once.
"""

from __future__ import annotations

import statistics
from collections import deque

LAST = 20  # calls that tell whether the store is slow,
RECENT_S = 0.5  # as far as they are so new: what was quick before it became slow says nothing
SLOW_TRIPS = 3  # a single hiccup is a store that works
GOOD_PROBES = 3
RETURN_S = 1.0


class Breaker:
    """All times in seconds of one clock that never goes back."""

    __slots__ = ("_calls", "_good", "_slow_s", "_state", "_until")

    def __init__(self, slow_s: float) -> None:
        self._slow_s = slow_s
        self._calls: deque[tuple[float, float, int]] = deque(maxlen=LAST)
        self._state = "closed"
        self._good = 0
        self._until = 0.0  # returning: when all are back

    @property
    def closed(self) -> bool:
        """All ask the store."""
        return self._state == "closed"

    @property
    def open(self) -> bool:
        """Nobody does."""
        return self._state == "open"

    def admits(self, now: float, lot: float) -> bool:
        """Whether to ask the store now. `lot`: from 0 to 1, drawn by chance."""
        if self._state == "closed":
            return True
        return self._state == "returning" and lot < 1 - (self._until - now) / RETURN_S

    def failed(self) -> bool:
        """A call failed. True if that is news: it opens."""
        news = self._state != "open"
        self._state = "open"
        self._good = 0
        self._calls.clear()
        return news

    def heard(self, now: float, took_s: float, trip: int) -> bool:
        """A call was answered; `trip` names those that travelled together. True: calls are too slow, and it opens."""
        calls = self._calls
        calls.append((now, took_s, trip))
        if took_s <= self._slow_s:
            return False
        recent = [call for call in calls if now - call[0] <= RECENT_S]
        slow_trips = {trip for _, took_s, trip in recent if took_s > self._slow_s}
        if len(slow_trips) < SLOW_TRIPS or statistics.median(took_s for _, took_s, _ in recent) <= self._slow_s:
            return False
        return self.failed()

    def probed(self, took_s: float) -> bool:
        """A probe was answered. True: it was the last that was wanted, and `come_back` may be called."""
        self._good = self._good + 1 if took_s <= self._slow_s else 0
        return self._good >= GOOD_PROBES

    def come_back(self, now: float) -> bool:
        """Sessions go back to the store. False: it has failed since the probe."""
        if self._good < GOOD_PROBES:
            return False
        self._state = "returning"
        self._until = now + RETURN_S
        return True

    def settled(self, now: float) -> bool:
        """True if that is news: all are back."""
        if self._state != "returning" or now < self._until:
            return False
        self._state = "closed"
        return True
