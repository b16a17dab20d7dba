"""The channel against a channel: whatever the cuts, the same plaintext, the same end, the same failure."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterable

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from OpenSSL import SSL

from mta_front.tls.channel import RECORD_BYTES, Channel
from mta_front.tls.facts import Facts
from mta_front.tls.failure import REASONS, TlsFailure
from tests.tls.authority import Authority, Pair
from tests.tls.wires import Cut, carry, client, client_context, connected, contexts, shake, whole

VERSIONS = ["TLSv1.2", "TLSv1.3"]


def cut_at_random(seed: int) -> Cut:
    """Pieces of 1 octet to 40 KiB."""
    chance = random.Random(seed)

    def cut(data: bytes) -> Iterable[bytes]:
        at = 0
        while at < len(data):
            size = chance.choice((1, 2, 5, 100, 4000, 16406, 40000))
            yield data[at : at + size]
            at += size

    return cut


def octet_by_octet(data: bytes) -> Iterable[bytes]:
    return (data[at : at + 1] for at in range(len(data)))


def read_all(channel: Channel, size: int = 65536) -> bytes:
    """Until it wants more ciphertext."""
    read = bytearray()
    while data := channel.read(size):
        assert len(data) <= size
        read += data
    return bytes(read)


# -- what comes out is what went in -----------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_facts_of_a_session(pair: Pair, authority: Authority, version: str) -> None:
    ends = connected(contexts(pair), client_context(authority, version), "MX.Ours.Example")
    cipher = {"TLSv1.2": "ECDHE-ECDSA-AES256-GCM-SHA384", "TLSv1.3": "TLS_AES_128_GCM_SHA256"}[version]
    standard = {"TLSv1.2": "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", "TLSv1.3": "TLS_AES_128_GCM_SHA256"}[version]
    assert ends[1].facts == Facts(version, cipher, standard, "mx.ours.example", None)


AES_128, AES_256 = b"TLS_AES_128_GCM_SHA256", b"TLS_AES_256_GCM_SHA384"
CHACHA = b"TLS_CHACHA20_POLY1305_SHA256"


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        ([AES_256, CHACHA, AES_128], AES_128),
        ([AES_256, CHACHA], AES_256),
        ([CHACHA, AES_128, AES_256], CHACHA),  # what a CPU without AES puts first
    ],
)
def test_the_quickest_suite_is_chosen(pair: Pair, offered: list[bytes], chosen: bytes) -> None:
    context = client_context(version="TLSv1.3")
    context.set_tls13_ciphersuites(b":".join(offered))
    ends = connected(contexts(pair), context)
    assert ends[1].facts is not None
    assert ends[1].facts.cipher == chosen.decode()


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("cut", [whole, octet_by_octet, cut_at_random(1)])
def test_a_handshake_at_any_cut(pair: Pair, version: str, cut: Cut) -> None:
    ends = client(client_context(version=version)), contexts(pair).channel()
    shake(*ends, cut)
    assert ends[1].facts is not None
    assert ends[1].facts.version == version


@pytest.mark.parametrize("version", VERSIONS)
def test_a_mebibyte_in_both_directions_cut_at_random(pair: Pair, version: str) -> None:
    ends = connected(contexts(pair), client_context(version=version))
    data = os.urandom(1 << 20)
    for seed, (one, other) in enumerate((ends, reversed(ends))):
        one.write(data)
        cut, read = cut_at_random(seed), bytearray()
        for piece in cut(one.take()):
            other.feed(piece)
            read += read_all(other, 50_000)
        assert hashlib.sha256(read).digest() == hashlib.sha256(data).digest()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    writes=st.lists(st.binary(min_size=1, max_size=3 * RECORD_BYTES), min_size=1, max_size=6),
    cuts=st.lists(st.integers(1, 50_000), max_size=40),
    size=st.integers(1, 70_000),
    ending=st.sampled_from(["close", "truncate", "damage"]),
)
@example(writes=[b"x" * RECORD_BYTES * 2], cuts=[RECORD_BYTES + 22] * 2, size=RECORD_BYTES, ending="close")
def test_cuts_change_neither_plaintext_nor_the_end(
    pair: Pair, writes: list[bytes], cuts: list[int], size: int, ending: str
) -> None:
    sender, receiver = connected(contexts(pair))
    for data in writes:
        sender.write(data)
    if ending == "close":
        sender.shutdown()
    ciphertext = sender.take()
    if ending == "damage":
        ciphertext += b"\x17\x03\x03\x00\x20" + bytes(32)
    read, end = bytearray(), ""
    at = 0
    for length in [*cuts, len(ciphertext)]:
        piece = ciphertext[at : at + length]
        at += length
        if piece:
            receiver.feed(piece)
            end = end or _read_until_it_ends(receiver, size, read)
    if not end:
        receiver.feed_eof()
        end = _read_until_it_ends(receiver, size, read)
    assert bytes(read) == b"".join(writes)
    assert end == {"close": "closed", "truncate": "truncated", "damage": "garbage"}[ending]


def _read_until_it_ends(channel: Channel, size: int, read: bytearray) -> str:
    try:
        while data := channel.read(size):
            read += data
    except TlsFailure as failure:
        return failure.reason
    return "closed" if data == b"" else ""


def test_a_read_gathers_records_up_to_its_size(pair: Pair) -> None:
    sender, receiver = connected(contexts(pair))
    for _ in range(5):
        sender.write(b"x" * 1000)
    carry(sender, receiver)
    assert [len(receiver.read(size) or b"") for size in (3500, 3500)] == [3500, 1500]
    assert receiver.read(3500) is None


def test_eof_behind_bytes_is_read_behind_them(pair: Pair) -> None:
    sender, receiver = connected(contexts(pair))
    sender.write(b"x" * 100_000)
    receiver.feed(sender.take())
    receiver.feed_eof()
    read = bytearray()
    assert _read_until_it_ends(receiver, 10_000, read) == "truncated"
    assert len(read) == 100_000


def test_a_fault_behind_a_record_is_seen_at_once(pair: Pair) -> None:
    """Not only when the rest of what claims to be a record has come."""
    sender, receiver = connected(contexts(pair))
    sender.write(b"x")
    receiver.feed(sender.take() + b"\0\0\0\x40\0")
    assert receiver.read(100) == b"x"
    with pytest.raises(TlsFailure, match="garbage"):
        receiver.read(100)


def test_readable_asks_without_taking(pair: Pair) -> None:
    sender, receiver = connected(contexts(pair))
    assert not receiver.readable()
    sender.write(b"x" * 20)
    carry(sender, receiver)
    assert receiver.readable()
    assert receiver.readable()
    assert receiver.read(100) == b"x" * 20
    assert not receiver.readable()
    receiver.feed(b"\x17\x03\x03\x00\x20" + bytes(32))
    assert receiver.readable()
    with pytest.raises(TlsFailure, match="garbage"):
        receiver.read(100)


# -- both say that they end -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_close_notify_both_ways(pair: Pair, version: str) -> None:
    one, other = connected(contexts(pair), client_context(version=version))
    one.write(b"last")
    one.shutdown()
    carry(one, other)
    assert [other.read(100), other.read(100), other.read(100)] == [b"last", b"", b""]
    other.write(b"answer")  # one direction ended, the other is open (RFC 8446 §6.1)
    other.shutdown()
    carry(other, one)
    assert [one.read(100), one.read(100)] == [b"answer", b""]


def test_shutdown_is_silent_where_there_is_nothing_to_end(pair: Pair) -> None:
    server = contexts(pair).channel()
    server.shutdown()
    assert server.take() == b""
    ends = connected(contexts(pair))
    ends[1].feed(b"\x17\x03\x03\x00\x20" + bytes(32))
    with pytest.raises(TlsFailure):
        ends[1].read(10)
    assert ends[1].take()  # the alert
    ends[1].shutdown()
    assert ends[1].take() == b""


# -- failures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "reason"),
    [
        (b"EHLO client.example\r\n", "plaintext"),
        (b"GET / HTTP/1.1\r\n\r\n", "plaintext"),
        (b"CONNECT x:25 HTTP/1.1\r\n\r\n", "plaintext"),
        (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 25\r\n", "plaintext"),
        (b"QUIT\r\n", "plaintext"),
        (b"\r\n\r\n\0\r\nQUIT\n!\x11\0", "garbage"),
        (b"\x80\x2e\x01\x00\x02" + bytes(60), "garbage"),  # an SSLv2 hello
        (bytes(200), "garbage"),
        (b"\x16\x03\x01\xff\xff" + bytes(200), "garbage"),
        (b"\x16\x03\x01\x00\x05\x02" + bytes(200), "protocol"),
        (b"\x15\x03\x01\x00\x02\x02\x28", "garbage"),  # an alert as the first word
        (b"\x16\x03\x01\x00\xf0\x01\x00\x00\xec\x03\x03", "unfinished"),
        (b"\x16", "unfinished"),
        (b"", "unfinished"),
    ],
)
@pytest.mark.parametrize("cut", [whole, octet_by_octet])
def test_what_is_no_client_hello(pair: Pair, first: bytes, reason: str, cut: Cut) -> None:
    with pytest.raises(TlsFailure) as raised:
        _only_this(contexts(pair).channel(), cut(first))
    assert raised.value.reason == reason
    assert raised.value.reason in REASONS
    assert "client.example" not in str(raised.value)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.binary(max_size=300),
    prefix=st.sampled_from([b"", b"\x16\x03\x01", b"\x16\x03\x01\x00\x40\x01\x00\x00\x3c"]),
)
def test_any_bytes_at_all_are_at_worst_a_failure(pair: Pair, data: bytes, prefix: bytes) -> None:
    with pytest.raises(TlsFailure):
        _only_this(contexts(pair).channel(), (prefix + data,))


def _only_this(server: Channel, pieces: Iterable[bytes]) -> None:
    """A client that sends these bytes and goes."""
    for piece in pieces:
        if piece:
            server.feed(piece)
            server.handshake()
    server.feed_eof()
    server.handshake()


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.floats(0, 1), bit=st.integers(0, 7), flight=st.integers(0, 1), version=st.sampled_from(VERSIONS))
def test_a_damaged_handshake_is_a_failure_or_none(
    pair: Pair, authority: Authority, at: float, bit: int, flight: int, version: str
) -> None:
    """A bit of the client's is flipped: nothing else than TlsFailure comes out, and nothing hangs."""
    ends = client(client_context(authority, version)), contexts(pair).channel()
    sent = iter(range(10))

    def damage(data: bytes) -> Iterable[bytes]:
        if next(sent) != 2 * flight:
            return (data,)
        spot = min(int(at * len(data)), len(data) - 1)
        return (data[:spot] + bytes([data[spot] ^ 1 << bit]) + data[spot + 1 :],)

    try:
        shake(*ends, damage)
    except (TlsFailure, AssertionError):
        with pytest.raises(TlsFailure):
            _only_this(ends[1], ())


def test_nothing_in_common(pair: Pair) -> None:
    context = client_context(version="TLSv1.2")
    context.set_cipher_list(b"ECDHE-RSA-AES128-GCM-SHA256")  # the certificate is ECDSA
    with pytest.raises(TlsFailure) as raised:
        shake(client(context), contexts(pair).channel())
    assert raised.value.reason == "no_shared_cipher"


@pytest.mark.parametrize(("ours", "theirs"), [("TLSv1.3", "TLSv1.2"), ("TLSv1.2", "TLSv1.3")])
def test_no_version_in_common(pair: Pair, ours: str, theirs: str) -> None:
    with pytest.raises(TlsFailure) as raised:
        shake(client(client_context(version=theirs)), contexts(pair, min_version=ours, max_version=ours).channel())
    assert raised.value.reason == "version"


def test_a_client_that_does_not_trust_us(pair: Pair) -> None:
    ends = client(client_context(Authority("Another Root"))), contexts(pair).channel()
    with pytest.raises(TlsFailure):
        shake(*ends)
    carry(*ends)
    with pytest.raises(TlsFailure) as raised:
        ends[1].handshake()
    assert raised.value.reason == "refused"
    assert "unknown ca" in raised.value.detail


def test_renegotiation_is_refused(pair: Pair) -> None:
    context = client_context(version="TLSv1.2")
    ends = connected(contexts(pair), context)
    connection = ends[0]._connection
    connection.renegotiate()
    with pytest.raises(SSL.WantReadError):
        connection.do_handshake()
    carry(*ends)
    assert ends[1].read(10) is None
    assert carry(ends[1], ends[0])  # the alert no_renegotiation, which is for the client to judge: ours ends
    with pytest.raises(TlsFailure) as raised:
        ends[0].handshake()
    assert raised.value.detail == "no renegotiation"
    assert ends[1]._connection.total_renegotiations() == 0


def test_writing_after_a_failure_fails_the_same_way(pair: Pair) -> None:
    server = connected(contexts(pair))[1]
    server.feed(bytes(40))
    for _ in range(2):
        with pytest.raises(TlsFailure, match="garbage"):
            server.read(10)
    with pytest.raises(TlsFailure, match="garbage"):
        server.write(b"x")


# -- channel binding --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_the_channel_binding_is_the_client_s(pair: Pair, version: str) -> None:
    """RFC 9266; the client's value comes from OpenSSL directly."""
    bindings = []
    for _ in range(2):
        one, other = connected(contexts(pair), client_context(version=version))
        expected = one._connection.export_keying_material(b"EXPORTER-Channel-Binding", 32, b"")
        assert other.channel_binding() == expected
        bindings.append(expected)
    assert bindings[0] != bindings[1]


def test_no_channel_binding_in_tls_1_2_without_extended_master_secret(pair: Pair) -> None:
    """Such a session can be put between two others (RFC 9266 §4.2, the triple handshake attack)."""
    context = client_context(version="TLSv1.2")
    context.set_options(1)  # SSL_OP_NO_EXTENDED_MASTER_SECRET
    assert connected(contexts(pair), context)[1].channel_binding() is None


def test_no_channel_binding_before_the_handshake(pair: Pair) -> None:
    assert contexts(pair).channel().channel_binding() is None


# -- what it costs ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("octets", [200, 1 << 20])
def test_an_idle_session_is_small(figures: Callable[[str], None], octets: int) -> None:
    """Also after a mebibyte: memory BIOs never shrink, so they must not grow. In a process that did nothing before."""
    command = [sys.executable, "-m", "tests.tls.idle", str(octets)]
    each_kib = float(subprocess.run(command, check=True, capture_output=True, timeout=60).stdout)
    figures(f"{each_kib:.1f} KiB resident for a channel that is idle after {octets} octets received")
    assert each_kib <= 54  # with 10 for the rest of a session that makes 64


@pytest.mark.parametrize("version", VERSIONS)
def test_what_a_handshake_costs(pair: Pair, figures: Callable[[str], None], version: str) -> None:
    server = contexts(pair)
    context = client_context(version=version)
    spent = []
    for _ in range(100):
        ends = client(context), server.channel()
        mine = 0.0
        done = False
        while not done:
            ends[0].handshake()
            carry(*ends)
            begun = time.thread_time()
            done = ends[1].handshake()
            mine += time.thread_time() - begun
            carry(ends[1], ends[0])
        spent.append(mine)
    figures(
        f"{sorted(spent)[50] * 1e6:.0f} µs of CPU for the server's side of a full {version} ECDSA handshake, median"
    )
