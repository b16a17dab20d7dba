"""Version 2: the fixed part, addresses, lengths, and what real proxies send."""

from __future__ import annotations

import pytest

from mta_front.proxyproto import V2_SIGNATURE, Endpoints, Header, Want, parse
from mta_front.proxyrefusal import Reason
from mta_front.proxytlv import NO_TLVS, Ssl, Tlvs
from tests.proxy.headers import INET, INET6, LOCAL, PROXY, assert_split_invariant, outcome, read, tlv, unix, v2

CLIENT4 = Endpoints("192.0.2.1", 56324, "198.51.100.2", 25)
CLIENT6 = Endpoints("2001:db8::1", 56324, "2001:db8::2", 25)


@pytest.mark.parametrize(
    ("data", "size_bytes", "endpoints"),
    [
        (v2(INET), 28, CLIENT4),
        (v2(INET6, family=0x21), 52, CLIENT6),
        (v2(b"\0" * 12), 28, Endpoints("0.0.0.0", 0, "0.0.0.0", 0)),
        (v2(b"\xff" * 12), 28, Endpoints("255.255.255.255", 65535, "255.255.255.255", 65535)),
        (
            v2(bytes(10) + b"\xff\xff\xc0\x00\x02\x01" + bytes(15) + b"\x01\x00\x01\x00\x02", family=0x21),
            52,
            Endpoints("192.0.2.1", 1, "::1", 2),
        ),
        # AF_UNSPEC: the proxy does not know, and what follows is not looked at
        (v2(family=0x00), 16, None),
        (v2(family=0x01), 16, None),
        (v2(INET + b"\xff\xff\xff", family=0x00), 31, None),
    ],
)
def test_addresses(data: bytes, size_bytes: int, endpoints: Endpoints | None) -> None:
    assert assert_split_invariant(data) == Header(2, size_bytes, endpoints)


@pytest.mark.parametrize(
    ("field", "path"),
    [
        (b"/run/mta/smtp.sock", "/run/mta/smtp.sock"),
        (b"/run/a\0left from before", "/run/a"),
        (b"\0abstract", "@abstract"),
        (b"", ""),
        (b"/" + b"x" * 107, "/" + "x" * 107),
        (b"\0" + b"x" * 107, "@" + "x" * 107),
        ("/run/ü".encode(), "/run/ü"),
    ],
)
def test_unix_sockets(field: bytes, path: str) -> None:
    header = Header(2, 232, Endpoints(path, 0, "/s", 0, unix=True))
    assert assert_split_invariant(v2(unix(field, b"/s"), family=0x31)) == header


@pytest.mark.parametrize(
    "field", [b"/run/\n", b"/run/\x1b[31m", b"/run/\xff", b"\0\x07", "/run/\u202e".encode(), b"@", b"@abstract"]
)
def test_a_path_that_cannot_be_told(field: bytes) -> None:
    assert assert_split_invariant(v2(unix(b"/s", field), family=0x31)) is Reason.ADDRESS


@pytest.mark.parametrize(
    "data",
    [
        v2(command=LOCAL, family=0x00),
        v2(INET, command=LOCAL),  # "must not assume zero is presented for LOCAL connections"
        v2(b"\xff" * 5, command=LOCAL),
        v2(tlv(0x03, b"\0\0\0\0"), command=LOCAL, family=0x00),
        v2(command=LOCAL, family=0xFF),  # "discard the protocol block including the family which is ignored"
        v2(command=LOCAL, family=0x12),
    ],
)
def test_local_says_nothing_of_a_client(data: bytes) -> None:
    assert assert_split_invariant(data) == Header(2, len(data), local=True)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (v2(INET, command=0x11), Reason.VERSION),
        (v2(INET, command=0x31), Reason.VERSION),
        (v2(INET, command=0x01), Reason.VERSION),
        (v2(INET, command=0x22), Reason.COMMAND),
        (v2(INET, command=0x2F), Reason.COMMAND),
        *[(v2(INET + bytes(300), family=family), Reason.FAMILY) for family in (0x02, 0x0F, 0x10, 0x12, 0x13, 0x1F)],
        *[(v2(INET + bytes(300), family=family), Reason.FAMILY) for family in (0x20, 0x22, 0x23, 0x30, 0x32, 0x33)],
        *[(v2(INET + bytes(300), family=family), Reason.FAMILY) for family in (0x40, 0x41, 0xF1, 0xFF)],
        (v2(INET[:-1]), Reason.TOO_SHORT),
        (v2(b""), Reason.TOO_SHORT),
        (v2(INET, family=0x21), Reason.TOO_SHORT),
        (v2(INET6, family=0x31), Reason.TOO_SHORT),
        (v2(INET6[:-1], family=0x21), Reason.TOO_SHORT),
        (v2(unix(b"", b"")[:-1], family=0x31), Reason.TOO_SHORT),
        (v2(INET, length=0xFFFF), Reason.TOO_LONG),
        (v2(b"", command=LOCAL, length=4081), Reason.TOO_LONG),
        (v2(INET, start=b"\r\n\r\n\0\r\nQUIT\r"), Reason.SIGNATURE),
        (v2(INET, start=b"\n\r\n\r\n\0\r\nQUIT\n"), Reason.SIGNATURE),
        (v2(INET + b"\0"), Reason.TLV),
    ],
)
def test_what_is_refused(data: bytes, reason: Reason) -> None:
    assert assert_split_invariant(data) is reason


def test_a_header_is_as_long_as_the_listener_takes() -> None:
    data = v2(INET + tlv(0x04, bytes(4096 - 28 - 3)))
    assert len(data) == 4096
    assert read(data).size_bytes == 4096
    assert outcome(data, max_bytes=4095) is Reason.TOO_LONG
    longer = v2(INET + tlv(0x04, bytes(0xFFFF - 12 - 3)))
    assert outcome(longer) is Reason.TOO_LONG
    assert read(longer, max_bytes=1 << 20).size_bytes == 16 + 0xFFFF
    # which is known, and refused, before any of it is kept
    assert outcome(longer[:16]) is Reason.TOO_LONG


def test_it_asks_for_exactly_what_is_missing() -> None:
    data = v2(INET + tlv(0x01, b"smtp"))
    have, asked = 0, []
    while isinstance(said := parse(data[:have]), Want):
        asked.append(said.size_bytes)
        have += said.size_bytes
    assert asked == [15, 1, 19]  # 15: were it a line, it might be complete
    assert said.size_bytes == have == len(data)


def captured(text: str) -> bytes:
    """HAProxy's octets with the signature in front."""
    return V2_SIGNATURE + bytes.fromhex(text)


def tls(client: int, common_name: str | None = None) -> Ssl:
    """What HAProxy says of a handshake with Python's ssl."""
    return Ssl(client, 0, "TLSv1.3", common_name, "TLS_AES_256_GCM_SHA384", "ecdsa-with-SHA256", "EC256")


@pytest.mark.parametrize(
    ("data", "endpoints", "tlvs"),
    [
        pytest.param(
            captured("2111000c7f0000017f000001b1688f4d"),
            Endpoints("127.0.0.1", 45416, "127.0.0.1", 36685),
            NO_TLVS,
            id="send-proxy-v2",
        ),
        pytest.param(
            captured(
                "211100307f0000017f000001cce4d8e9030004e1ce1eb2050012"
                "37463030303030313a434345342d303030322000050000000000"
            ),
            Endpoints("127.0.0.1", 52452, "127.0.0.1", 55529),
            Tlvs(unique_id=b"7F000001:CCE4-0002", ssl=Ssl(0, 0)),
            id="all options, a client without TLS",
        ),
        pytest.param(
            captured(
                "211100807f0000017f000001a0f6da09030004b149178e02000e6d782e6578616d706c652e6f7267"
                "05001237463030303030313a413046362d303030332000440100000000210007544c5376312e33"
                "250005454332353624001165636473612d776974682d534841323536"
                "230016544c535f4145535f3235365f47434d5f534841333834"
            ),
            Endpoints("127.0.0.1", 41206, "127.0.0.1", 55817),
            Tlvs(authority="mx.example.org", unique_id=b"7F000001:A0F6-0003", ssl=tls(1)),
            id="all options, TLS without a certificate",
        ),
        pytest.param(
            captured(
                "211100917f0000017f000001a104da09030004c715b3df02000e6d782e6578616d706c652e6f7267"
                "05001237463030303030313a413130342d303030342000550700000000210007544c5376312e33"
                "22000e636c69656e742e6578616d706c65250005454332353624001165636473612d776974682d534841323536"
                "230016544c535f4145535f3235365f47434d5f534841333834"
            ),
            Endpoints("127.0.0.1", 41220, "127.0.0.1", 55817),
            Tlvs(
                authority="mx.example.org",
                unique_id=b"7F000001:A104-0004",
                ssl=tls(7, "client.example"),
            ),
            id="all options, TLS with a certificate",
        ),
    ],
)
def test_what_haproxy_2_6_sends(data: bytes, endpoints: Endpoints, tlvs: Tlvs) -> None:
    assert assert_split_invariant(data) == Header(2, len(data), endpoints, tlvs)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(captured("2000000f030004889da1df2000050000000000"), id="a check"),
        pytest.param(captured("20000012030004955e6a000500002000050000000000"), id="a client on a Unix socket"),
    ],
)
def test_what_haproxy_2_6_says_is_its_own(data: bytes) -> None:
    assert assert_split_invariant(data) == Header(2, len(data), local=True)


def test_what_aws_sends() -> None:
    """A Network Load Balancer behind a VPC endpoint: checksum, endpoint, and padding to a round length."""
    data = captured("21110054ac1f0771ac1f0a1fc8f20050030004e8d6892dea001701") + b"vpce-08d2bf15fac5001c9"
    data += tlv(0x04, bytes(36))
    header = assert_split_invariant(data)
    assert isinstance(header, Header)
    assert header.endpoints == Endpoints("172.31.7.113", 51442, "172.31.10.31", 80)
    assert header.tlvs.aws_vpce_id == "vpce-08d2bf15fac5001c9"
    assert outcome(data[:-1] + b"\x01") is Reason.CHECKSUM


def test_a_header_in_a_log_is_short_and_harmless() -> None:
    header = read(v2(INET + tlv(0x22, b"\x1b[31m") + tlv(0xE1, bytes(3000)), command=PROXY))
    assert header.tlvs.others[1] == (0xE1, bytes(3000))
    assert len(repr(header)) < 600
    assert repr(header).isprintable()
