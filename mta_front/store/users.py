"""Users in the store, as text: what it means is the caller's. And the fleet's secret, which is made here once."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from mta_front.observe.events import NOBODY, Events
from mta_front.store import keys
from mta_front.store.client import Call, Link
from mta_front.store.options import StoreOptions

SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class UserHash:
    """The fields of one user; "" where there is none."""

    password: str = field(repr=False)
    addresses: str


class UserHashes:
    """Reads `PREFIX:user:NAME` over one connection of its own. Every method may raise `StoreError` and may wait."""

    def __init__(self, options: StoreOptions, events: Events = NOBODY) -> None:
        self._prefix = options.prefix
        # In a Cluster only the secret can be read: the users would be on all nodes, and the settings refuse that.
        self._link = Link(options, "auth", events, tag=keys.fleet_secret(options.prefix))

    def start(self) -> None:
        """Connect in the background."""
        self._link.start()

    def close(self) -> None:
        """Close the connection."""
        self._link.close()

    def find(self, name: str) -> UserHash | None:
        """The user of this name; None when there is no password under it."""
        password, addresses = self._link.call(Call(["HMGET", keys.user(self._prefix, name), "password", "addresses"]))
        if not password:
            return None
        return UserHash(password.decode("utf-8", "replace"), (addresses or b"").decode("utf-8", "replace"))

    def fleet_secret(self) -> bytes:
        """Random octets that all fronts on this store share, and that stay: the first who asks makes them."""
        key = keys.fleet_secret(self._prefix)
        self._link.call(Call(["SET", key, secrets.token_hex(SECRET_BYTES), "NX"]))
        return bytes(self._link.call(Call(["GET", key])))
