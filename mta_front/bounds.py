"""The words in which a slip in a call is answered: a bad value with what is allowed, an unknown name with the nearest.

Each check takes an option's name and its value, and returns what the server uses. It raises TypeError for a value of a
wrong type, ValueError for one that is out of bounds.
"""

from __future__ import annotations

import difflib
import math
import re
import reprlib
from collections.abc import Callable, Collection, Iterable, Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from types import MappingProxyType
from typing import NoReturn

from mta_front.net.options import Network
from mta_front.smtp.sasl import MECHANISMS
from mta_front.smtp.state import Verb

Check = Callable[[str, object], object]

_PRINTABLE = re.compile(r"[ -~]{0,400}")
"""One line that fits into a reply (512 octets with code and line end, RFC 5321 §4.5.3.1.5)."""

_HOST_NAME = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9_.-]{0,252})?")
_LISTENER_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
_COMMANDS = {verb.name for verb in Verb if verb not in (Verb.CONNECT, Verb.DOT, Verb.UNKNOWN, Verb.QUIT)}
_COMMANDS |= {"AUTH", "STARTTLS"}
_NEWLINES = ("normalize", "reject", "accept")
_LIKE_COMMANDS = 'a list of commands like ["VRFY"]'
_LIKE_MECHANISMS = 'a list of mechanisms like ["PLAIN", "LOGIN"]'
_LIKE_NETWORKS = 'a list of networks like ["10.0.0.0/8"]'
_LIKE_PEERS = f"False, True, or {_LIKE_NETWORKS}"

NO_NAMES: Mapping[str, str] = MappingProxyType({})


# -- names -----------------------------------------------------------------------------------------------------------


def snake_case(name: str) -> str:
    """`hideSMTPUTF8` → `hide_smtputf8`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z0-9])", "_", name).lower()


def unknown(owner: str, name: object, known: Collection[str], renamed: Mapping[str, str] = NO_NAMES) -> NoReturn:
    """`owner` has no option of this name. `renamed`: what others call it, in snake case, and ours."""
    plain = snake_case(str(name))
    near = [plain] if plain in known else difflib.get_close_matches(plain, known, 1)
    meant = renamed.get(plain) or (near[0] if near else "")
    hint = f"; did you mean {meant!r}?" if meant else ""
    raise TypeError(f"{owner} has no option {name!r}{hint}")


# -- values ----------------------------------------------------------------------------------------------------------


def bad(kind: type[Exception], name: str, value: object, allowed: str) -> NoReturn:
    """The value is not what is allowed."""
    raise kind(f"{name}={reprlib.repr(value)}: must be {allowed}")


def flag(name: str, value: object) -> bool:
    """True or False, and nothing that is like them."""
    if not isinstance(value, bool):
        bad(TypeError, name, value, "True or False")
    return value


def _text(pattern: re.Pattern[str], allowed: str) -> Check:
    def check(name: str, value: object) -> str:
        if not isinstance(value, str):
            bad(TypeError, name, value, f"text, {allowed}")
        if not pattern.fullmatch(value):
            bad(ValueError, name, value, allowed)
        return value

    return check


reply_text = _text(_PRINTABLE, "at most 400 printable ASCII characters, in one line")
host_name = _text(_HOST_NAME, 'a host name like "mx.example.net", or "" for that of this host')
listener_name = _text(_LISTENER_NAME, '1 to 32 of a-z, 0-9, "-" and "_"')


def count(name: str, value: object, most: float = math.inf) -> int:
    """A whole number; 0, or None, for no limit."""
    if value is None:
        return 0
    if not isinstance(value, int) or isinstance(value, bool):
        bad(TypeError, name, value, "a whole number, 0 or None for no limit")
    if not 0 <= value <= most:
        bounds = "0 or more" if most == math.inf else f"from 0 to {most}"
        bad(ValueError, name, value, f"{bounds} (0: no limit)")
    return value


def line_octets(name: str, value: object) -> int:
    """The same limit as in the settings of `serve`: one within which the core sees each line whole (DECISIONS W6)."""
    return count(name, value, 32_768)


def count_or_false(name: str, value: object) -> int:
    """A count, for which the libraries replaced say False to mean no limit."""
    return 0 if value is False else count(name, value)


def seconds(most: float = math.inf, *, zero: str = "") -> Check:
    """A time. `zero` says what 0 means: "" nothing special, "no limit" (so does None), or "refused"."""
    least = "more than 0" if zero == "refused" else "0 or more"
    bounds = f"{least} seconds" if most == math.inf else f"from 0 to {most:g} seconds"
    allowed = f"{bounds} (0: no limit)" if zero == "no limit" else bounds

    def check(name: str, value: object) -> float:
        if value is None and zero == "no limit":
            return 0.0
        if not isinstance(value, int | float) or isinstance(value, bool):
            bad(TypeError, name, value, "a number of seconds")
        if not (math.isfinite(value) and 0 <= value <= most) or (zero == "refused" and value == 0):
            bad(ValueError, name, value, allowed)
        return float(value)

    return check


def _listed(name: str, value: object, allowed: str) -> list[object]:
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        bad(TypeError, name, value, allowed)
    return list(value)


def _words(name: str, value: object, allowed: str, known: Collection[str], what: str) -> list[str]:
    """Words of a known set, in any case; each once, in upper case."""
    found: dict[str, None] = {}
    for item in _listed(name, value, allowed):
        if not isinstance(item, str):
            bad(TypeError, name, value, allowed)
        if item.upper() not in known:
            bad(ValueError, name, value, f"{what} among {', '.join(known)}")
        found[item.upper()] = None
    return list(found)


def commands(name: str, value: object) -> frozenset[str]:
    """Commands that can be switched off."""
    return frozenset(_words(name, value, _LIKE_COMMANDS, sorted(_COMMANDS), "commands"))


def mechanisms(name: str, value: object) -> tuple[str, ...]:
    """Mechanisms of AUTH, in their order."""
    return tuple(_words(name, value, _LIKE_MECHANISMS, MECHANISMS, "mechanisms"))


def networks(name: str, value: object, allowed: str = _LIKE_NETWORKS) -> list[Network]:
    """Networks, and addresses as networks of one."""
    found: list[Network] = []
    for item in _listed(name, value, allowed):
        if isinstance(item, IPv4Network | IPv6Network):
            found.append(item)
            continue
        if not isinstance(item, str):
            bad(TypeError, name, value, allowed)
        try:
            found.append(ip_network(item))
        except ValueError as error:
            raise ValueError(f"{name}={reprlib.repr(value)}: {error}") from None
    return found


def peers(name: str, value: object) -> bool | tuple[Network, ...]:
    """Who may say who the client is: nobody, everybody, or who comes from these networks."""
    if isinstance(value, bool):
        return value
    found = networks(name, value, _LIKE_PEERS)
    if not found:
        bad(ValueError, name, value, _LIKE_PEERS)
    return tuple(found)


def newline(name: str, value: object) -> str:
    """What becomes of a CR or LF that is no line end."""
    if value not in _NEWLINES:
        bad(ValueError, name, value, " or ".join(map(repr, _NEWLINES)))
    return str(value)


def resolver(name: str, value: object) -> object:
    """Something with `reverse(address)`, or None."""
    if value is not None and not callable(getattr(value, "reverse", None)):
        bad(TypeError, name, value, "an object with reverse(address) -> list of names, or None")
    return value
