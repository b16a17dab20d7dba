"""What `SMTPServer` may be called with: the names of all options, what each may be, and single hooks as keywords.

A slip is answered where it is made: an unknown name with the nearest known one, a bad value with what is allowed. A
policy that is silently not called is worse than a program that does not start, so hooks are looked at too.
"""

from __future__ import annotations

import difflib
import inspect
import reprlib
import socket
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from ipaddress import ip_address
from typing import Any, Literal

from mta_front import bounds
from mta_front.bounds import Check, flag, seconds, unknown
from mta_front.certified import TLS_CHECKS, TLS_RENAMED, Certified, TlsArguments
from mta_front.doors import UNIX
from mta_front.hooks import HOOKS, Accept, Address, Credentials, Hooks, Message, Session
from mta_front.net.options import Network, SessionOptions
from mta_front.net.reverse import Resolver


class Options(TlsArguments, total=False):
    """The keywords of `SMTPServer`, beside `hooks`. `None` for a number means no limit."""

    listener: str
    name: str
    banner: str
    helo_response: str
    lmtp: bool
    use_proxy: bool | Iterable[str | Network]
    proxy_timeout_s: float
    proxy_tls_trusted: bool
    use_xclient: bool | Iterable[str | Network]
    use_xforward: bool | Iterable[str | Network]
    xclient_trusts_addr: bool
    secure: bool
    needs_upgrade: bool
    hide_starttls: bool
    auth_methods: Iterable[str]
    allow_insecure_auth: bool
    auth_optional: bool
    auth_required_message: str
    hide_size: bool
    hide_pipelining: bool
    hide_dsn: bool
    hide_enhancedstatuscodes: bool
    hide_requiretls: bool
    hide_8bitmime: bool
    hide_smtputf8: bool
    disabled_commands: Iterable[str]
    size_bytes: int | None
    max_text_line_octets: int | None
    max_clients: int | None
    max_recipients: int | None
    max_messages: int | None
    max_unauthenticated_commands: int | Literal[False] | None
    socket_timeout_s: float
    session_timeout_s: float | None
    close_timeout_s: float
    min_data_rate_bytes_s: int | None
    soft_errors: int
    error_delay_s: float
    max_errors: int | None
    max_junk_commands: int | None
    greet_delay_s: float
    reverse_lookup: bool
    reverse_lookup_timeout_s: float
    resolver: Resolver | None
    bare_newline: Literal["normalize", "reject", "accept"]
    bare_newline_exempt: Iterable[str | Network]
    lenient_address_parsing: bool
    blocking_hooks: bool

    on_connect: Callable[[Session], None]
    on_secure: Callable[[Session], None]
    on_auth: Callable[[Credentials, Session], Any]
    on_mail_from: Callable[[Address, Session], None]
    on_rcpt_to: Callable[[Address, Session], Accept | None]
    on_data: Callable[[Message, Session], Any]
    on_close: Callable[[Session], None]
    on_error: Callable[[BaseException, Session], None]


@dataclass(slots=True, frozen=True)
class Arguments:
    """A call of `SMTPServer`, checked."""

    hooks: Hooks
    session: SessionOptions
    certified: Certified
    max_clients: int = 0
    close_timeout_s: float = 30.0
    blocking_hooks: bool = False


def checked(hooks: Hooks | None, given: Mapping[str, object]) -> Arguments:
    """What the keywords `given` mean. Raises TypeError for an unknown name or a value of a wrong type, ValueError for
    one out of bounds; the text names option, value and what is allowed.
    """
    values: dict[str, Any] = {}
    functions: dict[str, object] = {}
    for name, value in given.items():
        if name in HOOKS:
            functions[name] = value
        elif name in _CHECKS:
            values[name] = _CHECKS[name](name, value)
        else:
            unknown("SMTPServer", name, [*_CHECKS, *HOOKS, "hooks"], RENAMED)
    tls = {name: value for name, value in values.items() if name in TLS_CHECKS}
    certified = Certified(tls, values.get("name") or socket.gethostname())
    said = {name: value for name, value in values.items() if name in _SESSION}
    session = SessionOptions(**said, tls=certified.channel)
    if session.needs_upgrade and not session.secure and "STARTTLS" in session.disabled_commands:
        raise ValueError("needs_upgrade=True: nobody can, with STARTTLS among disabled_commands")
    _check_trust(session)
    server = {name: value for name, value in values.items() if name not in _SESSION and name not in TLS_CHECKS}
    return Arguments(_hooks(hooks, functions), session, certified, **server)


def _check_trust(session: SessionOptions) -> None:
    """Nobody is trusted by accident (DECISIONS W10, W12)."""
    for network in () if isinstance(session.use_proxy, bool) else session.use_proxy:
        if network.prefixlen == 0:
            raise ValueError(f"use_proxy: {network} would trust everybody; say use_proxy=True if you mean it")
    if session.use_proxy is not False:
        for name in _SPEAK_FOR_OTHERS:
            if getattr(session, name) is True:
                raise ValueError(f"{name}=True: must name networks, since with use_proxy clients come from anywhere")


def check_bind(session: SessionOptions, address: str) -> None:
    """Refuse an address (of IP, or "unix:PATH") at which strangers could say who they are. Raises ValueError."""
    if address.startswith(UNIX) or ip_address(address).is_loopback:
        return
    for name in _SPEAK_FOR_OTHERS:
        if getattr(session, name) is True:
            raise ValueError(f"{name}=True: must name networks, since {address} is open to others")


_SPEAK_FOR_OTHERS = ("use_xclient", "use_xforward")


# -- names -----------------------------------------------------------------------------------------------------------

RENAMED = {
    **TLS_RENAMED,
    "size": "size_bytes",
    "data_size_limit": "size_bytes",
    "socket_timeout": "socket_timeout_s",
    "timeout": "socket_timeout_s",
    "close_timeout": "close_timeout_s",
    "max_allowed_unauthenticated_commands": "max_unauthenticated_commands",
    "disable_reverse_lookup": "reverse_lookup",
    "auth_required": "auth_optional",
    "auth_require_tls": "allow_insecure_auth",
    "require_starttls": "needs_upgrade",
    "tls_context": "cert",
    "proxy_protocol_timeout": "use_proxy",
    "authenticator": "on_auth",
    "auth_callback": "on_auth",
    "hostname": "name",
    "ident": "banner",
    "handler": "hooks",
    "handle_data": "on_data",
    "handle_rcpt": "on_rcpt_to",
    "handle_mail": "on_mail_from",
    "handle_exception": "on_error",
}
"""Names that other libraries use, in snake case, and ours."""


# -- values ----------------------------------------------------------------------------------------------------------

_CHECKS: dict[str, Check] = {
    "listener": bounds.listener_name,
    "name": bounds.host_name,
    "banner": bounds.reply_text,
    "helo_response": bounds.reply_text,
    "lmtp": flag,
    "use_proxy": bounds.peers,
    "proxy_timeout_s": seconds(zero="refused"),
    "proxy_tls_trusted": flag,
    "use_xclient": bounds.peers,
    "use_xforward": bounds.peers,
    "xclient_trusts_addr": flag,
    "secure": flag,
    "needs_upgrade": flag,
    "hide_starttls": flag,
    "auth_methods": bounds.mechanisms,
    "allow_insecure_auth": flag,
    "auth_optional": flag,
    "auth_required_message": bounds.reply_text,
    "hide_size": flag,
    "hide_pipelining": flag,
    "hide_dsn": flag,
    "hide_enhancedstatuscodes": flag,
    "hide_requiretls": flag,
    "hide_8bitmime": flag,
    "hide_smtputf8": flag,
    "disabled_commands": bounds.commands,
    "size_bytes": bounds.count,
    "max_text_line_octets": bounds.line_octets,
    "max_clients": bounds.count,
    "max_recipients": bounds.count,
    "max_messages": bounds.count,
    "max_unauthenticated_commands": bounds.count_or_false,
    "socket_timeout_s": seconds(zero="refused"),
    "session_timeout_s": seconds(zero="no limit"),
    "close_timeout_s": seconds(),
    "min_data_rate_bytes_s": bounds.count,
    "soft_errors": bounds.count,
    "error_delay_s": seconds(60.0),
    "max_errors": bounds.count,
    "max_junk_commands": bounds.count,
    "greet_delay_s": seconds(60.0),
    "reverse_lookup": flag,
    "reverse_lookup_timeout_s": seconds(zero="refused"),
    "resolver": bounds.resolver,
    "bare_newline": bounds.newline,
    "bare_newline_exempt": bounds.networks,
    "lenient_address_parsing": flag,
    "blocking_hooks": flag,
    **TLS_CHECKS,
}

_SESSION = {option.name for option in fields(SessionOptions) if option.init} - {"tls"}


def close_timeout(value: object) -> float:
    """The argument of `SMTPServer.close`. Raises TypeError or ValueError."""
    checked_s: Any = _CHECKS["close_timeout_s"]("timeout_s", value)
    return float(checked_s)


# -- hooks -----------------------------------------------------------------------------------------------------------


def _hooks(hooks: object, functions: Mapping[str, object]) -> Hooks:
    """One object that has all hooks."""
    if hooks is None:
        found = Hooks()
        for name, function in functions.items():
            _check_hook(name, function, name)
            setattr(found, name, function)
        return found
    if functions:
        raise TypeError(f"give either hooks=… or single hooks ({', '.join(functions)}), not both")
    if isinstance(hooks, type):
        raise TypeError(f"hooks={hooks.__name__}: must be an instance, as in hooks={hooks.__name__}()")
    if not isinstance(hooks, Hooks):
        raise TypeError(f"hooks={reprlib.repr(hooks)}: must be an instance of a subclass of mta_front.Hooks")
    where = type(hooks).__name__
    for name in HOOKS:
        _check_hook(name, getattr(hooks, name), f"{where}.{name}")
    for name in dir(hooks):
        near = difflib.get_close_matches(name, HOOKS, 1, 0.8) if name.startswith("on_") and name not in HOOKS else ()
        if near:
            raise TypeError(f"{where}.{name} would never be called: there is no such hook; did you mean {near[0]}?")
    return hooks


def _check_hook(name: str, function: object, where: str) -> None:
    """Refuse what would be called in vain: a coroutine function would look like a hook that accepts."""
    if not callable(function):
        raise TypeError(f"{where}={reprlib.repr(function)}: must be a function")
    for is_one, kind in ((inspect.iscoroutinefunction, "async def"), (inspect.isgeneratorfunction, "a generator")):
        if is_one(function):
            raise TypeError(f"{where} is {kind}; a hook is a plain function, in a greenlet of its own, and may wait")
    parameters = list(inspect.signature(getattr(Hooks, name)).parameters)[1:]
    try:
        inspect.signature(function).bind(*parameters)
    except TypeError:
        raise TypeError(f"{where} must take the arguments ({', '.join(parameters)})") from None
    except ValueError:  # a built-in that does not say what it takes
        return
