"""What we build we read, whatever it is; and what cannot be built is said."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mta_front.proxybuild import build_v1, build_v2
from mta_front.proxyproto import Endpoints, Header
from mta_front.proxytlv import NO_TLVS, Ssl, Tlvs
from tests.proxy.headers import assert_split_invariant, read

addresses = st.ip_addresses().filter(lambda address: address.version == 4 or address.ipv4_mapped is None).map(str)
ports = st.integers(0, 65535)
inet = st.builds(Endpoints, addresses, ports, addresses, ports)
names = st.text(min_size=0, max_size=25).filter(str.isprintable).filter(lambda text: text != "@")
unix = st.builds(lambda source, to: Endpoints(source, 0, to, 0, unix=True), names, names)
text = st.none() | st.text(max_size=60).filter(str.isprintable)
ascii_text = st.none() | st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=60)
values = st.binary(max_size=60)
others = st.lists(
    st.tuples(st.integers(0, 255).filter(lambda kind: kind not in (1, 2, 3, 4, 5, 0x20, 0x30)), values), max_size=5
).map(tuple)
ssl_others = st.lists(
    st.tuples(st.integers(0, 255).filter(lambda kind: not 0x21 <= kind <= 0x25), values), max_size=3
).map(tuple)
ssls = st.none() | st.builds(
    Ssl,
    st.integers(0, 255),
    st.integers(0, 0xFFFFFFFF),
    ascii_text,
    text,
    ascii_text,
    ascii_text,
    ascii_text,
    ssl_others,
)
all_tlvs = st.builds(Tlvs, ascii_text, text, st.none() | st.binary(max_size=128), ssls, ascii_text, others)


@given(st.none() | inet)
def test_a_line(endpoints: Endpoints | None) -> None:
    data = build_v1(endpoints)
    assert assert_split_invariant(data) == Header(1, len(data), endpoints)


@given(inet | unix, all_tlvs, st.booleans())
@example(Endpoints("192.0.2.1", 1, "2001:db8::1", 2), NO_TLVS, True)
def test_a_binary_header(endpoints: Endpoints, tlvs: Tlvs, checksum: bool) -> None:
    data = build_v2(endpoints, tlvs, checksum=checksum)
    assert read(data) == Header(2, len(data), endpoints, tlvs)


@given(all_tlvs, st.booleans(), st.booleans())
def test_a_connection_of_the_proxys_own(tlvs: Tlvs, local: bool, checksum: bool) -> None:
    data = build_v2(None, tlvs, local=local, checksum=checksum)
    assert read(data) == Header(2, len(data), local=local)


def test_as_haproxy_does() -> None:
    """To the octet, but for the order of its TLVs."""
    endpoints = Endpoints("127.0.0.1", 45416, "127.0.0.1", 36685)
    assert build_v1(endpoints) == b"PROXY TCP4 127.0.0.1 127.0.0.1 45416 36685\r\n"
    assert build_v2(endpoints).hex() == "0d0a0d0a000d0a515549540a2111000c7f0000017f000001b1688f4d"
    assert build_v2(None, local=True).hex() == "0d0a0d0a000d0a515549540a20000000"


def test_two_families_become_one() -> None:
    assert build_v1(Endpoints("192.0.2.1", 1, "2001:db8::1", 2)).startswith(b"PROXY TCP6 ::ffff:")


HOME = Endpoints("192.0.2.1", 1, "192.0.2.2", 2)


@pytest.mark.parametrize(
    "endpoints",
    [
        Endpoints("", 0, "192.0.2.2", 2),
        Endpoints("localhost", 1, "192.0.2.2", 2),
        Endpoints("fe80::1%eth0", 1, "::1", 2),
        Endpoints("192.0.2.1", -1, "192.0.2.2", 2),
        Endpoints("192.0.2.1", 1, "192.0.2.2", 65536),
        Endpoints("/a\nb", 0, "/s", 0, unix=True),
        Endpoints("/" + "x" * 108, 0, "/s", 0, unix=True),
        Endpoints("@" + "x" * 108, 0, "/s", 0, unix=True),
        Endpoints("/\udcff", 0, "/s", 0, unix=True),
        Endpoints("@", 0, "/s", 0, unix=True),
    ],
)
def test_endpoints_that_have_no_header(endpoints: Endpoints) -> None:
    with pytest.raises(ValueError):
        build_v2(endpoints)
    with pytest.raises(ValueError):
        build_v1(endpoints)


@pytest.mark.parametrize(
    "tlvs",
    [
        Tlvs(unique_id=bytes(129)),
        Tlvs(authority="a\r\nb"),
        Tlvs(authority="a" * 256),
        Tlvs(alpn="é"),
        Tlvs(others=((0x02, b"twice"),)),
        Tlvs(others=((0x04, b""),)),
        Tlvs(others=((256, b""),)),
        Tlvs(others=((0xE0, bytes(0x10000)),)),
        Tlvs(others=((0xE0, bytes(0xFFFF)),)),
        Tlvs(ssl=Ssl(256, 0)),
        Tlvs(ssl=Ssl(1, -1)),
        Tlvs(ssl=Ssl(1, 0, cipher="\0")),
        Tlvs(ssl=Ssl(1, 0, others=((0x22, b"twice"),))),
    ],
)
def test_tlvs_that_have_no_header(tlvs: Tlvs) -> None:
    with pytest.raises(ValueError):
        build_v2(HOME, tlvs)


def test_what_contradicts_itself() -> None:
    with pytest.raises(ValueError):
        build_v2(HOME, local=True)
    with pytest.raises(ValueError):
        build_v1(Endpoints("/a", 0, "/b", 0, unix=True))
