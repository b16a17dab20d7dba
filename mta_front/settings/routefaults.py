"""What is wrong with routes beyond single keys. Pure; faults as in `rules`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from mta_front.domains import canonical_domain
from mta_front.settings.auth import is_clear
from mta_front.settings.lines import KeyPath
from mta_front.settings.routes import DIALLING, Route
from mta_front.settings.section import RuleFault

if TYPE_CHECKING:
    from mta_front.settings.model import Listener, Settings

_ONLY_FOR: dict[str, tuple[str, ...]] = {
    "next_hops": ("smtp", "lmtp"),
    "path": ("maildir",),
    "url": ("http",),
    "max_messages": DIALLING,
    "max_waiting": DIALLING,
    "fleet_connections": (*DIALLING, "http"),
    "rate": (*DIALLING, "http"),
    "source_address": DIALLING,
    "helo_name": DIALLING,
    "send_proxy": ("smtp", "lmtp"),
    "secure": ("smtp", "lmtp"),
    "tls": DIALLING,
    "mta_sts": ("mx",),
    "tls_names": ("smtp", "lmtp"),
    "tls_ca": (*DIALLING, "http"),
    "tls_cert": (*DIALLING, "http"),
    "dane": ("mx",),
    "dns_servers": ("mx",),
    "port": ("mx",),
    "families": ("mx",),
    "username": ("smtp", "lmtp", "http"),
    "auth_methods": ("smtp", "lmtp"),
}
"""Keys that mean something for these transports alone."""

_NEEDED = {"next_hops": "at least one next hop", "path": "a directory", "url": "a URL"}


def faults_of(settings: Settings) -> Iterator[RuleFault]:
    """Every rule that a route breaks, and domains that no route takes."""
    listeners = {listener.name for listener in settings.listeners}
    for number, route in enumerate(settings.relay.routes):
        here: KeyPath = ("relay", "routes", number)
        yield from _shape(here, route)
        yield from _tls(here, route)
        yield from _login(here, route)
        for position, name in enumerate(route.listeners):
            if listeners and name not in listeners:  # a relay alone may know none
                yield [(*here, "listeners", position), ("listeners",)], "is not the name of a listener"
    if settings.relay.workers:
        for number, listener in enumerate(settings.listeners):
            yield from _lost_domains(settings, number, listener)


def _shape(here: KeyPath, route: Route) -> Iterator[RuleFault]:
    transport = (*here, "transport")
    for key, transports in _ONLY_FOR.items():
        if route.transport not in transports and _is_said(route, key):
            yield [(*here, key), transport], f"has no use for {route.transport}"
    for key, needed in _NEEDED.items():
        if route.transport in _ONLY_FOR[key] and not getattr(route, key):
            yield [(*here, key), transport], f"must name {needed} for {route.transport}"


def _is_said(route: Route, key: str) -> bool:
    """Whether the value is another than the default."""
    return bool(getattr(route, key) != getattr(_PLAIN, key))


_PLAIN = Route()


def _tls(here: KeyPath, route: Route) -> Iterator[RuleFault]:
    mode = (*here, "tls")
    if route.secure and route.tls == "none":
        yield [(*here, "secure"), mode], 'cannot be with tls = "none"'
    for key, other in (("tls_cert", "tls_key"), ("tls_key", "tls_cert")):
        if getattr(route, key) and not getattr(route, other):
            yield [(*here, key), (*here, other)], f"needs {other} beside it"
    if route.tls == "none" and route.dane:
        yield [(*here, "dane"), mode], 'cannot be with tls = "none"'
    if route.transport in ("smtp", "lmtp") and route.tls in ("encrypt", "verify"):
        for position, hop in enumerate(route.hops):
            if hop.bind.kind == "unix":
                yield [(*here, "next_hops", position), mode], f'is a Unix socket, which has no tls = "{route.tls}"'


def _login(here: KeyPath, route: Route) -> Iterator[RuleFault]:
    username, password, file = ((*here, key) for key in ("username", "password", "password_file"))
    secret = bool(route.password.get_secret_value())
    if secret and route.password_file is not None:
        yield [file, password], "stands beside password; give one of them"
    if route.username and not secret and route.password_file is None:
        yield [username, password, file], "needs password or password_file beside it"
    if not route.username and (secret or route.password_file is not None) and route.transport != "http":
        yield [password if secret else file, username], "needs username beside it"
    if route.allow_insecure_auth:
        return
    if route.transport == "http" and is_clear(route.url) and (secret or route.password_file is not None):
        yield [(*here, "url"), password], "must be https:// for a login, or set allow_insecure_auth = true"
    scram = any(method.startswith("SCRAM") for method in route.auth_methods) or not route.auth_methods
    if route.username and route.tls == "none" and route.transport in ("smtp", "lmtp") and not scram:
        yield (
            [(*here, "tls"), username],
            "would say the password in clear; set allow_insecure_auth = true if you mean it",
        )


def _lost_domains(settings: Settings, number: int, listener: Listener) -> Iterator[RuleFault]:
    for domain in listener.relay_domains:
        if not any(_takes(route, domain, listener) for route in settings.relay.routes):
            paths: list[KeyPath] = [("listeners", number, "relay_domains"), ("relay", "routes"), ("relay", "workers")]
            yield paths, f'no route takes "{domain}"; add it to the recipients of one of [[relay.routes]]'


def _takes(route: Route, domain: str, listener: Listener) -> bool:
    """True if the route takes all of this listener's mail that the pattern `domain` stands for."""
    if route.senders not in ([], ["*"]) or route.users or (route.listeners and listener.name not in route.listeners):
        return False
    wanted = canonical_domain(domain)
    for pattern in map(canonical_domain, route.recipients):
        if pattern in ("*", wanted) or (pattern.startswith("*.") and wanted.endswith(pattern[1:])):
            return True
    return False
