"""What no key can tell alone: rules across keys. Pure.

Each fault is (paths, message): the first path is the one to blame, the others were looked at too. A fault is dropped
when one of its paths has a fault of its own, since then nothing is known about the value that was meant.
"""

from __future__ import annotations

from collections.abc import Iterator

from mta_front.settings import auth, limitfaults, routefaults, store, tls
from mta_front.settings.lines import KeyPath
from mta_front.settings.model import Listener, Settings
from mta_front.settings.section import RuleFault


def faults_of(settings: Settings) -> Iterator[RuleFault]:
    """Every rule that the settings break."""
    yield from _drain_times(settings)
    yield from _same_names(settings)
    yield from _same_addresses(settings)
    yield from routefaults.faults_of(settings)
    yield from tls.faults_of(settings)
    yield from auth.faults_of(settings.auth)
    yield from store.faults_of(settings.store, settings.auth)
    yield from limitfaults.faults_of(settings)
    for number, listener in enumerate(settings.listeners):
        yield from _same_methods(number, listener)
        yield from _trusted_peers(number, listener)
        if not listener.open_relay:
            yield from _open_relay(settings, number, listener)


def _drain_times(settings: Settings) -> Iterator[RuleFault]:
    server = settings.server
    if server.drain_grace_s >= server.drain_timeout_s:
        paths: list[KeyPath] = [("server", "drain_grace_s"), ("server", "drain_timeout_s")]
        yield paths, f"must be less than drain_timeout_s, {server.drain_timeout_s:g}, which counts from TERM too"


def _same_names(settings: Settings) -> Iterator[RuleFault]:
    seen: dict[str, KeyPath] = {}
    for number, listener in enumerate(settings.listeners):
        path = ("listeners", number, "name")
        if listener.name in seen:
            yield (path, seen[listener.name]), f'another listener is named "{listener.name}"'
        seen.setdefault(listener.name, path)


def _same_addresses(settings: Settings) -> Iterator[RuleFault]:
    seen: dict[str, KeyPath] = {}
    places: list[tuple[KeyPath, str]] = [
        (("listeners", number, "bind", position), str(address))
        for number, listener in enumerate(settings.listeners)
        for position, address in enumerate(listener.addresses)
    ]
    places.append((("admin", "bind"), str(settings.admin.address)))
    if settings.admin.agent_address:
        places.append((("admin", "agent_check"), str(settings.admin.agent_address)))
    for path, address in places:
        if address in seen:
            yield (path, seen[address]), f"{address} is bound already"
        seen.setdefault(address, path)


def _same_methods(number: int, listener: Listener) -> Iterator[RuleFault]:
    methods = listener.auth_methods
    for position, method in enumerate(methods):
        if method in methods[:position]:
            yield [("listeners", number, "auth_methods", position)], f'"{method}" stands there twice'


def _trusted_peers(number: int, listener: Listener) -> Iterator[RuleFault]:
    """Who may say who the client is: nobody by accident (DECISIONS W10, W12)."""
    here: KeyPath = ("listeners", number)
    proxies = () if isinstance(listener.use_proxy, bool) else listener.use_proxy
    for position, network in enumerate(proxies):
        if network.prefixlen == 0:
            yield [(*here, "use_proxy", position)], "would trust everybody; say use_proxy = true if you mean it"
    for position, network in enumerate(listener.trusted_networks):
        if any(network.version == proxy.version and network.overlaps(proxy) for proxy in proxies):
            paths = [(*here, "trusted_networks", position), (*here, "use_proxy")]
            yield paths, "has addresses of use_proxy in it: what a proxy sends of its own would be trusted"
    exposed = [str(address) for address in listener.addresses if not address.is_loopback]
    for key in ("use_xclient", "use_xforward"):
        if getattr(listener, key) is not True:
            continue
        if listener.use_proxy is not False:
            paths = [(*here, key), (*here, "use_proxy")]
            yield paths, "must name networks, since use_proxy brings clients from anywhere"
        elif exposed:
            yield [(*here, key), (*here, "bind")], f"must name networks, since {exposed[0]} is open to others"


def _open_relay(settings: Settings, number: int, listener: Listener) -> Iterator[RuleFault]:
    """Mail for anybody, from anybody, may not leave this machine unless the operator says so in so many words."""
    here: KeyPath = ("listeners", number)
    remedy = "set open_relay = true if you mean it"
    for position, network in enumerate(listener.trusted_networks):
        if network.prefixlen == 0:
            yield [(*here, "trusted_networks", position), (*here, "open_relay")], f"would let everybody relay; {remedy}"
    if "*" not in listener.relay_domains:
        return
    domains, bind = (*here, "relay_domains"), (*here, "bind")
    public = [str(address) for address in listener.addresses if not address.is_loopback]
    if public:
        yield (domains, bind, (*here, "open_relay")), f'"*" on {public[0]} would make an open relay; {remedy}'
    for position, route in enumerate(settings.relay.routes):
        if route.transport != "maildir":
            looked_at = [domains, ("relay", "routes", position), (*here, "open_relay")]
            yield looked_at, f'"*" with a route of transport {route.transport} would make an open relay; {remedy}'
            return
