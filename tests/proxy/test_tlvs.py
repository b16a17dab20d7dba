"""TLVs: each type, each way to get one wrong, and what makes a session secure."""

from __future__ import annotations

import pytest

from mta_front.proxyrefusal import Reason
from mta_front.proxytlv import Ssl, Tlvs, crc32c
from tests.proxy.headers import INET, assert_split_invariant, outcome, read, ssl, tlv, v2


def tlvs(*parts: bytes) -> Tlvs:
    """What a header with these TLVs says."""
    data = v2(INET + b"".join(parts))
    assert_split_invariant(data)
    return read(data).tlvs


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([], Tlvs()),
        ([tlv(0x01, b"smtp")], Tlvs(alpn="smtp")),
        ([tlv(0x02, b"mx.example.org")], Tlvs(authority="mx.example.org")),
        ([tlv(0x02, "bücher.example".encode())], Tlvs(authority="bücher.example")),
        ([tlv(0x02, b"a" * 255)], Tlvs(authority="a" * 255)),
        ([tlv(0x02)], Tlvs(authority="")),
        ([tlv(0x04), tlv(0x04, b"\xff" * 9), tlv(0x04)], Tlvs()),
        ([tlv(0x05, bytes(range(128)))], Tlvs(unique_id=bytes(range(128)))),
        ([tlv(0x05)], Tlvs(unique_id=b"")),
        ([tlv(0x30, b"blue")], Tlvs(netns="blue")),
        ([tlv(0x06, b"\n"), tlv(0xE0), tlv(0x06, b"2")], Tlvs(others=((6, b"\n"), (0xE0, b""), (6, b"2")))),
        ([tlv(0xFF)], Tlvs(others=((0xFF, b""),))),
        # second-level types mean nothing at the first
        ([tlv(0x22, b"client.example")], Tlvs(others=((0x22, b"client.example"),))),
    ],
)
def test_what_is_read(parts: list[bytes], expected: Tlvs) -> None:
    assert tlvs(*parts) == expected


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        (b"\x01", Reason.TLV),
        (b"\x01\x00", Reason.TLV),
        (tlv(0x01, b"smtp", length=5), Reason.TLV),
        (tlv(0x01, b"smtp", length=0xFFFF), Reason.TLV),
        (tlv(0x01, b"smtp", length=3), Reason.TLV),
        (tlv(0x04, b"", length=1), Reason.TLV),
        (tlv(0x05, bytes(129)), Reason.TLV),
        (tlv(0x02, b"a" * 256), Reason.TLV),
        (tlv(0x03, bytes(3)), Reason.TLV),
        (tlv(0x03, bytes(5)), Reason.TLV),
        (tlv(0x20, bytes(4)), Reason.TLV),
        (tlv(0x20), Reason.TLV),
        (ssl(1, 0, b"\x21\x00"), Reason.TLV),
        (ssl(1, 0, tlv(0x21, b"TLSv1.3", length=8)), Reason.TLV),
        (ssl(1, 0, tlv(0x22, b"a"), tlv(0x22, b"b")), Reason.TLV),
        (ssl(1, 0, tlv(0x22, b"a" * 256)), Reason.TLV),
        *[(tlv(kind, bytes(5)) * 2, Reason.TLV) for kind in (0x05, 0x20)],
        *[(tlv(kind, b"a") * 2, Reason.TLV) for kind in (0x01, 0x02, 0x30)],
        # text that a client chose and a log would show
        (tlv(0x02, b"mx\r\nfake log line"), Reason.TEXT),
        (tlv(0x02, b"mx\0.example"), Reason.TEXT),
        (tlv(0x02, b"\xff"), Reason.TEXT),
        (tlv(0x02, "mx\u2028".encode()), Reason.TEXT),
        (tlv(0x01, "smtpé".encode()), Reason.TEXT),
        (tlv(0x01, b"\x0a\x0a"), Reason.TEXT),
        (tlv(0x30, b"\x1b[31m"), Reason.TEXT),
        (ssl(1, 0, tlv(0x22, b"client\n")), Reason.TEXT),
        (ssl(1, 0, tlv(0x22, "\u202eelpmaxe".encode())), Reason.TEXT),
        (ssl(1, 0, tlv(0x21, b"TLS\x7f")), Reason.TEXT),
        (ssl(1, 0, tlv(0x23, b"\xc3\xa9")), Reason.TEXT),
        (ssl(1, 0, tlv(0x24, b"\t")), Reason.TEXT),
        (ssl(1, 0, tlv(0x25, b"\x9b31m")), Reason.TEXT),
    ],
)
def test_what_is_refused(part: bytes, reason: Reason) -> None:
    assert assert_split_invariant(v2(INET + part)) is reason
    assert outcome(v2(INET + tlv(0x04) + part)) is reason


def test_what_the_proxy_says_of_tls() -> None:
    names = [tlv(0x21, b"TLSv1.2"), tlv(0x22, "Zoë".encode()), tlv(0x23, b"ECDHE-RSA-AES128-GCM-SHA256")]
    names += [tlv(0x24, b"RSA-SHA256"), tlv(0x25, b"RSA2048"), tlv(0x26, b"X25519")]
    assert tlvs(ssl(7, 0, *names)).ssl == Ssl(
        7, 0, "TLSv1.2", "Zoë", "ECDHE-RSA-AES128-GCM-SHA256", "RSA-SHA256", "RSA2048", ((0x26, b"X25519"),)
    )


@pytest.mark.parametrize(
    ("client", "verify", "secure", "verified"),
    [
        (0x00, 0, False, False),  # HAProxy, of a plain client and of its own checks
        (0x00, 1, False, False),
        (0x01, 0, True, False),  # verify is 0 without a certificate too
        (0x01, 1, True, False),
        (0x03, 0, True, True),
        (0x05, 0, True, True),  # shown earlier in a TLS session that was resumed
        (0x07, 0, True, True),
        (0x03, 1, True, False),
        (0x07, 18, True, False),  # X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT
        (0x07, 0xFFFFFFFF, True, False),
        (0x02, 0, False, False),  # a certificate without TLS is nonsense
        (0x06, 0, False, False),
        (0xF8, 0, False, False),
        (0xFF, 0, True, True),
    ],
)
def test_what_makes_a_session_secure(client: int, verify: int, secure: bool, verified: bool) -> None:
    """DECISIONS W10."""
    found = tlvs(ssl(client, verify, tlv(0x22, b"client.example"))).ssl
    assert found
    assert (found.secure, found.certificate_verified) == (secure, verified)
    assert found.verified_name == ("client.example" if verified else None)
    assert found.common_name == "client.example"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"\x01vpce-08d2bf15fac5001c9", "vpce-08d2bf15fac5001c9"),
        (b"\x02vpce-08d2bf15fac5001c9", None),
        (b"\x01", None),
        (b"\x01vpce\n", None),
        (b"\x01" + b"v" * 256, None),
        (b"", None),
    ],
)
def test_the_vpc_endpoint_of_aws(value: bytes, expected: str | None) -> None:
    """Others may use the type for their own: what is not AWS's is kept, and no error."""
    found = tlvs(tlv(0xEA, value))
    assert found.aws_vpce_id == expected
    assert found.others == ((0xEA, value),)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(b"\x01\x78\x56\x34\x12", 0x12345678), (b"\x02\x78\x56\x34\x12", None), (b"\x01\x78\x56\x34", None), (b"", None)],
)
def test_the_private_endpoint_of_azure(value: bytes, expected: int | None) -> None:
    found = tlvs(tlv(0xEE, value))
    assert found.azure_link_id == expected
    assert found.others == ((0xEE, value),)


@pytest.mark.parametrize(
    ("unique_id", "text"),
    [
        (b"7F000001:CCE4-0002", "7F000001:CCE4-0002"),
        (b"\x00\xff", "00ff"),
        (b"two words", "74776f20776f726473"),
        (b"a\n", "610a"),
        (b"", ""),
        (None, ""),
    ],
)
def test_a_unique_id_in_logs(unique_id: bytes | None, text: str) -> None:
    assert Tlvs(unique_id=unique_id).unique_id_text == text


@pytest.mark.parametrize(
    ("octets", "crc"),
    [
        (b"123456789", 0xE3069283),
        (b"", 0),
        # RFC 3720, B.4
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
    ],
)
def test_crc32c(octets: bytes, crc: int) -> None:
    assert crc32c(octets) == crc


def test_the_checksum_covers_the_whole_header() -> None:
    """Also what stands behind it, and the fixed part; not what the client sends."""
    before, after = INET + tlv(0x02, b"mx.example.org"), tlv(0x05, b"id")
    empty = v2(before + tlv(0x03, bytes(4)) + after)
    data = v2(before + tlv(0x03, crc32c(empty).to_bytes(4, "big")) + after)
    assert read(data + b"EHLO x\r\n").tlvs == Tlvs(authority="mx.example.org", unique_id=b"id")
    assert_split_invariant(data)
    for position in range(16, len(data)):
        changed = bytearray(data)
        changed[position] ^= 1
        assert isinstance(outcome(bytes(changed)), Reason), position
    assert outcome(empty) is Reason.CHECKSUM
