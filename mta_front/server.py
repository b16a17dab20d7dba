"""Listening sockets, hooks and options made into a running server, in the gevent hub of the calling thread.

Knows no store, no master and no settings file: `worker` builds one from the settings, `library` from a call.
"""

from __future__ import annotations

import _socket
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any

import gevent

from mta_front.hooks import Hooks
from mta_front.net.guard import OPEN, Guard
from mta_front.net.listener import Listener
from mta_front.net.opening import open_session
from mta_front.net.options import SessionOptions
from mta_front.net.proxied import read_header, sends_header
from mta_front.net.reverse import SystemResolver
from mta_front.net.roster import Roster
from mta_front.net.session import Pump
from mta_front.net.stream import Stream
from mta_front.net.tally import LocalTally, Tally
from mta_front.observe.events import NOBODY, Events
from mta_front.smtp import replies

KILL_S = 1.0
"""How long a hook has to end when it was interrupted."""

POLL_S = 0.01


class Server:
    """All listeners of one process. `max_connections`: sessions at once, 0 = no limit.

    `greenlets`: those in which sessions, and so hooks, run.
    """

    def __init__(self, sink: Events = NOBODY, max_connections: int = 0) -> None:
        self._sink = sink
        self._roster = Roster(max_connections)
        self._listeners: list[Listener] = []
        self._resolver: SystemResolver | None = None
        self._started = False
        self.connections = 0
        """Accepted, and not yet closed."""
        self.served = 0
        """Accepted since the start."""
        self.on_change: Callable[[], object] = lambda: None
        """Called at each change of `connections`; must not block."""
        self.greenlets: set[Any] = set()

    @property
    def sessions(self) -> int:
        """Live sessions."""
        return len(self._roster)

    def add(
        self,
        sock: _socket.socket,
        options: SessionOptions,
        hooks: Hooks,
        tally: Tally | None = None,
        guard: Guard = OPEN,
    ) -> Listener:
        """Serve `sock` (listening, non-blocking; it stays the caller's). `tally`: sessions at once, default any.
        `guard`: the limits beyond one session, default none.

        After the start it is served at once.
        """
        roster = self._roster
        counted = tally or LocalTally(0)
        if options.reverse_lookup and options.resolver is None:
            self._resolver = self._resolver or SystemResolver()
            options.resolver = self._resolver

        def admit() -> bool:
            if roster.full or not counted.enter():
                return False
            roster.admit()
            self.connections += 1
            self.served += 1
            self.on_change()
            return True

        def serve(accepted: _socket.socket, peer: Any) -> None:
            try:
                self._serve(options, hooks, guard, accepted, peer)
            finally:
                counted.leave()
                roster.release()
                self.connections -= 1
                self.on_change()

        refusal = b"" if options.secure else replies.TOO_MANY_CONNECTIONS.wire  # nothing in clear to who expects TLS
        listener = Listener(sock, serve, admit, partial(self._sink.fault, where="accept"), refusal)
        self._listeners.append(listener)
        if self._started:
            listener.start()
        return listener

    def _serve(self, options: SessionOptions, hooks: Hooks, guard: Guard, sock: _socket.socket, peer: Any) -> None:
        try:
            session = open_session(sock, peer, options)
        except OSError:  # gone before we looked
            sock.close()
            return
        current = gevent.getcurrent()
        self.greenlets.add(current)
        try:
            stream: Stream | None = Stream(sock)
            if stream is not None and sends_header(options, session.remote_address):
                refused = partial(self._sink.proxy_refused, options.listener)
                stream = read_header(stream, session, options, self._roster, refused)
            if stream is not None:
                Pump(stream, session, options, hooks, guard, self._roster, self._sink).run()
        finally:
            self.greenlets.discard(current)

    def start(self) -> None:
        """Begin to accept."""
        self._started = True
        self._roster.start()
        for listener in self._listeners:
            listener.start()

    def stop_accepting(self) -> None:
        """Accept no more; connections wait in the sockets' queues. Live sessions go on."""
        for listener in self._listeners:
            listener.stop()

    def drain(self, timeout_s: float) -> bool:
        """End idle sessions with 421 4.3.2, let transactions finish, end what is left after `timeout_s`.

        True when nothing had to be cut.
        """
        return self._roster.drain(timeout_s)

    def ended_by(self, deadline: float) -> bool:
        """Whether all sessions are over, their `on_close` too, by `deadline` (monotonic seconds)."""
        while self.greenlets and monotonic() < deadline:
            gevent.sleep(POLL_S)
        return not self.greenlets

    def kill(self) -> None:
        """Interrupt hooks that still run, by GreenletExit, and give them `KILL_S` to end."""
        gevent.killall(list(self.greenlets), block=False)
        self.ended_by(monotonic() + KILL_S)

    def end(self) -> None:
        """Leave nothing in the hub; for who goes on with it."""
        self._roster.end()
