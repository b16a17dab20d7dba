"""Headers of the PROXY protocol put together octet by octet, wrong ones too; and what must hold of each."""

from __future__ import annotations

import struct

from mta_front.proxyproto import DEFAULT_MAX_BYTES, V2_SIGNATURE, Header, Want, looks_like_header, parse
from mta_front.proxyrefusal import BadHeader, Reason

LOCAL, PROXY = 0x20, 0x21
INET = struct.pack(">4B4BHH", 192, 0, 2, 1, 198, 51, 100, 2, 56324, 25)
INET6 = bytes.fromhex("20010db8000000000000000000000001 20010db8000000000000000000000002 dc04 0019")

Outcome = Header | Reason
"""How a header ends: read, or refused."""


def v2(
    body: bytes = b"",
    *,
    family: int = 0x11,
    command: int = PROXY,
    length: int | None = None,
    start: bytes = V2_SIGNATURE,
) -> bytes:
    """A binary header; `length` only where it is to be wrong."""
    return start + struct.pack(">BBH", command, family, len(body) if length is None else length) + body


def tlv(kind: int, value: bytes = b"", length: int | None = None) -> bytes:
    """One TLV; `length` only where it is to be wrong."""
    return struct.pack(">BH", kind, len(value) if length is None else length) + value


def ssl(client: int, verify: int, *tlvs: bytes) -> bytes:
    """An SSL TLV."""
    return tlv(0x20, struct.pack(">BI", client, verify) + b"".join(tlvs))


def unix(source: bytes, destination: bytes) -> bytes:
    """The addresses of AF_UNIX."""
    return struct.pack(">108s108s", source, destination)


def read(data: bytes, max_bytes: int = DEFAULT_MAX_BYTES) -> Header:
    """The header that `data` begins with."""
    header = parse(data, max_bytes)
    assert isinstance(header, Header), header
    return header


def outcome(data: bytes | memoryview, max_bytes: int = DEFAULT_MAX_BYTES) -> Outcome | Want:
    """What `parse` says, a refusal by its reason."""
    try:
        return parse(data, max_bytes)
    except BadHeader as error:
        return error.reason


def assert_split_invariant(data: bytes, max_bytes: int = DEFAULT_MAX_BYTES) -> Outcome | Want:
    """The outcome of all is that of the shortest beginning that has one; nothing was asked for that is not there."""
    whole = outcome(data, max_bytes)
    for have in range(len(data) + 1):
        so_far = outcome(data[:have], max_bytes)
        if not isinstance(so_far, Want):
            assert so_far == whole, f"after {have} octets"
            assert isinstance(so_far, Reason) or so_far.size_bytes == have
            break
        assert so_far.size_bytes >= 1
        assert not isinstance(whole, Header) or have + so_far.size_bytes <= whole.size_bytes
    assert outcome(memoryview(data), max_bytes) == whole
    if isinstance(whole, Header):
        assert looks_like_header(data) is True
        assert outcome(data[: whole.size_bytes] + b"EHLO x\r\n" + data, max_bytes) == whole
    return whole
