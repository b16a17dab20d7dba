"""Turns at next hops, given out to all relays of the fleet from one place, so that a rate is the fleet's."""

from __future__ import annotations

import hashlib
from pathlib import Path

from mta_front.observe.events import NOBODY, Events
from mta_front.store import keys
from mta_front.store.client import Call, Link
from mta_front.store.errors import StoreRefused
from mta_front.store.limits.rules import Rate
from mta_front.store.options import StoreOptions

_SCRIPT = (Path(__file__).parent / "lua" / "turns.lua").read_text("utf-8")
_SHA = hashlib.sha1(_SCRIPT.encode(), usedforsecurity=False).hexdigest()


class Turns:
    """One connection of its own. Nothing here is mail: what is lost with a store is a rate for a moment."""

    def __init__(self, options: StoreOptions, events: Events = NOBODY) -> None:
        self._prefix = options.prefix
        self._link = Link(options, "turns", events, tag="limits", scripts=[_SCRIPT])

    def start(self) -> None:
        """Connect in the background."""
        self._link.start()

    def close(self) -> None:
        """Close the connection."""
        self._link.close()

    def take(self, name: str, rate: Rate, wanted: int) -> tuple[int, float]:
        """Up to `wanted` turns at the next hop of this name: how many there are, and in how many seconds another.

        Raises StoreError.
        """
        every_us = rate.period_s * 1e6 / rate.count
        room_us = (rate.burst - 1) * every_us
        key = keys.turns(self._prefix, name)
        call = Call(["EVALSHA", _SHA, 1, key, 0, f"{every_us:.3f}", f"{room_us:.3f}", wanted], late=4)
        reply = self._link.call(call)
        if not isinstance(reply, list):
            raise StoreRefused("it would have been late")
        given, next_us = reply
        return int(given), int(next_us) / 1e6
