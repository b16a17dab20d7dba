"""Headers of the PROXY protocol as a proxy sends them: the inverse of `proxyproto`.

What cannot be said in the protocol is a ValueError, so that nothing here makes a header that `parse` would refuse, but
for its length.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address

from mta_front.proxyproto import (
    INET6_STREAM,
    INET_STREAM,
    LOCAL_COMMAND,
    PROXY_COMMAND,
    UNIX_STREAM,
    V1_PREFIX,
    V2_ADDRESSES,
    V2_FIXED,
    V2_SIGNATURE,
    Endpoints,
)
from mta_front.proxytlv import (
    ALPN,
    AUTHORITY,
    CRC32C,
    HEAD,
    MAX_TEXT_BYTES,
    MAX_UNIQUE_ID_BYTES,
    NETNS,
    NO_TLVS,
    NOOP,
    SINGLE,
    SINGLE_IN_SSL,
    SSL,
    SSL_CIPHER,
    SSL_CN,
    SSL_HEAD,
    SSL_KEY_ALG,
    SSL_SIG_ALG,
    SSL_VERSION,
    UNIQUE_ID,
    Ssl,
    Tlv,
    Tlvs,
    crc32c,
)

_MAX_LENGTH = 0xFFFF
_UNIX_PATH_BYTES = 108


def build_v1(endpoints: Endpoints | None) -> bytes:
    """A header of version 1; None says UNKNOWN. Raises ValueError for Unix sockets, which version 1 does not know."""
    if endpoints is None:
        return V1_PREFIX + b"UNKNOWN\r\n"
    if endpoints.unix:
        raise ValueError("version 1 has no Unix sockets")
    source, destination = _same_family(endpoints)
    ports = f"{_port(endpoints.source_port)} {_port(endpoints.destination_port)}"
    return b"%sTCP%d %s\r\n" % (V1_PREFIX, source.version, f"{source} {destination} {ports}".encode())


def build_v2(
    endpoints: Endpoints | None, tlvs: Tlvs = NO_TLVS, *, local: bool = False, checksum: bool = False
) -> bytes:
    """A header of version 2. Without endpoints it says AF_UNSPEC, and its TLVs are for receivers other than ours.

    `local`: the connection is the proxy's own, of which nothing else is said. `checksum`: with a CRC32C. Raises
    ValueError for what has no place in a header.
    """
    if local and endpoints is not None:
        raise ValueError("a connection of the proxy's own has no other endpoints")
    family, addresses = _addresses(endpoints)
    body = addresses + _pack(_tlvs(tlvs))
    if checksum:
        body += HEAD.pack(CRC32C, 4) + bytes(4)
    if len(body) > _MAX_LENGTH:
        raise ValueError(f"{len(body)} octets of addresses and TLVs, more than {_MAX_LENGTH}")
    header = V2_FIXED.pack(V2_SIGNATURE, LOCAL_COMMAND if local else PROXY_COMMAND, family, len(body)) + body
    return header[:-4] + crc32c(header).to_bytes(4, "big") if checksum else header


def _addresses(endpoints: Endpoints | None) -> tuple[int, bytes]:
    if endpoints is None:
        return 0, b""
    if endpoints.unix:
        paths = _path(endpoints.source_address), _path(endpoints.destination_address)
        return UNIX_STREAM, V2_ADDRESSES[UNIX_STREAM].pack(*paths)
    source, destination = _same_family(endpoints)
    family = INET_STREAM if source.version == 4 else INET6_STREAM
    ports = _port(endpoints.source_port), _port(endpoints.destination_port)
    return family, V2_ADDRESSES[family].pack(source.packed, destination.packed, *ports)


def _same_family(endpoints: Endpoints) -> tuple[IPv4Address | IPv6Address, IPv4Address | IPv6Address]:
    """A header has one family: of two, an IPv4 address is mapped into IPv6."""
    source, destination = ip_address(endpoints.source_address), ip_address(endpoints.destination_address)
    if source.version != destination.version:
        source, destination = _mapped(source), _mapped(destination)
    for address in (source, destination):
        if isinstance(address, IPv6Address) and address.scope_id is not None:
            raise ValueError(f"{address} has a zone, which means nothing elsewhere")
    return source, destination


def _mapped(address: IPv4Address | IPv6Address) -> IPv6Address:
    return IPv6Address(f"::ffff:{address}") if isinstance(address, IPv4Address) else address


def _port(number: int) -> int:
    if not 0 <= number <= 65535:
        raise ValueError(f"{number} is no port")
    return number


def _path(text: str) -> bytes:
    name = text.removeprefix("@").encode()
    octets = b"\0" + name if text.startswith("@") else name
    if not text.isprintable() or text == "@" or len(octets) > _UNIX_PATH_BYTES:
        raise ValueError(f"{text!r} is no path of a Unix socket")
    return octets


def _tlvs(tlvs: Tlvs) -> list[Tlv]:
    found: list[Tlv] = []
    if tlvs.unique_id is not None:
        if len(tlvs.unique_id) > MAX_UNIQUE_ID_BYTES:
            raise ValueError(f"a unique id of {len(tlvs.unique_id)} octets, more than {MAX_UNIQUE_ID_BYTES}")
        found.append((UNIQUE_ID, tlvs.unique_id))
    found += _texts([(ALPN, tlvs.alpn, "ascii"), (AUTHORITY, tlvs.authority, "utf-8"), (NETNS, tlvs.netns, "ascii")])
    if tlvs.ssl is not None:
        found.append((SSL, _ssl(tlvs.ssl)))
    return found + _others(tlvs.others, SINGLE | {NOOP})


def _ssl(ssl: Ssl) -> bytes:
    texts = _texts(
        [
            (SSL_VERSION, ssl.version, "ascii"),
            (SSL_CN, ssl.common_name, "utf-8"),
            (SSL_CIPHER, ssl.cipher, "ascii"),
            (SSL_SIG_ALG, ssl.signature_algorithm, "ascii"),
            (SSL_KEY_ALG, ssl.key_algorithm, "ascii"),
        ]
    )
    if not (0 <= ssl.client <= 0xFF and 0 <= ssl.verify <= 0xFFFFFFFF):
        raise ValueError(f"client {ssl.client} or verify {ssl.verify} is out of bounds")
    return SSL_HEAD.pack(ssl.client, ssl.verify) + _pack(texts + _others(ssl.others, SINGLE_IN_SSL))


def _others(tlvs: Iterable[Tlv], named: frozenset[int]) -> list[Tlv]:
    found = list(tlvs)
    for kind, _ in found:
        if not 0 <= kind <= 0xFF or kind in named:
            raise ValueError(f"0x{kind:02x} is not a type of other TLVs")
    return found


def _texts(fields: Iterable[tuple[int, str | None, str]]) -> list[Tlv]:
    found = []
    for kind, text, charset in fields:
        if text is not None:
            value = text.encode(charset)
            if not text.isprintable() or len(value) > MAX_TEXT_BYTES:
                raise ValueError(f"{text!r} cannot be TLV 0x{kind:02x}")
            found.append((kind, value))
    return found


def _pack(tlvs: Iterable[Tlv]) -> bytes:
    packed = []
    for kind, value in tlvs:
        if len(value) > _MAX_LENGTH:
            raise ValueError(f"TLV 0x{kind:02x} has {len(value)} octets, more than {_MAX_LENGTH}")
        packed.append(HEAD.pack(kind, len(value)) + value)
    return b"".join(packed)
