"""Whatever comes first on a connection, it is a header, the beginning of one, or refused; never anything else, and the
same however it is split.
"""

from __future__ import annotations

import time

from mta_front.proxybuild import build_v1, build_v2
from mta_front.proxyproto import Header, Want, looks_like_header, parse
from mta_front.proxyrefusal import BadHeader, Reason
from mta_front.proxytlv import crc32c
from tests.proxy.headers import INET, INET6, LOCAL, outcome, ssl, tlv, unix, v2

HEADER_BYTES = 2
SIZES = (107, 232, 4096, 1 << 20)
BOUND_S = 0.5
"""CPU time for one header: 0.4 ms for 4 KiB with a checksum; the rest is for an instrumented interpreter."""

_CHECKED = v2(INET + tlv(0x03, bytes(4)))

SEEDS = [
    b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 25\r\nEHLO x\r\n",
    b"PROXY TCP6 2001:db8::1 ::ffff:192.0.2.2 65535 0\r\n",
    b"PROXY UNKNOWN\r\n",
    b"PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
    v2(INET) + b"EHLO x\r\n",
    v2(INET6, family=0x21),
    v2(unix(b"/run/a", b"\0b"), family=0x31),
    v2(family=0x00),
    v2(command=LOCAL, family=0x00),
    v2(INET + tlv(0x01, b"smtp") + tlv(0x02, b"mx.example") + tlv(0x04) + tlv(0x05, b"id") + tlv(0x30, b"blue")),
    v2(INET + ssl(7, 0, tlv(0x21, b"TLSv1.3"), tlv(0x22, b"c.example"), tlv(0x23, b"x"), tlv(0x24, b"y"))),
    v2(INET + tlv(0xEA, b"\x01vpce-0") + tlv(0xEE, b"\x01\x01\x00\x00\x00") + tlv(0xE0)),
    _CHECKED[:-4] + crc32c(_CHECKED).to_bytes(4, "big"),
]

TOKENS = ["PROXY ", "TCP4 ", "TCP6 ", "UNKNOWN", "\r\n", "\r\n\r\n\0\r\nQUIT\n", " 65535", "::ffff:", "vpce-"]


def one_input(data: bytes) -> None:
    """Two octets choose the bound and where to split; the rest comes from the peer."""
    choice, cut = (*data[:2], 0, 0)[:2]
    came, max_bytes = data[2:], SIZES[choice % len(SIZES)]
    began = time.process_time()
    try:
        said: Header | Want | Reason = parse(came, max_bytes)
    except BadHeader as error:
        said = error.reason
        assert str(error).isprintable()
    assert time.process_time() - began < BOUND_S
    begins = looks_like_header(came)
    if isinstance(said, Header):
        assert begins is True
        _judge(said, came, max_bytes)
    elif isinstance(said, Want):
        assert begins is not False
        assert 1 <= said.size_bytes <= max(max_bytes, 107)
    else:
        assert (said is Reason.SIGNATURE) == (begins is False)
    _judge_split(said, came, max_bytes, cut * len(came) // 255)


def _judge(header: Header, came: bytes, max_bytes: int) -> None:
    """What was read is bounded, harmless, and says itself again."""
    assert 15 <= header.size_bytes <= min(len(came), max(max_bytes, 107))
    assert outcome(came[: header.size_bytes], max_bytes) == header
    assert repr(header).isprintable()
    tlvs = header.tlvs
    shown = [tlvs.alpn, tlvs.authority, tlvs.netns, tlvs.unique_id_text, tlvs.aws_vpce_id]
    if tlvs.ssl is not None:
        shown += [tlvs.ssl.common_name, tlvs.ssl.cipher, tlvs.ssl.version, tlvs.ssl.verified_name]
        assert tlvs.ssl.secure or not tlvs.ssl.certificate_verified
    assert all(text is None or text.isprintable() for text in shown)
    if header.endpoints is None:
        return
    assert not header.local
    assert (header.endpoints.source_address + header.endpoints.destination_address).isprintable()
    assert outcome(build_v2(header.endpoints, tlvs), 1 << 20) == Header(
        2, len(build_v2(header.endpoints, tlvs)), header.endpoints, tlvs
    )
    if not header.endpoints.unix:
        again = outcome(build_v1(header.endpoints))
        assert isinstance(again, Header)
        assert again.endpoints == header.endpoints


def _judge_split(said: Header | Want | Reason, came: bytes, max_bytes: int, cut: int) -> None:
    """A beginning has the outcome of the whole, or asks for no more than the header has."""
    before = outcome(memoryview(came)[:cut], max_bytes)
    if not isinstance(before, Want):
        assert before == said
    elif isinstance(said, Header):
        assert cut + before.size_bytes <= said.size_bytes
