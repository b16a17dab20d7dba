"""What in the settings of limits cannot be meant (faults), and what may not be meant (remarks)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from ipaddress import IPv4Network, IPv6Network
from typing import TYPE_CHECKING, Any

from mta_front.settings.limits import parse_rate
from mta_front.settings.lines import KeyPath
from mta_front.settings.section import RuleFault

if TYPE_CHECKING:
    from mta_front.settings.limits import Limits
    from mta_front.settings.model import Settings

_HERE: KeyPath = ("limits",)

AnyNetwork = IPv4Network | IPv6Network
Remark = tuple[KeyPath, str]


def faults_of(settings: Settings) -> Iterator[RuleFault]:
    """Every rule across keys that the tables of limits break."""
    said = settings.limits
    if said.slow_ms > said.timeout_ms:
        paths: list[KeyPath] = [(*_HERE, "slow_ms"), (*_HERE, "timeout_ms")]
        yield paths, f"must be at most timeout_ms, {said.timeout_ms}"
    for number, own in enumerate(said.networks):
        if not own.networks:
            yield [(*_HERE, "networks", number, "networks")], "must name at least one network"
    for path, table in _tables_of(settings):
        yield from _auth_faults((*path, "auth_failures"), table.auth_failures, said)


def _tables_of(settings: Settings) -> Iterator[tuple[KeyPath, Any]]:
    """Every table that holds groups of limits, with its path; the widest first."""
    yield _HERE, settings.limits
    for number, own in enumerate(settings.limits.networks):
        yield (*_HERE, "networks", number), own
    for number, listener in enumerate(settings.listeners):
        yield ("listeners", number, "limits"), listener.limits


def _auth_faults(path: KeyPath, table: Any, said: Limits) -> Iterator[RuleFault]:
    lengths = table.lockout_s or []
    if list(lengths) != sorted(lengths):
        yield [(*path, "lockout_s")], "must not become shorter from one to the next"
    wider = said.auth_failures
    first = wider.tarpit_s if table.tarpit_s is None else table.tarpit_s
    longest = wider.tarpit_max_s if table.tarpit_max_s is None else table.tarpit_max_s
    if first > longest:
        keys = (
            ("tarpit_max_s", "tarpit_s") if "tarpit_s" not in table.model_fields_set else ("tarpit_s", "tarpit_max_s")
        )
        yield (
            [(*path, key) for key in keys],
            f"would make the first failure wait longer, {first:g} s, than any, {longest:g} s",
        )


def remarks_of(settings: Settings, is_set: Callable[[KeyPath], bool]) -> Iterator[Remark]:
    """What an operator may not have meant. `is_set`: whether somebody set this key; defaults earn no remark."""
    yield from _network_remarks(settings.limits)
    for key in ("username", "password", "password_file"):
        if not settings.limits.url and is_set((*_HERE, key)):
            yield (*_HERE, key), "has no use without url: the store's own are used"
            break
    for key in ("per_address", "per_user"):
        path: KeyPath = (*_HERE, "connections", key)
        if is_set(path) and getattr(settings.limits.connections, key) == 0:
            yield path, "means no limit: one client may take every session"
    for path, table in _tables_of(settings):
        yield from _unreachable(path, table, settings.limits)
        yield from _small_bytes(path, table, settings)
    yield from _mail_proxies(settings)
    if not any(listener.auth_methods and "AUTH" not in listener.disabled_commands for listener in settings.listeners):
        yield from _limits_of_nobody(settings, is_set)


def _network_remarks(said: Limits) -> Iterator[Remark]:
    """Networks that are everybody, or nobody since others come first, or that cannot be told from their neighbours."""
    earlier: list[AnyNetwork] = []
    for position, network in enumerate(said.exempt):
        if network.prefixlen == 0:
            yield (*_HERE, "exempt", position), "exempts everybody: no limit holds for any of them"
        earlier.append(network)
    for number, own in enumerate(said.networks):
        for position, network in enumerate(own.networks):
            path: KeyPath = (*_HERE, "networks", number, "networks", position)
            wider = next((other for other in earlier if _within(network, other)), None)
            prefix = f"ipv{network.version}_prefix"
            if wider is not None:
                yield path, f"is never used: {wider} comes first"
            elif network.prefixlen > getattr(said, prefix):
                yield path, f"is less than one client, by {prefix}: it is counted with its neighbours"
            earlier.append(network)


def _mail_proxies(settings: Settings) -> Iterator[Remark]:
    """Who may say XCLIENT passes on the mail of many: under the limits of one client it would soon be refused."""
    said = settings.limits
    known = [*said.exempt, *(network for own in said.networks for network in own.networks)]
    for number, listener in enumerate(settings.listeners):
        for key in ("use_xclient", "use_xforward"):
            peers = getattr(listener, key)
            for position, network in enumerate(() if isinstance(peers, bool) else peers):
                if not any(_within(network, other) for other in known):
                    text = "is not in limits.exempt: all that a mail proxy passes on counts as one client's"
                    yield ("listeners", number, key, position), text


def _within(network: AnyNetwork, other: AnyNetwork) -> bool:
    if isinstance(network, IPv4Network):
        return isinstance(other, IPv4Network) and network.subnet_of(other)
    return isinstance(other, IPv6Network) and network.subnet_of(other)


def _unreachable(path: KeyPath, table: Any, said: Limits) -> Iterator[Remark]:
    """A client's own limit that lies over the limit of all clients together."""
    whole = said.connections.fleet
    for key in ("per_address", "per_user", "per_listener"):
        limit = getattr(table.connections, key, None)
        if limit and whole and limit > whole:
            yield (*path, "connections", key), f"is never reached: limits.connections.fleet is {whole}"


def _small_bytes(path: KeyPath, table: Any, settings: Settings) -> Iterator[Remark]:
    """A rate of octets under which a message that the listener takes can never pass, however long it waits."""
    of_listener = path[0] == "listeners"
    listeners = [settings.listeners[int(path[1])]] if of_listener else settings.listeners
    for key in ("per_address", "per_user", "per_domain"):
        rate = parse_rate(getattr(table.bytes, key) or "")
        for listener in listeners if rate else ():
            if rate and listener.size_bytes > rate.burst:
                text = f"a message of size_bytes of {listener.name}, {listener.size_bytes}, never passes"
                yield (*path, "bytes", key), f"{text}: at most {rate.burst} octets do at once"
                break


def _limits_of_nobody(settings: Settings, is_set: Callable[[KeyPath], bool]) -> Iterator[Remark]:
    for path, table in _tables_of(settings):
        for group in ("connections", "connection_rate", "messages", "recipients", "bytes", "auth_failures"):
            here: KeyPath = (*path, group, "per_user")
            if is_set(here) and getattr(table, group).per_user:
                yield here, "counts nobody: no listener has a login"
