"""The arguments of XCLIENT and XFORWARD (Postfix's XCLIENT_README and XFORWARD_README).

Both say who the client is: XCLIENT for everything that follows, XFORWARD for what is logged. What a session becomes
by them, and who may use them, is for its owner.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import AddressValueError, IPv4Address, IPv6Address

from mta_front.smtp import grammar, replies
from mta_front.smtp.errors import BadSyntax

MAX_VALUE_OCTETS = 255
"""A value when decoded (XFORWARD_README, note 1; XCLIENT_README, note 1)."""

_UNAVAILABLE = frozenset({"[UNAVAILABLE]", "[TEMPUNAVAIL]"})
_MAX_PROTOCOL_OCTETS = 64  # XFORWARD_README
_PORT = re.compile(r"0|[1-9][0-9]{0,4}")
_PROTOCOLS = frozenset({"SMTP", "ESMTP", "LMTP"})  # LMTP is Dovecot's, whose proxy passes LMTP on
_SOURCES = frozenset({"LOCAL", "REMOTE"})
# A host name as resolvers give it, "_" included, or its A-labels; never an address (XCLIENT_README: "not an SMTP client
# address"), so the last label is no number.
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST = re.compile(rf"(?:{_LABEL}\.)*(?![0-9]+\.?\Z){_LABEL}\.?")
# What our own EHLO takes as a name.
_PRINTABLE = re.compile(r"[\x21-\x7e]+")
# "Must not contain control characters, non-ASCII characters, whitespace, or other characters that are special in
# message headers" (XFORWARD_README, note 1): those that Postfix replaces. ":" and "[" are part of addresses.
_PLAIN = re.compile(r"[!#-'*-:=?A-\[\]-~]+")


def _tagged(value: str) -> bool:
    return value[:5].upper() == "IPV6:"


def _address(value: str) -> str:
    """An IPv4 address, or an IPv6 address after "IPV6:" (or without, as older nginx sends it); the shortest form."""
    try:
        if ":" not in value:
            return str(IPv4Address(value))
        address = IPv6Address(value[5:] if _tagged(value) else value)
    except AddressValueError:
        raise BadSyntax(replies.BAD_PARAMETER) from None
    if address.scope_id is not None:
        raise BadSyntax(replies.BAD_PARAMETER)
    return str(address.ipv4_mapped or address)


def _upstream_address(value: str) -> str:
    """It "may be a non-IP address" (XFORWARD_README); what looks like one of IP must be one."""
    if _tagged(value) or not re.search(r"[^0-9.]", value):
        return _address(value)
    try:
        return _address(value)
    except BadSyntax:
        return _plain(value)


def _port(value: str) -> str:
    if _PORT.fullmatch(value) is None or int(value) > 65535:
        raise BadSyntax(replies.BAD_PARAMETER)
    return value


def _matching(pattern: re.Pattern[str]) -> Callable[[str], str]:
    def read(value: str) -> str:
        if pattern.fullmatch(value) is None:
            raise BadSyntax(replies.BAD_PARAMETER)
        return value

    return read


def _one_of(words: frozenset[str]) -> Callable[[str], str]:
    def read(value: str) -> str:
        if not value.isascii() or value.upper() not in words:  # "\u017f" is an S in upper case
            raise BadSyntax(replies.BAD_PARAMETER)
        return value.upper()

    return read


def _upstream_protocol(value: str) -> str:
    if len(value) > _MAX_PROTOCOL_OCTETS:
        raise BadSyntax(replies.BAD_PARAMETER)
    return _plain(value)


def _login(value: str) -> str:
    """Any name that our own AUTH could have proven: printable, UTF-8; `grammar.xtext` has seen to that."""
    return value


_plain = _matching(_PLAIN)
_printable = _matching(_PRINTABLE)

_XCLIENT: dict[str, Callable[[str], str]] = {
    "NAME": _matching(_HOST),
    "ADDR": _address,
    "PORT": _port,
    "PROTO": _one_of(_PROTOCOLS),
    "HELO": _printable,
    "LOGIN": _login,
    "DESTADDR": _address,
    "DESTPORT": _port,
}
_XFORWARD: dict[str, Callable[[str], str]] = {
    "NAME": _plain,
    "ADDR": _upstream_address,
    "PORT": _port,
    "PROTO": _upstream_protocol,
    "HELO": _printable,
    "IDENT": _plain,
    "SOURCE": _one_of(_SOURCES),
}

XCLIENT_KEYWORD = " ".join(("XCLIENT", *_XCLIENT))
"""What EHLO says to those who may use it: the verb and the attributes it takes."""
XFORWARD_KEYWORD = " ".join(("XFORWARD", *_XFORWARD))


def xclient_attributes(argument: bytes) -> dict[str, str | None]:
    """Read what follows "XCLIENT ": names in upper case, values decoded and in one form; None for [UNAVAILABLE] and
    [TEMPUNAVAIL]. Only attributes that were given. Raises BadSyntax.

    ADDR and DESTADDR are addresses without "IPV6:", PORT and DESTPORT decimal numbers of 0 to 65535, PROTO is SMTP,
    ESMTP or LMTP, NAME a host name. LOGIN may have characters beyond ASCII and spaces, none of them a control.
    """
    return _attributes(argument, _XCLIENT)


def xforward_attributes(argument: bytes) -> dict[str, str | None]:
    """Read what follows "XFORWARD ", as `xclient_attributes` does. Raises BadSyntax.

    NAME, PROTO and IDENT are free words, and ADDR may be, without what is special in a header; SOURCE is LOCAL or
    REMOTE. An attribute that is None erases what an earlier XFORWARD said (XFORWARD_README).
    """
    return _attributes(argument, _XFORWARD)


def _attributes(argument: bytes, known: dict[str, Callable[[str], str]]) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for name, value in grammar.parameters(argument).items():
        read = known.get(name)
        if read is None or not value:
            raise BadSyntax(replies.BAD_PARAMETER)
        decoded = grammar.xtext(value)
        if len(decoded.encode()) > MAX_VALUE_OCTETS:
            raise BadSyntax(replies.BAD_PARAMETER)
        found[name] = None if decoded.isascii() and decoded.upper() in _UNAVAILABLE else read(decoded)
    if not found:
        raise BadSyntax(replies.BAD_PARAMETER)
    return found
