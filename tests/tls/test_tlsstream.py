"""`TlsStream` on real sockets, with Python's `ssl` as the client and clients that are none."""

from __future__ import annotations

import _socket
import hashlib
import os
import random
import select
import socket
import ssl
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from mta_front.net import stream
from mta_front.tls.options import NameOptions
from tests import wait
from tests.needs import program
from tests.tls.authority import Authority, Pair
from tests.tls.served import Served, served
from tests.tls.wires import client, contexts

VERSIONS = ["TLSv1.2", "TLSv1.3"]


def python_context(authority: Authority, version: str = "") -> ssl.SSLContext:
    """A client that verifies, and can be held to one version."""
    context = ssl.create_default_context(cadata=authority.pem.decode())
    if version:
        number = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}[version]
        context.minimum_version = context.maximum_version = number
    return context


@contextmanager
def connection(server: Served, context: ssl.SSLContext, name: str = "mx.ours.example") -> Iterator[ssl.SSLSocket]:
    """A Python client after its handshake; ends without a close_notify unless the test sends one."""
    with socket.create_connection(server.address, 10) as plain, context.wrap_socket(plain, server_hostname=name) as tls:
        yield tls


class FullDuplex:
    """A Python client that sends and receives at the same time, in one thread: an SSLSocket in two is not safe."""

    def __init__(self, server: Served, context: ssl.SSLContext) -> None:
        self._plain = socket.create_connection(server.address, 10)
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._in, self._out, server_hostname="mx.ours.example")
        self._unsent = b""

    def until_done(self, step: Callable[[], bool], timeout_s: float = 30.0) -> None:
        """Move ciphertext until `step()` is True."""
        deadline = time.monotonic() + timeout_s
        done = False
        while not done:
            with suppress(ssl.SSLWantReadError):
                done = step()
            self._unsent += self._out.read()
            writing = [self._plain] if self._unsent else []
            readable, writable, _ = select.select([] if done else [self._plain], writing, [], 0.05)
            if writable:
                sent = self._plain.send(self._unsent, socket.MSG_DONTWAIT)
                self._unsent = self._unsent[sent:]
            if readable:
                self._in.write(self._plain.recv(100_000) or b"")
            assert time.monotonic() < deadline, "the server does not go on"

    def close(self) -> None:
        self._plain.close()


@pytest.mark.parametrize("version", VERSIONS)
def test_a_mebibyte_there_and_back(pair: Pair, authority: Authority, version: str) -> None:
    data = os.urandom(1 << 20)
    chance = random.Random(version)
    read = bytearray()
    at = 0
    with served(contexts(pair)) as server:
        client = FullDuplex(server, python_context(authority, version))

        def shake() -> bool:
            client.tls.do_handshake()
            return True

        def exchange() -> bool:
            nonlocal at
            size = chance.choice((1, 100, 5000, 16384, 70000))
            at += client.tls.write(data[at : at + size]) if at < len(data) else 0
            read.extend(client.tls.read(100_000))
            return len(read) == len(data)

        def end() -> bool:
            client.tls.unwrap()  # done when the server's close_notify has come
            return True

        client.until_done(shake)
        client.until_done(exchange)
        facts = server.visits[0].facts
        assert facts is not None
        assert (facts.cipher, facts.version) == client.tls.cipher()[:2]  # type: ignore[index]
        client.until_done(end)
        visit = server.visit()
        client.close()
    assert hashlib.sha256(read).digest() == hashlib.sha256(data).digest()
    assert (visit.received, visit.end) == (len(data), "closed")


@pytest.mark.parametrize("version", VERSIONS)
def test_an_end_without_close_notify_is_told_apart(pair: Pair, authority: Authority, version: str) -> None:
    with served(contexts(pair)) as server:
        with connection(server, python_context(authority, version)) as tls:
            tls.sendall(b"DATA\r\n")
            assert tls.recv(100) == b"DATA\r\n"
            tls.shutdown(socket.SHUT_WR)
            assert server.visit().end == "truncated"
        assert server.visit().received == 6


def test_a_reset_is_no_traceback(pair: Pair, authority: Authority) -> None:
    with served(contexts(pair)) as server:
        with connection(server, python_context(authority)) as tls:
            tls.sendall(b"x")
            assert tls.recv(1) == b"x"
            tls.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        assert server.visit().end == "lost"


@pytest.mark.parametrize(
    ("says", "reason"),
    [
        (b"EHLO client.example\r\n", "plaintext"),
        (b"\0" * 300, "garbage"),
        (b"", "unfinished"),
        (b"\x16\x03\x01", "unfinished"),
    ],
)
@pytest.mark.parametrize("how", ["ends", "waits"])
def test_a_client_that_speaks_no_tls(pair: Pair, says: bytes, reason: str, how: str) -> None:
    """It goes away, or waits until whoever watches over the handshake cuts it."""
    with served(contexts(pair), handshake_timeout_s=0.3) as server:
        with socket.create_connection(server.address, 10) as plain:
            plain.sendall(says)
            if how == "ends":
                plain.shutdown(socket.SHUT_WR)
            answer = b""
            while data := plain.recv(100):
                answer += data
        assert server.visit().end == reason
    assert answer[:1] in (b"", b"\x15")  # an alert, or nothing


@pytest.mark.parametrize("version", VERSIONS)
def test_a_client_that_stops_inside_the_handshake(pair: Pair, version: str) -> None:
    one = client()
    one.handshake()
    hello = one.take()
    with served(contexts(pair), handshake_timeout_s=0.3) as server:
        with socket.create_connection(server.address, 10) as plain:
            plain.sendall(hello)
            while plain.recv(10_000):
                pass
            assert server.visit().end == "unfinished"
        with socket.create_connection(server.address, 10) as plain:
            plain.sendall(hello)
            plain.recv(1)
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        assert server.visit(1).end == "unfinished"


def test_a_client_without_the_certificate_that_a_name_needs(
    pair: Pair, authority: Authority, client_authority: Authority, client_pair: Pair, tmp_path: Path
) -> None:
    key, cert = client_pair.files(tmp_path, "alice")
    strict = NameOptions(request_cert=True, ca=client_authority.pem)
    with served(contexts(pair, sni={"mx.ours.example": strict})) as server:
        context = python_context(authority)
        with pytest.raises(ssl.SSLError, match="ALERT"), connection(server, context) as tls:
            tls.recv(1)  # in TLS 1.3 the client thinks that it is done before the server has judged
        context.load_cert_chain(cert, key)
        with connection(server, context) as tls:
            tls.sendall(b"x")
            assert tls.recv(1) == b"x"


def test_bytes_in_one_packet_with_the_end_of_the_handshake(pair: Pair) -> None:
    """A client may send its first command together with its Finished."""
    one = client()
    with (
        served(contexts(pair), greet_delay_s=5.0) as server,
        socket.create_connection(server.address, 10) as plain,
    ):
        while not one.handshake():
            if data := one.take():
                plain.sendall(data)
            one.feed(plain.recv(100_000))
        one.write(b"EHLO x\r\n")
        plain.sendall(one.take())
        while (answer := one.read(100)) is None:
            one.feed(plain.recv(100_000))
        assert answer == b"EHLO x\r\n"
        assert server.visits[0].spoke_early


def test_a_silent_client_does_not_speak_early(pair: Pair, authority: Authority) -> None:
    with (
        served(contexts(pair), greet_delay_s=0.1) as server,
        connection(server, python_context(authority)) as tls,
    ):
        wait.until(lambda: server.visits[0].binding)
        tls.sendall(b"EHLO x\r\n")
        assert tls.recv(100) == b"EHLO x\r\n"
        assert not server.visits[0].spoke_early


def test_a_session_that_is_cut_has_ended_like_any_other(pair: Pair, authority: Authority) -> None:
    """`cut()` is ours: the client has not gone away, and hears that we end."""
    with (
        served(contexts(pair), session_timeout_s=0.2) as server,
        connection(server, python_context(authority)) as tls,
    ):
        assert tls.recv(100) == b""
        assert server.visit().end == "closed"


def test_new_contexts_serve_new_connections_and_old_ones_go_on(authority: Authority, pair: Pair) -> None:
    with served(contexts(pair)) as server, connection(server, python_context(authority)) as old:
        server.contexts = contexts(authority.issue("mx.ours.example", "rsa"))
        with connection(server, python_context(authority)) as new:
            assert old.getpeercert(True) != new.getpeercert(True)
            for tls in (old, new):
                tls.sendall(b"x")
                assert tls.recv(1) == b"x"


def test_key_updates_without_end_do_not_stop_others(pair: Pair, authority: Authority) -> None:
    """s_client sends a KeyUpdate, which carries no plaintext and wants an answer, at each line "K"."""
    with served(contexts(pair)) as server:
        host, port = server.address
        command = [program("openssl"), "s_client", "-tls1_3", "-connect", f"{host}:{port}"]
        flood = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert flood.stdin
        assert flood.stdout
        wait.until(lambda: server.visits and server.visits[0].facts, message="the flooder's handshake")
        for _ in range(200):
            flood.stdin.write(b"K\n")
            flood.stdin.flush()
        with connection(server, python_context(authority)) as tls:
            tls.sendall(b"x")
            assert tls.recv(1) == b"x"
        flood.stdin.write(b"still here\n")
        flood.stdin.flush()
        while b"still here" not in flood.stdout.readline():
            pass
        flood.stdin.close()
        flood.stdout.read()
        flood.stdout.close()
        assert flood.wait(10) == 0


def test_system_calls_of_a_session(
    pair: Pair, authority: Authority, figures: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One send for each flush, and the ticket travels with the first reply."""
    sent: list[int] = []
    real = stream._send

    def send(sock: _socket.socket, data: bytes) -> int:
        sent.append(len(data))
        return real(sock, data)

    monkeypatch.setattr(stream, "_send", send)
    with served(contexts(pair)) as server, connection(server, python_context(authority, "TLSv1.3")) as tls:
        for _ in range(3):
            tls.sendall(b"NOOP\r\n")
            assert tls.recv(100) == b"NOOP\r\n"
    figures(f"{len(sent)} sends for a TLS 1.3 handshake and three commands: {sent} octets")
    assert len(sent) == 4


def test_handshakes_in_a_row(pair: Pair, authority: Authority, figures: Callable[[str], None]) -> None:
    """What another session waits while a hundred clients connect."""
    with served(contexts(pair)) as server, connection(server, python_context(authority)) as tls:
        script = "from tests.tls import crowd; import sys; crowd.main(sys.argv[1], int(sys.argv[2]), 100)"
        crowd = subprocess.Popen([sys.executable, "-c", script, server.address[0], str(server.address[1])])
        waits = []
        while crowd.poll() is None:
            begun = time.monotonic()
            tls.sendall(b"x")
            tls.recv(1)
            waits.append(time.monotonic() - begun)
        assert crowd.returncode == 0
        wait.until(lambda: sum(visit.facts is not None for visit in server.visits) == 101)
    median, worst = (sorted(waits)[at] * 1e3 for at in (len(waits) // 2, -1))
    figures(f"round trip while 100 clients connect: median {median:.1f} ms, worst {worst:.1f} ms")
