"""A pace that all relays of the fleet keep together: turns are fetched from the store, some at once, and used up here.

While the store is away each relay keeps to the whole rate by itself: mail that is in hand can be delivered, and little
comes after it.
"""

from __future__ import annotations

import time
from typing import Protocol

import gevent

from mta_front.relay.pace import Pace
from mta_front.store.errors import StoreError
from mta_front.store.limits.rules import Rate

AHEAD_S = 0.25
"""Turns for so long are fetched at once, and unused ones are good for so long: else an idle relay would hoard them."""
MOST = 500
ASKING_S = 0.02
ALONE_S = 5.0
"""After a store that did not answer it is not asked for so long."""


class Turns(Protocol):
    """`mta_front.store.turns.Turns`."""

    def take(self, name: str, rate: Rate, wanted: int) -> tuple[int, float]:
        """Turns, and in how many seconds there may be another. May wait, and raise StoreError."""


class SharedPace(Pace):
    """The pace of the next hop `name`. The clock of all arguments is `time.monotonic`."""

    __slots__ = ("_again_at", "_alone_until", "_asking", "_good_until", "_name", "_rate", "_stock", "_turns", "_wanted")

    def __init__(self, rate: Rate, name: str, turns: Turns) -> None:
        super().__init__(rate)
        self._rate = rate
        self._name = name
        self._turns = turns
        self._wanted = max(1, min(int(AHEAD_S * rate.count / rate.period_s), rate.burst, MOST))
        self._stock = 0
        self._good_until = 0.0
        self._again_at = 0.0  # when the store may have another
        self._alone_until = 0.0
        self._asking = False

    def wait_s(self, now: float) -> float:
        """How long until the next message may go; also a moment, while the store is asked."""
        if now < self._alone_until:
            return super().wait_s(now)
        if self._stock and now < self._good_until:
            return 0.0
        if self._asking:
            return ASKING_S
        if now < self._again_at:
            return self._again_at - now
        self._asking = True
        gevent.spawn(self._ask)
        return ASKING_S

    def take(self, now: float) -> None:
        """One message goes."""
        super().take(now)
        self._stock = max(self._stock - 1, 0)

    def _ask(self) -> None:
        try:
            self._stock, next_s = self._turns.take(self._name, self._rate, self._wanted)
            now = time.monotonic()
            self._good_until = now + AHEAD_S + 1.0
            self._again_at = 0.0 if self._stock else now + next_s
        except StoreError:
            self._alone_until = time.monotonic() + ALONE_S
        finally:
            self._asking = False


def pace_of(rate: Rate | None, name: str, turns: Turns | None) -> Pace | None:
    """The pace of a next hop: the fleet's where there is a place that gives out turns."""
    if rate is None:
        return None
    return Pace(rate) if turns is None else SharedPace(rate, name, turns)
