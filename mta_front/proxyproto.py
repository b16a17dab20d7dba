"""The PROXY protocol, versions 1 and 2: octets in, the client's address out (haproxy's proxy-protocol.txt).

A function of octets, without state: the owner collects what comes, asks `parse` after each read, and reads on while it
is told `Want`. It answers the same however the header is split, and never looks beyond the header's end: what follows
may be glued to it.

Everything that is not exactly a header is refused. Guessing is what an attacker would live on, since the header says
who the client is (§5).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address

from mta_front.proxyrefusal import BadHeader, Reason
from mta_front.proxytlv import NO_TLVS, Tlvs, read_tlvs

V1_PREFIX = b"PROXY "
V1_MAX_BYTES = 107
"""A header of version 1 with its CRLF (§2.1)."""
V2_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
DEFAULT_MAX_BYTES = 4096
"""A header of version 2, all of it; addresses need at most 232, the rest are TLVs."""

V2_FIXED = struct.Struct(">12sBBH")
"""Signature, version and command, family and transport, length of what follows."""
LOCAL_COMMAND = 0x20
PROXY_COMMAND = 0x21
UNSPEC_FAMILIES = frozenset({0x00, 0x01})
INET_STREAM = 0x11
INET6_STREAM = 0x21
UNIX_STREAM = 0x31
V2_ADDRESSES = {
    INET_STREAM: struct.Struct(">4s4sHH"),
    INET6_STREAM: struct.Struct(">16s16sHH"),
    UNIX_STREAM: struct.Struct(">108s108s"),
}

_V1_MIN_BYTES = len(b"PROXY UNKNOWN\r\n")
_LINE_END = re.compile(rb"[\r\n]")
_V1_TCP = re.compile(rb"TCP([46]) ([^ ]+) ([^ ]+) ([^ ]+) ([^ ]+)")
_PORT = re.compile(rb"0|[1-9][0-9]{0,4}")  # "heading zeroes are not permitted", and int() would take +1 and 1_0


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Who talks to whom, as the proxy saw it: source is the client, destination what it connected to.

    Addresses are in their shortest form, an IPv4 address mapped into IPv6 is the IPv4 address. With `unix` they are
    paths, "@" before an abstract name, "" for a socket without one (as clients' are), and the ports are 0.
    """

    source_address: str
    source_port: int
    destination_address: str
    destination_port: int
    unix: bool = False


@dataclass(frozen=True, slots=True)
class Header:
    """A whole header. `size_bytes`: where what the client sent begins.

    `endpoints` is None where the proxy speaks for itself (`local`: version 2, LOCAL) or does not know for whom
    (UNKNOWN, AF_UNSPEC): then the header says nothing of a client, and its TLVs are not read, since the receiver
    "must discard the protocol block", and where addresses of no family end cannot be known (§2.2).
    """

    version: int
    size_bytes: int
    endpoints: Endpoints | None = None
    tlvs: Tlvs = NO_TLVS
    local: bool = False


@dataclass(frozen=True, slots=True)
class Want:
    """The header is not complete: it takes at least `size_bytes` more, never counting what is there."""

    size_bytes: int


def looks_like_header(data: bytes | memoryview) -> bool | None:
    """Whether a connection that may send no header begins with one; None while it takes more octets to say."""
    head = bytes(data[: len(V2_SIGNATURE)])
    if head.startswith((V1_PREFIX, V2_SIGNATURE)):
        return True
    return None if V1_PREFIX.startswith(head) or V2_SIGNATURE.startswith(head) else False


def parse(data: bytes | memoryview, max_bytes: int = DEFAULT_MAX_BYTES) -> Header | Want:
    """Read the header with which `data` begins; `max_bytes` bounds one of version 2. Raises BadHeader, at once when
    no further octet could make it good.
    """
    head = bytes(data[: len(V2_SIGNATURE)])
    if head.startswith(V1_PREFIX):
        return _v1(bytes(data[:V1_MAX_BYTES]))
    if head == V2_SIGNATURE:
        return _v2(data, max_bytes)
    if V1_PREFIX.startswith(head):
        return Want(_V1_MIN_BYTES - len(head))
    if V2_SIGNATURE.startswith(head):
        return Want(V2_FIXED.size - len(head))
    raise BadHeader(Reason.SIGNATURE, "no PROXY header")


def _v1(head: bytes) -> Header | Want:
    found = _LINE_END.search(head)
    end = found.start() if found else len(head)
    if end > V1_MAX_BYTES - 2:
        raise BadHeader(Reason.TOO_LONG, "no CRLF within 107 octets")
    if found is None:
        return Want(max(2, _V1_MIN_BYTES - len(head)))
    if head[end:] == b"\r":
        return Want(1)
    if head[end : end + 2] != b"\r\n":
        raise BadHeader(Reason.MALFORMED, "CR or LF alone")
    return Header(1, end + 2, _v1_endpoints(head[len(V1_PREFIX) : end]))


def _v1_endpoints(words: bytes) -> Endpoints | None:
    family = words.partition(b" ")[0]
    if family == b"UNKNOWN":
        return None  # "the receiver must ignore anything presented before the CRLF"
    if family not in (b"TCP4", b"TCP6"):
        raise BadHeader(Reason.FAMILY, "neither TCP4, TCP6 nor UNKNOWN")
    match = _V1_TCP.fullmatch(words)
    if match is None:
        raise BadHeader(Reason.MALFORMED, "not two addresses and two ports")
    read = _ipv4 if match[1] == b"4" else _ipv6
    return Endpoints(read(match[2]), _port(match[4]), read(match[3]), _port(match[5]))


def _ipv4(text: bytes) -> str:
    try:
        return str(IPv4Address(text.decode("ascii")))
    except (UnicodeDecodeError, AddressValueError):
        raise BadHeader(Reason.ADDRESS, "not an IPv4 address") from None


def _ipv6(text: bytes) -> str:
    try:
        address = IPv6Address(text.decode("ascii"))
    except (UnicodeDecodeError, AddressValueError):
        raise BadHeader(Reason.ADDRESS, "not an IPv6 address") from None
    if address.scope_id is not None:
        raise BadHeader(Reason.ADDRESS, "an IPv6 address with a zone")
    return _plain(address)


def _plain(address: IPv6Address) -> str:
    """Limits and lists know a client by one address, whichever socket of the proxy it came to."""
    return str(address.ipv4_mapped or address)


def _port(text: bytes) -> int:
    if _PORT.fullmatch(text) is None or int(text) > 65535:
        raise BadHeader(Reason.PORT, "not a port")
    return int(text)


def _v2(data: bytes | memoryview, max_bytes: int) -> Header | Want:
    fixed = bytes(data[: V2_FIXED.size])
    command = fixed[12] if len(fixed) > 12 else LOCAL_COMMAND
    if command >> 4 != 2:
        raise BadHeader(Reason.VERSION, f"version {command >> 4} of the binary header")
    if command not in (LOCAL_COMMAND, PROXY_COMMAND):
        raise BadHeader(Reason.COMMAND, f"command {command & 15}")
    local = command == LOCAL_COMMAND
    family = fixed[13] if len(fixed) > 13 else 0
    if not local and family not in UNSPEC_FAMILIES and family not in V2_ADDRESSES:
        raise BadHeader(Reason.FAMILY, f"family and transport 0x{family:02x}")
    if len(fixed) < V2_FIXED.size:
        return Want(V2_FIXED.size - len(fixed))
    size_bytes = V2_FIXED.size + int.from_bytes(fixed[14:], "big")
    if size_bytes > max_bytes:
        raise BadHeader(Reason.TOO_LONG, f"{size_bytes} octets, more than {max_bytes}")
    addresses = None if local else V2_ADDRESSES.get(family)
    if addresses is not None and size_bytes < V2_FIXED.size + addresses.size:
        raise BadHeader(Reason.TOO_SHORT, f"{size_bytes} octets with family and transport 0x{family:02x}")
    if len(data) < size_bytes:
        return Want(size_bytes - len(data))
    if addresses is None:
        return Header(2, size_bytes, local=local)
    header = bytes(data[:size_bytes])
    fields = addresses.unpack_from(header, V2_FIXED.size)
    return Header(2, size_bytes, _V2_READ[family](*fields), read_tlvs(header, V2_FIXED.size + addresses.size))


def _inet(source: bytes, destination: bytes, source_port: int, destination_port: int) -> Endpoints:
    return Endpoints(str(IPv4Address(source)), source_port, str(IPv4Address(destination)), destination_port)


def _inet6(source: bytes, destination: bytes, source_port: int, destination_port: int) -> Endpoints:
    return Endpoints(_plain(IPv6Address(source)), source_port, _plain(IPv6Address(destination)), destination_port)


def _unix(source: bytes, destination: bytes) -> Endpoints:
    return Endpoints(_path(source), 0, _path(destination), 0, unix=True)


_V2_READ: dict[int, Callable[..., Endpoints]] = {INET_STREAM: _inet, INET6_STREAM: _inet6, UNIX_STREAM: _unix}


def _path(field: bytes) -> str:
    """What unix(7) has in sun_path: a path up to the first NUL, or a NUL and an abstract name."""
    abstract = field[0] == 0
    try:
        name = field[abstract:].partition(b"\0")[0].decode()
    except UnicodeDecodeError:
        raise BadHeader(Reason.ADDRESS, "a Unix path that is not UTF-8") from None
    if not name.isprintable():
        raise BadHeader(Reason.ADDRESS, "a Unix path that is not printable")
    if not abstract and name.startswith("@"):
        raise BadHeader(Reason.ADDRESS, "a Unix path that reads like an abstract name")
    return f"@{name}" if abstract and name else name
