"""What `SMTPServer` may be called with: the names of all options, what each may be, and single hooks as keywords.

A slip is answered where it is made: an unknown name with the nearest known one, a bad value with what is allowed. A
policy that is silently not called is worse than a program that does not start, so hooks are looked at too.
"""

from __future__ import annotations

import difflib
import inspect
import math
import re
import reprlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any, Literal, NoReturn, TypedDict

from mta_front.hooks import HOOKS, Accept, Address, Credentials, Hooks, Message, Session
from mta_front.net.options import Network, SessionOptions
from mta_front.net.reverse import Resolver
from mta_front.smtp.state import Verb


class Options(TypedDict, total=False):
    """The keywords of `SMTPServer`, beside `hooks`. `None` for a number means no limit."""

    listener: str
    name: str
    banner: str
    helo_response: str
    lmtp: bool
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
            _unknown(name)
    session = SessionOptions(**{name: value for name, value in values.items() if name in _SESSION})
    server = {name: value for name, value in values.items() if name not in _SESSION}
    return Arguments(_hooks(hooks, functions), session, **server)


# -- names -----------------------------------------------------------------------------------------------------------

RENAMED = {
    "size": "size_bytes",
    "data_size_limit": "size_bytes",
    "socket_timeout": "socket_timeout_s",
    "timeout": "socket_timeout_s",
    "close_timeout": "close_timeout_s",
    "max_allowed_unauthenticated_commands": "max_unauthenticated_commands",
    "disable_reverse_lookup": "reverse_lookup",
    "auth_required": "auth_optional",
    "hostname": "name",
    "ident": "banner",
    "handler": "hooks",
    "handle_data": "on_data",
    "handle_rcpt": "on_rcpt_to",
    "handle_mail": "on_mail_from",
    "handle_exception": "on_error",
}
"""Names that other libraries use, in snake case, and ours."""


def snake_case(name: str) -> str:
    """`hideSMTPUTF8` → `hide_smtputf8`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z0-9])", "_", name).lower()


def _unknown(name: str) -> NoReturn:
    plain = snake_case(name)
    known = [*_CHECKS, *HOOKS, "hooks"]
    near = [plain] if plain in known else difflib.get_close_matches(plain, known, 1)
    meant = RENAMED.get(plain) or (near[0] if near else "")
    hint = f"; did you mean {meant!r}?" if meant else ""
    raise TypeError(f"SMTPServer has no option {name!r}{hint}")


# -- values ----------------------------------------------------------------------------------------------------------

Check = Callable[[str, object], object]

_PRINTABLE = re.compile(r"[ -~]{0,400}")
"""One line that fits into a reply (512 octets with code and line end, RFC 5321 §4.5.3.1.5)."""

_HOST_NAME = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9_.-]{0,252})?")
_LISTENER_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
_COMMANDS = {verb.name for verb in Verb if verb not in (Verb.CONNECT, Verb.DOT, Verb.UNKNOWN, Verb.QUIT)}
_COMMANDS |= {"AUTH", "STARTTLS"}
_NEWLINES = ("normalize", "reject", "accept")


def _bad(kind: type[Exception], name: str, value: object, allowed: str) -> NoReturn:
    raise kind(f"{name}={reprlib.repr(value)}: must be {allowed}")


def _flag(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        _bad(TypeError, name, value, "True or False")
    return value


def _text(pattern: re.Pattern[str], allowed: str) -> Check:
    def check(name: str, value: object) -> str:
        if not isinstance(value, str):
            _bad(TypeError, name, value, f"text, {allowed}")
        if not pattern.fullmatch(value):
            _bad(ValueError, name, value, allowed)
        return value

    return check


def _count(name: str, value: object, most: float = math.inf) -> int:
    """A whole number; 0, or None, for no limit."""
    if value is None:
        return 0
    if not isinstance(value, int) or isinstance(value, bool):
        _bad(TypeError, name, value, "a whole number, 0 or None for no limit")
    if not 0 <= value <= most:
        bounds = "0 or more" if most == math.inf else f"from 0 to {most}"
        _bad(ValueError, name, value, f"{bounds} (0: no limit)")
    return value


def _line(name: str, value: object) -> int:
    """No more than the core looks at in one piece (DECISIONS W6)."""
    return _count(name, value, 65_536)


def _unauthenticated(name: str, value: object) -> int:
    """A count, for which the libraries replaced say False to mean no limit."""
    return 0 if value is False else _count(name, value)


def _seconds(most: float = math.inf, *, zero: str = "") -> Check:
    """A time. `zero` says what 0 means: "" nothing special, "no limit" (so does None), or "refused"."""
    least = "more than 0" if zero == "refused" else "0 or more"
    bounds = f"{least} seconds" if most == math.inf else f"from 0 to {most:g} seconds"
    allowed = f"{bounds} (0: no limit)" if zero == "no limit" else bounds

    def check(name: str, value: object) -> float:
        if value is None and zero == "no limit":
            return 0.0
        if not isinstance(value, int | float) or isinstance(value, bool):
            _bad(TypeError, name, value, "a number of seconds")
        if not (math.isfinite(value) and 0 <= value <= most) or (zero == "refused" and value == 0):
            _bad(ValueError, name, value, allowed)
        return float(value)

    return check


def _each(name: str, value: object, allowed: str) -> list[object]:
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        _bad(TypeError, name, value, f"a list of {allowed}")
    return list(value)


def _commands(name: str, value: object) -> frozenset[str]:
    found = set()
    for each in _each(name, value, 'commands like ["VRFY"]'):
        if not isinstance(each, str):
            _bad(TypeError, name, value, 'a list of commands like ["VRFY"]')
        if each.upper() not in _COMMANDS:
            _bad(ValueError, name, value, f"commands among {', '.join(sorted(_COMMANDS))}")
        found.add(each.upper())
    return frozenset(found)


def _networks(name: str, value: object) -> list[Network]:
    found: list[Network] = []
    for each in _each(name, value, 'networks like ["10.0.0.0/8"]'):
        if isinstance(each, IPv4Network | IPv6Network):
            found.append(each)
            continue
        if not isinstance(each, str):
            _bad(TypeError, name, value, 'a list of networks like ["10.0.0.0/8"]')
        try:
            found.append(ip_network(each))
        except ValueError as error:
            raise ValueError(f"{name}={reprlib.repr(value)}: {error}") from None
    return found


def _newline(name: str, value: object) -> str:
    if value not in _NEWLINES:
        _bad(ValueError, name, value, " or ".join(map(repr, _NEWLINES)))
    return str(value)


def _resolver(name: str, value: object) -> object:
    if value is not None and not callable(getattr(value, "reverse", None)):
        _bad(TypeError, name, value, "an object with reverse(address) -> list of names, or None")
    return value


_LINE = _text(_PRINTABLE, "at most 400 printable ASCII characters, in one line")

_CHECKS: dict[str, Check] = {
    "listener": _text(_LISTENER_NAME, '1 to 32 of a-z, 0-9, "-" and "_"'),
    "name": _text(_HOST_NAME, 'a host name like "mx.example.net", or "" for that of this host'),
    "banner": _LINE,
    "helo_response": _LINE,
    "lmtp": _flag,
    "auth_optional": _flag,
    "auth_required_message": _LINE,
    "hide_size": _flag,
    "hide_pipelining": _flag,
    "hide_dsn": _flag,
    "hide_enhancedstatuscodes": _flag,
    "hide_requiretls": _flag,
    "hide_8bitmime": _flag,
    "hide_smtputf8": _flag,
    "disabled_commands": _commands,
    "size_bytes": _count,
    "max_text_line_octets": _line,
    "max_clients": _count,
    "max_recipients": _count,
    "max_messages": _count,
    "max_unauthenticated_commands": _unauthenticated,
    "socket_timeout_s": _seconds(zero="refused"),
    "session_timeout_s": _seconds(zero="no limit"),
    "close_timeout_s": _seconds(),
    "min_data_rate_bytes_s": _count,
    "soft_errors": _count,
    "error_delay_s": _seconds(60.0),
    "max_errors": _count,
    "max_junk_commands": _count,
    "greet_delay_s": _seconds(60.0),
    "reverse_lookup": _flag,
    "reverse_lookup_timeout_s": _seconds(zero="refused"),
    "resolver": _resolver,
    "bare_newline": _newline,
    "bare_newline_exempt": _networks,
    "lenient_address_parsing": _flag,
    "blocking_hooks": _flag,
}

_SESSION = {option.name for option in fields(SessionOptions) if option.init}


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
