"""A real server of ours in a thread with its own hub: no master, no store, no monkey patching."""

from __future__ import annotations

import _socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gevent
import gevent.event

from mta_front.hooks import Hooks
from mta_front.net.guard import OPEN, Guard
from mta_front.net.options import SessionOptions
from mta_front.net.tally import LocalTally
from mta_front.observe.events import Events
from mta_front.server import Server


class Noted(Events):
    """Keeps what was reported."""

    def __init__(self) -> None:
        self.opened = 0
        self.closed: list[str] = []
        self.proxy_refused_for: list[str] = []
        self.tls_failed_for: list[str] = []
        self.faults: list[BaseException] = []
        self.accepted: list[dict[str, Any]] = []
        self.refused: list[tuple[str, int]] = []
        self.logins: list[tuple[str, int]] = []

    def session_opened(self, listener: str) -> None:
        self.opened += 1

    def proxy_refused(self, listener: str, reason: str) -> None:
        self.proxy_refused_for.append(reason)

    def tls_failed(self, listener: str, reason: str) -> None:
        self.tls_failed_for.append(reason)

    def session_closed(self, listener: str, reason: str, summary: dict[str, Any]) -> None:
        self.closed.append(reason)

    def fault(self, error: BaseException, where: str) -> None:
        self.faults.append(error)

    def message_accepted(self, listener: str, summary: dict[str, Any]) -> None:
        self.accepted.append(summary)

    def login(self, listener: str, method: str, code: int) -> None:
        self.logins.append((method, code))

    def command_refused(self, listener: str, verb: str, code: int) -> None:
        self.refused.append((verb, code))


class Live:
    """`address` to connect to; `call(f)` runs `f(server)` in the server's hub and returns its result."""

    def __init__(self, address: tuple[str, int], server: Server, noted: Noted, hub: Any) -> None:
        self.address = address
        self.server = server
        self.noted = noted
        self._hub = hub

    def in_hub(self, function: Any) -> None:
        """Run it as a callback of the hub: nothing else runs until it returns."""
        self._hub.loop.run_callback(function)

    def call(self, function: Any) -> Any:
        done = threading.Event()
        result: list[Any] = []

        def run() -> None:
            result.append(function(self.server))
            done.set()

        self._hub.loop.run_callback_threadsafe(gevent.spawn, run)
        assert done.wait(30), "the server's hub did not answer"
        return result[0]


def options(**given: Any) -> SessionOptions:
    """Session options: all is advertised, nobody needs to log in, errors are not counted, unless the test says so."""
    hidden = dict.fromkeys(("hide_dsn", "hide_enhancedstatuscodes", "hide_requiretls"), False)
    values: dict[str, Any] = {"listener": "test", "name": "mx.ours.example", "auth_optional": True}
    values |= {"max_errors": 0, "max_junk_commands": 0} | hidden | given
    values["disabled_commands"] = frozenset(values.get("disabled_commands", ()))
    return SessionOptions(**values)


@contextmanager
def live(
    hooks: Hooks, max_connections: int = 0, max_clients: int = 0, guard: Guard = OPEN, **given: Any
) -> Iterator[Live]:
    """Run a server; ends with all its sessions cut."""
    sock = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
    sock.bind(("127.0.0.1", 0))
    sock.listen(128)
    sock.setblocking(False)
    noted = Noted()
    started = threading.Event()
    made: list[Any] = []

    def serve() -> None:
        server = Server(noted, max_connections)
        server.add(sock, options(**given), hooks, LocalTally(max_clients), guard)
        server.start()
        end = gevent.event.Event()
        made.extend([server, gevent.get_hub(), end])
        started.set()
        end.wait()
        server.stop_accepting()
        server.drain(0.0)
        gevent.get_hub().destroy()

    thread = threading.Thread(target=serve)
    thread.start()
    assert started.wait(10)
    server, hub, end = made
    try:
        yield Live(sock.getsockname(), server, noted, hub)
    finally:
        hub.loop.run_callback_threadsafe(end.set)
        thread.join(20)
        assert not thread.is_alive()
        sock.close()
