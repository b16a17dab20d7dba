"""Places for connections to next hops, counted for all relays of the fleet. A relay that dies loses its by silence."""

from __future__ import annotations

import contextlib
import hashlib
import secrets
from pathlib import Path
from typing import Any

import gevent

from mta_front.observe.events import NOBODY, Events
from mta_front.store import keys
from mta_front.store.client import Call, Link
from mta_front.store.errors import StoreError
from mta_front.store.options import StoreOptions

LEASE_S = 30.0
_SCRIPT = (Path(__file__).parent / "lua" / "place.lua").read_text("utf-8")
_SHA = hashlib.sha1(_SCRIPT.encode(), usedforsecurity=False).hexdigest()


class Places:
    """One connection of its own. No method raises: while the store is away everybody finds a place."""

    def __init__(self, options: StoreOptions, events: Events = NOBODY, lease_s: float = LEASE_S) -> None:
        self._prefix = options.prefix
        self._lease_s = lease_s
        self._link = Link(options, "places", events, tag="limits", scripts=[_SCRIPT])
        self._held: dict[str, tuple[str, int]] = {}  # connection -> next hop and how many it may have
        self._renewer: Any = None

    def start(self) -> None:
        """Connect, and renew what is held, in the background."""
        self._link.start()
        self._renewer = gevent.spawn(self._renew_forever)

    def close(self) -> None:
        """Close the connection."""
        if self._renewer is not None:
            self._renewer.kill()
        self._link.close()

    def enter(self, name: str, most: int) -> str:
        """A place among the `most` connections to the next hop of this name; "" if there is none."""
        connection = secrets.token_hex(8)
        if not self._ask(connection, name, most):
            return ""
        self._held[connection] = name, most
        return connection

    def leave(self, connection: str) -> None:
        """Give a place back; returns at once."""
        name, _ = self._held.pop(connection, ("", 0))
        if name:
            gevent.spawn(self._give_back, connection, name)

    def _give_back(self, connection: str, name: str) -> None:
        with contextlib.suppress(StoreError):  # else its lease ends
            self._link.call(Call(["ZREM", keys.connections(self._prefix, name), connection]))

    def _ask(self, connection: str, name: str, most: int) -> bool:
        key = keys.connections(self._prefix, name)
        call = Call(["EVALSHA", _SHA, 1, key, 0, connection, most, int(self._lease_s * 1000)], late=4)
        try:
            return bool(self._link.call(call))
        except StoreError:
            return True

    def _renew_forever(self) -> None:
        while True:
            gevent.sleep(self._lease_s / 3)
            for connection, (name, most) in list(self._held.items()):
                self._ask(connection, name, most)
