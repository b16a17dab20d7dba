"""What a worker counts by itself while the store is away: its share of each limit.

What was counted stays when the store is back, until its time has passed: a store that is away again and again would
else give everybody a new share each time.
"""

from __future__ import annotations

from collections.abc import Sequence

from mta_front.store.limits.rules import Rate

MOST = 10_000  # counts kept; beyond that the oldest are forgotten
US = 1_000_000


class LocalCounts:
    """GCRA for many keys, in memory that is bounded. `now`: seconds of one clock that never goes back."""

    __slots__ = ("_arrivals",)

    def __init__(self) -> None:
        self._arrivals: dict[str, int] = {}  # key -> when all that was spent has come back, µs

    def wait_s(self, key: str, share: Rate, amount: int, now: float) -> float:
        """How long until so many may be taken; 0 = now."""
        now_us = int(now * US)
        tat = max(self._arrivals.get(key, 0), now_us) + share.cost_us(amount)
        return max(0, tat - now_us - share.room_us) / US

    def take(self, spent: Sequence[tuple[str, Rate, int]], now: float) -> None:
        """Count so many of each key."""
        now_us = int(now * US)
        for key, share, amount in spent:
            tat = max(self._arrivals.pop(key, 0), now_us) + share.cost_us(amount)
            self._arrivals[key] = tat  # the newest last
        if len(self._arrivals) > MOST:
            for key in [key for key, tat in self._arrivals.items() if tat <= now_us]:
                del self._arrivals[key]
            for key in list(self._arrivals)[: len(self._arrivals) - MOST]:
                del self._arrivals[key]

    def clear(self, key: str) -> None:
        """Forget what was counted of a key."""
        self._arrivals.pop(key, None)


class Holds:
    """The leases that this worker's sessions hold, whoever knows of them."""

    __slots__ = ("_counts", "_held")

    def __init__(self) -> None:
        self._held: dict[str, tuple[str, ...]] = {}  # session -> leases
        self._counts: dict[str, int] = {}  # lease -> how many sessions of this worker hold one

    def __len__(self) -> int:
        return len(self._held)

    def sessions(self) -> list[str]:
        """All that hold anything."""
        return list(self._held)

    def of(self, session: str) -> tuple[str, ...]:
        """What it holds."""
        return self._held.get(session, ())

    def count(self, lease: str) -> int:
        """How many sessions hold this one."""
        return self._counts.get(lease, 0)

    def add(self, session: str, leases: tuple[str, ...]) -> None:
        """The session holds these too."""
        if leases:
            self._held[session] = self._held.get(session, ()) + leases
            for lease in leases:
                self._counts[lease] = self._counts.get(lease, 0) + 1

    def remove(self, session: str, leases: tuple[str, ...] | None = None) -> tuple[str, ...]:
        """The session holds these no more, by default nothing. What it did hold of them."""
        held = self._held.pop(session, ())
        gone = held if leases is None else tuple(lease for lease in held if lease in leases)
        rest = () if leases is None else tuple(lease for lease in held if lease not in leases)
        if rest:
            self._held[session] = rest
        for lease in gone:
            left = self._counts[lease] - 1
            if left:
                self._counts[lease] = left
            else:
                del self._counts[lease]
        return gone
