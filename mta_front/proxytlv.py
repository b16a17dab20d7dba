"""The TLVs of the PROXY protocol, version 2 (haproxy's proxy-protocol.txt, §2.2): what a proxy knows besides addresses.

Much of it was chosen by the client behind the proxy (the name it asked for, the name in its certificate), so text is
taken only if it can be printed: a control character would otherwise reach a log or a terminal.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from mta_front.proxyrefusal import BadHeader, Reason

ALPN = 0x01
AUTHORITY = 0x02
CRC32C = 0x03
NOOP = 0x04
UNIQUE_ID = 0x05
SSL = 0x20
SSL_VERSION = 0x21
SSL_CN = 0x22
SSL_CIPHER = 0x23
SSL_SIG_ALG = 0x24
SSL_KEY_ALG = 0x25
NETNS = 0x30
AWS = 0xEA
AZURE = 0xEE

CLIENT_SSL = 0x01
CLIENT_CERT_CONN = 0x02
CLIENT_CERT_SESS = 0x04

SINGLE = frozenset({ALPN, AUTHORITY, CRC32C, UNIQUE_ID, SSL, NETNS})
"""Types that a header has once or not at all."""
SINGLE_IN_SSL = frozenset({SSL_VERSION, SSL_CN, SSL_CIPHER, SSL_SIG_ALG, SSL_KEY_ALG})

MAX_UNIQUE_ID_BYTES = 128  # §2.2.5
MAX_TEXT_BYTES = 255  # of a DNS name and of an ALPN name; a common name has 64 (X.520)

HEAD = struct.Struct(">BH")
"""Type and length of a TLV."""
SSL_HEAD = struct.Struct(">BI")
"""`client` and `verify`, before the TLVs within an SSL TLV (§2.2.6)."""

_AWS_VPCE_ID = b"\x01"  # PP2_SUBTYPE_AWS_VPCE_ID
_VPCE = re.compile(rb"[A-Za-z0-9-]{1,255}")
_AZURE_LINK_ID = struct.Struct("<BI")  # PP2_SUBTYPE_AZURE_PRIVATEENDPOINT_LINKID = 1, then the link id

Tlv = tuple[int, bytes]
"""Type (0 to 255) and value."""


@dataclass(frozen=True, slots=True)
class Ssl:
    """What the proxy says of the TLS between the client and itself (§2.2.6). Texts are None where it says nothing.

    HAProxy sends this with `client` = 0 and `verify` = 0 for clients without TLS and for its own checks (DECISIONS
    W10). So that it is there means nothing: ask `secure` and `certificate_verified`.
    """

    client: int
    verify: int
    version: str | None = None
    common_name: str | None = None
    cipher: str | None = None
    signature_algorithm: str | None = None
    key_algorithm: str | None = None
    others: tuple[Tlv, ...] = field(default=(), repr=False)

    @property
    def secure(self) -> bool:
        """The client came to the proxy over TLS."""
        return bool(self.client & CLIENT_SSL)

    @property
    def certificate_verified(self) -> bool:
        """It showed a certificate, now or earlier in its TLS session, and the proxy found it good."""
        return self.secure and bool(self.client & (CLIENT_CERT_CONN | CLIENT_CERT_SESS)) and self.verify == 0

    @property
    def verified_name(self) -> str | None:
        """The common name of a certificate that was verified. `common_name` may be anybody's invention."""
        return self.common_name if self.certificate_verified else None


@dataclass(frozen=True, slots=True)
class Tlvs:
    """The TLVs of a header; None where there was none of a type.

    `authority`: the host that the client asked for, in TLS its SNI. `unique_id`: opaque, at most 128 octets. `netns`:
    the proxy's network namespace. `others`: those of types unknown here and those for applications (0xE0–0xEF), in
    order, not judged; not in `repr`, since they may be long.
    """

    alpn: str | None = None
    authority: str | None = None
    unique_id: bytes | None = None
    ssl: Ssl | None = None
    netns: str | None = None
    others: tuple[Tlv, ...] = field(default=(), repr=False)

    @property
    def unique_id_text(self) -> str:
        """`unique_id` for logs: as it is if it is printable ASCII without spaces, else in hexadecimal; "" if none."""
        octets = self.unique_id or b""
        return octets.decode() if re.fullmatch(rb"[\x21-\x7e]*", octets) else octets.hex()

    @property
    def aws_vpce_id(self) -> str | None:
        """The VPC endpoint through which a client of AWS PrivateLink came, "vpce-…"."""
        for kind, value in self.others:
            # The type is one that others may use for their own, so what does not look like AWS's is not an error.
            if kind == AWS and value[:1] == _AWS_VPCE_ID and _VPCE.fullmatch(value, 1):
                return value[1:].decode()
        return None

    @property
    def azure_link_id(self) -> int | None:
        """The LinkID of the private endpoint through which a client of Azure Private Link came."""
        for kind, value in self.others:
            if kind == AZURE and len(value) == _AZURE_LINK_ID.size and value[0] == 1:
                return int(_AZURE_LINK_ID.unpack(value)[1])
        return None


NO_TLVS = Tlvs()


def read_tlvs(header: bytes, start: int) -> Tlvs:
    """Read what stands in a whole `header` from `start` on, and check its CRC32C where it has one.

    Raises BadHeader. Types that say one thing of the connection may come once: of two it would be a guess which one
    the proxy means.
    """
    found: dict[int, bytes] = {}
    others = []
    for kind, position, value in _split(header, start):
        if kind in SINGLE:
            if kind in found:
                raise BadHeader(Reason.TLV, f"TLV 0x{kind:02x} comes twice")
            found[kind] = value
            if kind == CRC32C:
                _check(header, position, value)
        elif kind != NOOP:
            others.append((kind, value))
    unique_id = found.get(UNIQUE_ID)
    if unique_id is not None and len(unique_id) > MAX_UNIQUE_ID_BYTES:
        raise BadHeader(Reason.TLV, "the unique id is longer than 128 octets")
    return Tlvs(
        alpn=_text(found, ALPN, "ascii"),
        authority=_text(found, AUTHORITY, "utf-8"),
        unique_id=unique_id,
        ssl=_read_ssl(found[SSL]) if SSL in found else None,
        netns=_text(found, NETNS, "ascii"),
        others=tuple(others),
    )


def _read_ssl(octets: bytes) -> Ssl:
    if len(octets) < SSL_HEAD.size:
        raise BadHeader(Reason.TLV, "the SSL TLV is cut short")
    client, verify = SSL_HEAD.unpack_from(octets)
    found: dict[int, bytes] = {}
    others = []
    for kind, _, value in _split(octets, SSL_HEAD.size):
        if kind not in SINGLE_IN_SSL:
            others.append((kind, value))
        elif kind in found:
            raise BadHeader(Reason.TLV, f"TLV 0x{kind:02x} comes twice in the SSL TLV")
        else:
            found[kind] = value
    return Ssl(
        client,
        verify,
        version=_text(found, SSL_VERSION, "ascii"),
        common_name=_text(found, SSL_CN, "utf-8"),
        cipher=_text(found, SSL_CIPHER, "ascii"),
        signature_algorithm=_text(found, SSL_SIG_ALG, "ascii"),
        key_algorithm=_text(found, SSL_KEY_ALG, "ascii"),
        others=tuple(others),
    )


def _split(octets: bytes, start: int) -> Iterator[tuple[int, int, bytes]]:
    """Type, position of the value, value."""
    end = len(octets)
    while start < end:
        if end - start < HEAD.size:
            raise BadHeader(Reason.TLV, "octets after the last TLV")
        kind, size_bytes = HEAD.unpack_from(octets, start)
        start += HEAD.size
        if size_bytes > end - start:
            raise BadHeader(Reason.TLV, f"TLV 0x{kind:02x} runs over the end")
        yield kind, start, octets[start : start + size_bytes]
        start += size_bytes


def _text(found: dict[int, bytes], kind: int, charset: str) -> str | None:
    value = found.get(kind)
    if value is None:
        return None
    if len(value) > MAX_TEXT_BYTES:
        raise BadHeader(Reason.TLV, f"TLV 0x{kind:02x} is longer than {MAX_TEXT_BYTES} octets")
    try:
        text = value.decode(charset)
    except UnicodeDecodeError:
        raise BadHeader(Reason.TEXT, f"TLV 0x{kind:02x} is not {charset}") from None
    if not text.isprintable():
        raise BadHeader(Reason.TEXT, f"TLV 0x{kind:02x} is not printable")
    return text


def _check(header: bytes, position: int, value: bytes) -> None:
    """The checksum is that of the header with the checksum's own octets 0 (§2.2.3)."""
    if len(value) != 4:
        raise BadHeader(Reason.TLV, "the CRC32C has not four octets")
    if crc32c(header[:position] + bytes(4) + header[position + 4 :]) != int.from_bytes(value, "big"):
        raise BadHeader(Reason.CHECKSUM, "the CRC32C is not that of the header")


def _crc32c_row(crc: int) -> int:
    for _ in range(8):
        crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)  # the polynomial of Castagnoli, reflected
    return crc


_CRC32C = tuple(map(_crc32c_row, range(256)))


def crc32c(octets: bytes) -> int:
    """CRC32C of RFC 4960, appendix B. Some 60 ns for an octet: for headers, not for messages."""
    crc = 0xFFFFFFFF
    for octet in octets:
        crc = _CRC32C[(crc ^ octet) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF
