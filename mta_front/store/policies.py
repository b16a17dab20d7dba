"""What domains have published about TLS (MTA-STS), kept for all relays of the fleet and beyond their restarts."""

from __future__ import annotations

from mta_front.observe.events import NOBODY, Events
from mta_front.store import keys
from mta_front.store.client import Call, Link
from mta_front.store.options import StoreOptions


class Policies:
    """Texts by domain, each with the time that it is good for. One connection of its own; methods raise StoreError."""

    def __init__(self, options: StoreOptions, events: Events = NOBODY) -> None:
        self._prefix = options.prefix
        self._link = Link(options, "policies", events, tag="limits")

    def start(self) -> None:
        """Connect in the background."""
        self._link.start()

    def close(self) -> None:
        """Close the connection."""
        self._link.close()

    def load(self, domain: str) -> tuple[str, float] | None:
        """What is kept of a domain, and for how many seconds it is good."""
        key = keys.policy(self._prefix, domain)
        text = self._link.call(Call(["GET", key]))
        left_ms = self._link.call(Call(["PTTL", key])) if text else 0
        return (text.decode("utf-8", "replace"), left_ms / 1000) if left_ms > 0 else None

    def keep(self, domain: str, text: str, life_s: float) -> None:
        """Keep it for so long."""
        self._link.call(Call(["SET", keys.policy(self._prefix, domain), text, "PX", max(int(life_s * 1000), 1)]))
