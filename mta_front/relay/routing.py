"""The routes of the settings with their transports: who delivers which recipients."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mta_front.domains import canonical_domain
from mta_front.observe.events import Events
from mta_front.relay.attempt import Transport
from mta_front.relay.dns import Dns
from mta_front.relay.mtasts import FleetPolicies, MtaSts
from mta_front.relay.mxsecurity import MxSecurity
from mta_front.relay.nexthop import Match, RouteBook, domain_of
from mta_front.relay.ourselves import Ourselves
from mta_front.relay.sharedpace import Turns
from mta_front.relay.tlspolicy import TlsPolicy
from mta_front.relay.transports.discard import DiscardTransport
from mta_front.relay.transports.http import HttpOptions, HttpTransport
from mta_front.relay.transports.maildir import MaildirTransport
from mta_front.relay.transports.mx import MxTransport
from mta_front.relay.transports.opener import Credentials, SmtpOptions, Target, Trust
from mta_front.relay.transports.smtp import SmtpTransport
from mta_front.settings.routes import Route
from mta_front.settings.values import Bind
from mta_front.smtp.saslclient import CLIENT_METHODS
from mta_front.store.entry import Entry
from mta_front.store.places import Places


@dataclass(frozen=True, slots=True)
class Share:
    """What all relays of the fleet have together; None = each has it for itself."""

    turns: Turns | None = None
    places: Places | None = None
    policies: FleetPolicies | None = None


_ALONE = Share()


class _Few:
    """So many connections to each next hop of a route."""

    def __init__(self, places: Places, most: int) -> None:
        self._places = places
        self._most = most

    def enter(self, name: str) -> str:
        return self._places.enter(name, self._most)

    def leave(self, place: str) -> None:
        self._places.leave(place)


class Routing:
    """Built once; every shard's consumer hands its messages to the same transports. `name`: ours, for EHLO."""

    def __init__(
        self,
        routes: Sequence[Route],
        name: str,
        events: Events,
        ourselves: Ourselves | None = None,
        share: Share = _ALONE,
    ) -> None:
        """`ourselves`: where mail exchangers would lead back to us. `share`: with other relays."""
        ourselves = ourselves or Ourselves([name])
        self._book = RouteBook(
            [Match(route.recipients, route.senders, route.users, route.listeners) for route in routes]
        )
        self._transports = [_transport(route, name, events, ourselves, share) for route in routes]
        self.patience_s = max((route.timeout_s for route in routes), default=0.0)
        """The longest that a transport waits for one answer."""

    def split(self, envelope: Entry, recipients: Sequence[str]) -> list[tuple[Transport | None, list[str]]]:
        """These recipients of a message by transport, in groups that it can take at once; None: no route takes them."""
        parts: list[tuple[Transport | None, list[str]]] = []
        groups = self._book.group(recipients, envelope.mail_from, envelope.user, envelope.listener)
        for index, group in groups.items():
            if index is None:
                parts.append((None, group))
                continue
            transport = self._transports[index]
            most = transport.recipients_max
            for some in _by_domain(group) if transport.by_domain else [group]:
                parts += [(transport, some[start : start + most]) for start in range(0, len(some), most)]
        return parts

    def look(self, now: float) -> None:
        """Once a second; `now`: monotonic."""
        for transport in self._transports:
            transport.look(now)

    def close(self) -> None:
        """Let what is idle end."""
        for transport in self._transports:
            transport.close()


def _by_domain(recipients: Sequence[str]) -> Iterator[list[str]]:
    groups: dict[str, list[str]] = {}
    for recipient in recipients:
        groups.setdefault(canonical_domain(domain_of(recipient)), []).append(recipient)
    yield from groups.values()


def _transport(route: Route, name: str, events: Events, ourselves: Ourselves, share: Share) -> Transport:
    if route.transport == "discard":
        return DiscardTransport()
    if route.transport == "maildir":
        assert route.path is not None  # the settings see to it
        return MaildirTransport(route.path, name, events)
    options = _options(route, name, share)
    if route.transport == "http":
        return HttpTransport(_http(route, options), events)
    if route.transport == "mx":
        return _mx(route, options, ourselves, events, share)
    hops = route.hops
    return SmtpTransport([_target(route, hop.bind) for hop in hops], options, events, [hop.weight for hop in hops])


def _mx(route: Route, options: SmtpOptions, ourselves: Ourselves, events: Events, share: Share) -> MxTransport:
    dns = Dns(route.resolvers)
    # Policies are the world's business: no authority of our own can vouch for them
    sts = None
    if route.mta_sts and route.tls != "none":
        sts = MtaSts(dns, lambda: _SYSTEM.outbound, fleet=share.policies)
    security = MxSecurity(route.tls, dns, dane=route.dane, sts=sts, port=route.port)
    return MxTransport(dns, security, options, ourselves, events, port=route.port, families=route.families)


_SYSTEM = Trust()


def _http(route: Route, options: SmtpOptions) -> HttpOptions:
    return HttpOptions(
        route.url,
        options.max_connections,
        options.connect_timeout_s,
        options.timeout_s,
        options.credentials,
        options.trust,
        options.rate,
        options.turns,
        options.fleet,
    )


def _target(route: Route, bind: Bind) -> Target:
    """A next hop of the settings: its name is as good as the settings are."""
    if bind.kind == "unix":
        return Target(bind)
    return Target(bind, bind.host, TlsPolicy(route.tls, tuple(route.tls_names) or (bind.host,)))


def _options(route: Route, name: str, share: Share) -> SmtpOptions:
    credentials = None
    if route.username or route.password.get_secret_value() or route.password_file:
        credentials = Credentials(
            route.username,
            route.password.get_secret_value(),
            route.password_file,
            tuple(route.auth_methods) or CLIENT_METHODS,
            route.allow_insecure_auth,
        )
    return SmtpOptions(
        protocol="lmtp" if route.transport == "lmtp" else "smtp",
        helo_name=route.helo_name or name,
        max_connections=route.max_connections,
        connect_timeout_s=route.connect_timeout_s,
        timeout_s=route.timeout_s,
        max_messages=route.max_messages,
        source_address=route.source_address,
        secure=route.secure,
        send_proxy=route.send_proxy,
        rate=route.pace,
        turns=share.turns,
        fleet=_Few(share.places, route.fleet_connections) if share.places and route.fleet_connections else None,
        max_waiting=route.max_waiting,
        credentials=credentials,
        trust=Trust(route.tls_ca, (route.tls_cert, route.tls_key) if route.tls_cert else None),
    )
