"""Outgoing streams: every wait has a deadline, every failure is a WireError."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import gevent
import pytest

from mta_front.net import dialer
from mta_front.net.dialer import Wire, WireError, dial
from mta_front.settings.values import Bind, parse_bind


@contextmanager
def peer(
    serve: Callable[[socket.socket], None], family: int = socket.AF_INET, target: object = ("127.0.0.1", 0)
) -> Iterator[Bind]:
    """Serves one connection in a thread."""
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.bind(target)  # type: ignore[arg-type]
    listener.listen(1)
    name = listener.getsockname()

    def run() -> None:
        stream, _ = listener.accept()
        with stream:
            serve(stream)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    if isinstance(name, str):
        yield parse_bind(f"unix:{name}")
    else:
        yield Bind("tcp", host=name[0], port=name[1])
    thread.join(5.0)
    listener.close()


def echo(stream: socket.socket) -> None:
    while data := stream.recv(65536):
        stream.sendall(data)


def silent(stream: socket.socket) -> None:
    stream.recv(1)
    while stream.recv(65536):
        pass


def talk(wire: Wire) -> None:
    wire.send(b"hello", 1.0)
    assert wire.recv(1.0) == b"hello"
    assert wire.recv_now() is None
    wire.close()
    wire.close()


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6, socket.AF_UNIX])
def test_every_kind_of_address(family: int, tmp_path: Path) -> None:
    target = {socket.AF_INET: ("127.0.0.1", 0), socket.AF_INET6: ("::1", 0), socket.AF_UNIX: str(tmp_path / "s")}
    with peer(echo, family, target[socket.AddressFamily(family)]) as address:
        talk(dial(address, 1.0))


def test_a_name_with_a_dead_address_first(monkeypatch: pytest.MonkeyPatch) -> None:
    with peer(echo) as address:
        dead = (socket.AF_INET, ("127.0.0.1", 1))
        live = (socket.AF_INET, ("127.0.0.1", address.port))
        monkeypatch.setattr(dialer, "_resolve", lambda *_: [dead, live])
        talk(dial(Bind("tcp", host="two.example", port=address.port), 1.0))


def test_localhost_is_resolved() -> None:
    with peer(echo) as address:
        talk(dial(Bind("tcp", host="localhost", port=address.port), 5.0))


def test_a_refused_connection() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        with pytest.raises(WireError, match="Connection refused"):
            dial(Bind("tcp", host="127.0.0.1", port=holder.getsockname()[1]), 1.0)


def test_no_such_socket(tmp_path: Path) -> None:
    with pytest.raises(WireError, match="No such file"):
        dial(parse_bind(f"unix:{tmp_path}/none"), 1.0)


def test_a_name_that_does_not_exist() -> None:
    with pytest.raises(WireError):
        dial(Bind("tcp", host="no-such-host.invalid", port=25), 20.0)


def within(least_s: float, most_s: float, call: Callable[[], object]) -> WireError:
    began_at = time.monotonic()
    with pytest.raises(WireError) as caught:
        call()
    assert least_s <= time.monotonic() - began_at < most_s
    return caught.value


def test_connecting_has_a_deadline() -> None:
    # A listening socket whose queue is full does not answer.
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    address = Bind("tcp", host="127.0.0.1", port=listener.getsockname()[1])
    fillers = []
    for _ in range(4):
        filler = socket.socket()
        filler.setblocking(False)
        filler.connect_ex(("127.0.0.1", address.port))
        fillers.append(filler)
    try:
        error = within(0.2, 1.0, lambda: dial(address, 0.25))
        assert error.timed_out
    finally:
        for each in (*fillers, listener):
            each.close()


def test_receiving_has_a_deadline_and_the_wire_is_done_for() -> None:
    with peer(silent) as address:
        wire = dial(address, 1.0)
        assert within(0.2, 1.0, lambda: wire.recv(0.25)).timed_out
        assert within(0.0, 0.1, lambda: wire.recv(5.0)).timed_out
        assert within(0.0, 0.1, lambda: wire.send(b"x", 5.0)).timed_out
        wire.close()


def test_sending_has_a_deadline() -> None:
    released = threading.Event()

    def deaf(stream: socket.socket) -> None:
        released.wait(5.0)

    with peer(deaf) as address:
        wire = dial(address, 1.0)
        assert within(0.2, 2.0, lambda: wire.send(b"x" * 50_000_000, 0.25)).timed_out
        wire.close()
        released.set()


def test_a_deadline_counts_from_each_wait() -> None:
    """The timer that an earlier wait armed does not end a later one."""

    def slow(stream: socket.socket) -> None:
        for _ in range(4):
            time.sleep(0.15)
            stream.sendall(b"x")
        stream.recv(1)

    with peer(slow) as address:
        wire = dial(address, 1.0)
        assert [wire.recv(0.4) for _ in range(4)] == [b"x"] * 4
        assert within(0.05, 0.35, lambda: wire.recv(0.1)).timed_out
        wire.close()


def test_time_between_waits_does_not_count() -> None:
    with peer(echo) as address:
        wire = dial(address, 1.0)
        wire.send(b"a", 0.1)
        gevent.sleep(0.2)
        assert wire.recv(0.1) == b"a"
        gevent.sleep(0.2)
        wire.send(b"b", 0.1)
        assert wire.recv(0.1) == b"b"
        wire.close()


def test_a_shorter_deadline_after_a_longer_one() -> None:
    with peer(echo) as address:
        wire = dial(address, 1.0)
        wire.send(b"a", 20.0)
        assert wire.recv(20.0) == b"a"
        assert within(0.05, 1.0, lambda: wire.recv(0.1)).timed_out
        wire.close()


def test_the_peer_closes_and_resets() -> None:
    with peer(lambda _: None) as address:
        wire = dial(address, 1.0)
        assert wire.recv(1.0) == b""
        wire.close()

    def reset(stream: socket.socket) -> None:
        stream.recv(10)
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    with peer(reset) as address:
        wire = dial(address, 1.0)
        wire.send(b"x", 1.0)
        with pytest.raises(WireError, match="Connection reset"):
            wire.recv(1.0)
        wire.close()


def test_a_closed_wire_says_so() -> None:
    with peer(silent) as address:
        wire = dial(address, 1.0)
        wire.close()
        for call in (lambda: wire.recv(1.0), lambda: wire.send(b"x", 1.0)):
            with pytest.raises(WireError, match="closed"):
                call()


def test_much_data_in_both_directions() -> None:
    data = bytes(range(256)) * 40_000
    with peer(lambda stream: stream.sendall(read_all(stream, len(data)))) as address:
        wire = dial(address, 1.0)
        wire.send(data, 5.0)
        received = b""
        while len(received) < len(data):
            received += wire.recv(5.0)
        assert received == data
        wire.close()


def read_all(stream: socket.socket, size: int) -> bytes:
    pieces = b""
    while len(pieces) < size:
        pieces += stream.recv(65536)
    return pieces
