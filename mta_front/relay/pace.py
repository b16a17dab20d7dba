"""How many messages a next hop gets per time. Pure: the clock is an argument, monotonic seconds."""

from __future__ import annotations

from mta_front.store.limits.rules import Rate


class Pace:
    """A rate with its burst, as limits understand it (GCRA): in the long run `rate.count` messages in each period."""

    __slots__ = ("_every_s", "_free_at", "_promised_at", "_room_s")

    def __init__(self, rate: Rate) -> None:
        self._every_s = rate.period_s / rate.count
        self._room_s = (rate.burst - 1) * self._every_s
        self._free_at = 0.0  # when all that was taken so far is paid for
        self._promised_at = 0.0  # the last turn that was promised to somebody

    def wait_s(self, now: float) -> float:
        """How long until the next message may go; 0.0: now."""
        return max(self._free_at - now - self._room_s, 0.0)

    def take(self, now: float) -> None:
        """One message goes."""
        self._free_at = max(self._free_at, now) + self._every_s

    def last_in_s(self, waiting: int, now: float) -> float:
        """When the last of so many that wait would go."""
        return self.wait_s(now) + waiting * self._every_s

    def promise(self, waiting: int, now: float) -> float:
        """A turn behind those that wait and those that have a promise: in how many seconds."""
        self._promised_at = max(self._promised_at, now + self.last_in_s(waiting, now)) + self._every_s
        return self._promised_at - now
