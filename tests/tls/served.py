"""A TLS server in a thread with its own hub: echoes what it reads, and notes how each session went."""

from __future__ import annotations

import _socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import gevent
import gevent.event
import gevent.server

from mta_front.net.stream import Stream
from mta_front.net.tlsstream import TlsStream
from mta_front.tls.contexts import Contexts
from mta_front.tls.facts import Facts
from mta_front.tls.failure import TlsFailure
from tests import wait


@dataclass
class Visit:
    """One connection: `facts` or `failure` of its handshake, what was read, and its `end`."""

    facts: Facts | None = None
    failure: TlsFailure | None = None
    spoke_early: bool = False
    binding: bytes | None = None
    received: int = 0
    end: str = ""


@dataclass
class Served:
    """`contexts` may be replaced at any time: new connections get the new ones.

    With `greet_delay_s` it notes whether a client speaks so soon; after `session_timeout_s` it cuts the session.
    """

    address: tuple[str, int]
    contexts: Contexts
    handshake_timeout_s: float
    session_timeout_s: float
    greet_delay_s: float
    visits: list[Visit] = field(default_factory=list)

    def visit(self, number: int = 0) -> Visit:
        """The visit of this number, once it is over."""
        return wait.until(lambda: [each for each in self.visits if each.end][number:][:1], message="a visit's end")[0]


def _serve(served: Served, sock: _socket.socket) -> None:
    sock.setblocking(False)
    visit = Visit()
    served.visits.append(visit)
    stream = TlsStream(Stream(sock), served.contexts.channel())
    watch = gevent.get_hub().loop.timer(served.handshake_timeout_s)
    watch.start(stream.cut)
    try:
        try:
            visit.facts = stream.handshake()
        finally:
            watch.close()
        watch = gevent.get_hub().loop.timer(served.session_timeout_s)
        watch.start(stream.cut)
        if served.greet_delay_s:
            visit.spoke_early = stream.readable_within(served.greet_delay_s)
        visit.binding = stream.channel.channel_binding()
        while data := stream.recv():
            visit.received += len(data)
            stream.send(data)
    except TlsFailure as failure:
        visit.failure = failure
    except OSError:
        end = "lost"
    else:
        end = "closed"
    finally:
        watch.close()
        stream.close()
    visit.end = visit.failure.reason if visit.failure else end


@contextmanager
def served(
    contexts: Contexts,
    handshake_timeout_s: float = 5.0,
    session_timeout_s: float = 60.0,
    greet_delay_s: float = 0.0,
) -> Iterator[Served]:
    """Serve on a free port of loopback."""
    listening = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
    listening.bind(("127.0.0.1", 0))
    listening.listen(128)
    listening.setblocking(False)
    server = Served(listening.getsockname(), contexts, handshake_timeout_s, session_timeout_s, greet_delay_s)
    started = threading.Event()
    made: list[gevent.event.Event] = []
    hubs = []

    def run() -> None:
        greenlets = []

        def accept() -> None:
            with suppress(BlockingIOError):
                while True:
                    fd, _ = _socket.socket._accept(listening)  # type: ignore[attr-defined]
                    greenlets.append(gevent.spawn(_serve, server, _socket.socket(fileno=fd)))

        watcher = gevent.get_hub().loop.io(listening.fileno(), 1)
        watcher.start(accept)
        end = gevent.event.Event()
        made.append(end)
        hubs.append(gevent.get_hub())
        started.set()
        end.wait()
        watcher.close()
        gevent.killall(greenlets)
        gevent.get_hub().destroy()

    thread = threading.Thread(target=run)
    thread.start()
    assert started.wait(10)
    try:
        yield server
    finally:
        hubs[0].loop.run_callback_threadsafe(made[0].set)
        thread.join(20)
        assert not thread.is_alive()
        listening.close()
