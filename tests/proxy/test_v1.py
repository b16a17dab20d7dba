"""Version 1: the lines of the specification, and everything that is almost one."""

from __future__ import annotations

import pytest

from mta_front.proxyproto import Endpoints, Header, Want, looks_like_header, parse
from mta_front.proxyrefusal import BadHeader, Reason
from tests.proxy.headers import assert_split_invariant, outcome, read

LONGEST_IPV6 = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"


@pytest.mark.parametrize(
    ("line", "octets", "endpoints"),
    [
        # the longest lines of §2.1, with the lengths that it gives
        (
            "TCP4 255.255.255.255 255.255.255.255 65535 65535",
            56,
            Endpoints("255.255.255.255", 65535, "255.255.255.255", 65535),
        ),
        (f"TCP6 {LONGEST_IPV6} {LONGEST_IPV6} 65535 65535", 104, Endpoints(LONGEST_IPV6, 65535, LONGEST_IPV6, 65535)),
        ("UNKNOWN", 15, None),
        (f"UNKNOWN {LONGEST_IPV6} {LONGEST_IPV6} 65535 65535", 107, None),
        # its example
        ("TCP4 192.168.0.1 192.168.0.11 56324 443", 47, Endpoints("192.168.0.1", 56324, "192.168.0.11", 443)),
        # what HAProxy 2.6 sends
        ("TCP4 127.0.0.1 127.0.0.1 48526 49231", 44, Endpoints("127.0.0.1", 48526, "127.0.0.1", 49231)),
        # port 0 is one, and the whole of a line that is not for us is ignored
        ("TCP4 0.0.0.0 0.0.0.0 0 0", 32, Endpoints("0.0.0.0", 0, "0.0.0.0", 0)),
        ("UNKNOWN \0\xff  TCP4 ", 25, None),
        # each way to write an IPv6 address is the same address
        ("TCP6 2001:DB8:0::0001 ::1 1 2", 37, Endpoints("2001:db8::1", 1, "::1", 2)),
        ("TCP6 :: 1:2:3:4:5:6:7:8 1 2", 35, Endpoints("::", 1, "1:2:3:4:5:6:7:8", 2)),
        # an IPv4 client of a socket for both families is the IPv4 client
        ("TCP6 ::ffff:192.0.2.1 ::FFFF:c633:6402 1 2", 50, Endpoints("192.0.2.1", 1, "198.51.100.2", 2)),
    ],
)
def test_a_line(line: str, octets: int, endpoints: Endpoints | None) -> None:
    data = f"PROXY {line}\r\n".encode("latin-1")
    assert len(data) == octets
    assert assert_split_invariant(data) == Header(1, octets, endpoints)


def test_what_follows_is_the_clients() -> None:
    """The example of §2.1 with its request."""
    data = b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\nGET / HTTP/1.1\r\nHost: 192.168.0.11\r\n\r\n"
    assert data[read(data).size_bytes :].startswith(b"GET / HTTP/1.1\r\n")
    twice = b"PROXY UNKNOWN\r\n" * 2
    assert looks_like_header(twice[read(twice).size_bytes :]) is True


@pytest.mark.parametrize("port", ["65536", "-1", "+1", "1_0", "00025", "00", "99999", "100000", "1e3", "0x19", "1.0"])
@pytest.mark.parametrize("line", ["TCP4 192.0.2.1 192.0.2.2 {} 25", "TCP6 ::1 ::2 25 {}"])
def test_what_is_no_port(port: str, line: str) -> None:
    assert assert_split_invariant(f"PROXY {line.format(port)}\r\n".encode()) is Reason.PORT


@pytest.mark.parametrize(
    "line",
    [
        "TCP4 ::1 ::1 1 2",
        "TCP4 ::ffff:192.0.2.1 192.0.2.2 1 2",
        "TCP4 192.0.2.1 ::1 1 2",
        "TCP6 192.0.2.1 192.0.2.2 1 2",
        "TCP6 ::1 192.0.2.2 1 2",
        "TCP4 192.0.2.01 192.0.2.2 1 2",
        "TCP4 0300.0.2.1 192.0.2.2 1 2",
        "TCP4 192.0.2 192.0.2.2 1 2",
        "TCP4 192.0.2.1.1 192.0.2.2 1 2",
        "TCP4 192.0.2.256 192.0.2.2 1 2",
        "TCP4 3221225985 192.0.2.2 1 2",
        "TCP4 192.0.2.1/32 192.0.2.2 1 2",
        "TCP4 192.0.2.+1 192.0.2.2 1 2",
        "TCP4 192.0.2.\xb2 192.0.2.2 1 2",
        "TCP4 192.0.2.1\t 192.0.2.2 1 2",
        "TCP4 localhost 192.0.2.2 1 2",
        "TCP6 fe80::1%eth0 ::1 1 2",
        "TCP6 fe80::1% ::1 1 2",
        "TCP6 ::1/128 ::1 1 2",
        "TCP6 [::1] ::1 1 2",
        "TCP6 1::2::3 ::1 1 2",
        "TCP6 1:2:3:4:5:6:7 ::1 1 2",
        "TCP6 1:2:3:4:5:6:7:8:9 ::1 1 2",
        "TCP6 00001::1 ::1 1 2",
        "TCP6 ::g ::1 1 2",
        "TCP6 ::1\0 ::1 1 2",
    ],
)
def test_what_is_no_address_of_its_family(line: str) -> None:
    assert assert_split_invariant(f"PROXY {line}\r\n".encode("latin-1")) is Reason.ADDRESS


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("TCP4 192.0.2.1 192.0.2.2 1", Reason.MALFORMED),
        ("TCP4 192.0.2.1 192.0.2.2 1 2 3", Reason.MALFORMED),
        ("TCP4 192.0.2.1 192.0.2.2 1 2 ", Reason.MALFORMED),
        ("TCP4  192.0.2.1 192.0.2.2 1 2", Reason.MALFORMED),
        ("TCP4 192.0.2.1  192.0.2.2 1 2", Reason.MALFORMED),
        ("TCP4\t192.0.2.1\t192.0.2.2\t1\t2", Reason.FAMILY),
        ("TCP4", Reason.MALFORMED),
        ("TCP4 ", Reason.MALFORMED),
        ("", Reason.FAMILY),
        (" TCP4 192.0.2.1 192.0.2.2 1 2", Reason.FAMILY),
        ("UDP4 192.0.2.1 192.0.2.2 1 2", Reason.FAMILY),
        ("TCP5 192.0.2.1 192.0.2.2 1 2", Reason.FAMILY),
        ("tcp4 192.0.2.1 192.0.2.2 1 2", Reason.FAMILY),
        ("UNKNOWNX", Reason.FAMILY),
        ("unknown", Reason.FAMILY),
    ],
)
def test_what_is_no_line(line: str, reason: Reason) -> None:
    assert assert_split_invariant(f"PROXY {line}\r\n".encode()) is reason


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\r\n", b"\n\r\n", b"\r \n"])
@pytest.mark.parametrize("line", [b"PROXY UNKNOWN", b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2", b"PROXY "])
def test_only_crlf_ends_a_line(line: bytes, end: bytes) -> None:
    """And a line that another reader may have seen end is refused at once, not at a time-out (§2.1)."""
    assert assert_split_invariant(line + end + b"EHLO x\r\n") is Reason.MALFORMED
    assert outcome(line + end) in (Reason.MALFORMED, Want(1))


def test_107_octets_are_enough() -> None:
    longest = b"PROXY UNKNOWN ".ljust(105, b"x") + b"\r\n"
    assert read(longest).size_bytes == 107
    assert assert_split_invariant(b"PROXY UNKNOWN ".ljust(106, b"x") + b"\r\n") is Reason.TOO_LONG
    assert outcome(b"PROXY UNKNOWN ".ljust(105, b"x")) == Want(2)
    assert outcome(b"PROXY UNKNOWN ".ljust(106, b"x")) is Reason.TOO_LONG
    assert outcome(b"PROXY UNKNOWN ".ljust(1 << 20, b"x")) is Reason.TOO_LONG


@pytest.mark.parametrize(
    "data",
    [
        b"EHLO client.example\r\n",
        b"proxy TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
        b"PROXY\tTCP4 192.0.2.1 192.0.2.2 1 2\r\n",
        b"PROXY\r\n",
        b" PROXY UNKNOWN\r\n",
        b"\r\nPROXY UNKNOWN\r\n",
        b"\xef\xbb\xbfPROXY UNKNOWN\r\n",
        b"GET / HTTP/1.1\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\0" * 16,
    ],
)
def test_what_is_no_header(data: bytes) -> None:
    assert assert_split_invariant(data) is Reason.SIGNATURE
    assert looks_like_header(data) is False


def test_how_a_header_begins() -> None:
    for header in (b"PROXY ", b"\r\n\r\n\0\r\nQUIT\n"):
        for have in range(len(header)):
            assert looks_like_header(header[:have]) is None
        assert looks_like_header(header) is True
        assert looks_like_header(memoryview(header + b"\xff")) is True


def test_a_refusal_says_nothing_of_what_came() -> None:
    with pytest.raises(BadHeader) as refused:
        parse(b"PROXY TCP4 \x1b[31m 192.0.2.2 1 2\r\n")
    assert refused.value.reason == "address"
    assert str(refused.value) == "not an IPv4 address"
