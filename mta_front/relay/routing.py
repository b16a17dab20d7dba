"""The routes of the settings with their transports: who delivers which recipients."""

from __future__ import annotations

from collections.abc import Sequence

from mta_front.observe.events import Events
from mta_front.relay.attempt import Transport
from mta_front.relay.nexthop import Routes
from mta_front.relay.transports.discard import DiscardTransport
from mta_front.relay.transports.maildir import MaildirTransport
from mta_front.relay.transports.smtp import SmtpOptions, SmtpTransport
from mta_front.settings.routes import Route


class Routing:
    """Built once; every shard's consumer hands its messages to the same transports. `name`: ours, for EHLO."""

    def __init__(self, routes: Sequence[Route], name: str, events: Events) -> None:
        self._routes = Routes([route.recipients for route in routes])
        self._transports = [_transport(route, name, events) for route in routes]
        self.patience_s = max((route.timeout_s for route in routes), default=0.0)
        """The longest that a transport waits for one answer."""

    def split(self, recipients: Sequence[str]) -> list[tuple[Transport | None, list[str]]]:
        """The recipients by transport, in groups that it can take at once; None: no route matches these."""
        parts: list[tuple[Transport | None, list[str]]] = []
        for index, group in self._routes.group(recipients).items():
            if index is None:
                parts.append((None, group))
                continue
            transport = self._transports[index]
            most = transport.recipients_max
            if len(group) <= most:
                parts.append((transport, group))
            else:
                parts += [(transport, group[start : start + most]) for start in range(0, len(group), most)]
        return parts

    def look(self, now: float) -> None:
        """Once a second; `now`: monotonic."""
        for transport in self._transports:
            transport.look(now)

    def close(self) -> None:
        """Let what is idle end."""
        for transport in self._transports:
            transport.close()


def _transport(route: Route, name: str, events: Events) -> Transport:
    if route.transport == "discard":
        return DiscardTransport()
    if route.transport == "maildir":
        assert route.path is not None  # the settings see to it
        return MaildirTransport(route.path, name, events)
    options = SmtpOptions(
        protocol=route.transport,
        helo_name=name,
        max_connections=route.max_connections,
        connect_timeout_s=route.connect_timeout_s,
        timeout_s=route.timeout_s,
    )
    return SmtpTransport(route.addresses, options, events)
