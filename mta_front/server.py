"""Listening sockets, hooks and options made into a running server, in the gevent hub of the calling thread.

Knows no store, no master and no settings file: `worker` builds one from the settings, `library` from a call.
"""

from __future__ import annotations

import _socket
from functools import partial
from typing import Any

from mta_front.hooks import Hooks
from mta_front.net.listener import Listener
from mta_front.net.opening import open_session
from mta_front.net.options import SessionOptions
from mta_front.net.reverse import SystemResolver
from mta_front.net.roster import Roster
from mta_front.net.session import Pump
from mta_front.net.stream import Stream
from mta_front.net.tally import LocalTally, Tally
from mta_front.observe.events import NOBODY, Events


class Server:
    """All listeners of one process. `max_connections`: sessions at once, 0 = no limit."""

    def __init__(self, sink: Events = NOBODY, max_connections: int = 0) -> None:
        self._sink = sink
        self._roster = Roster(max_connections)
        self._listeners: list[Listener] = []
        self._resolver: SystemResolver | None = None

    @property
    def sessions(self) -> int:
        """Live sessions."""
        return len(self._roster)

    def add(self, sock: _socket.socket, options: SessionOptions, hooks: Hooks, tally: Tally | None = None) -> None:
        """Serve `sock` (listening, non-blocking; it stays the caller's). `tally`: sessions at once, default any."""
        roster = self._roster
        counted = tally or LocalTally(0)
        if options.reverse_lookup and options.resolver is None:
            self._resolver = self._resolver or SystemResolver()
            options.resolver = self._resolver

        def admit() -> bool:
            if roster.full or not counted.enter():
                return False
            roster.admit()
            return True

        def serve(accepted: _socket.socket, peer: Any) -> None:
            try:
                self._serve(options, hooks, accepted, peer)
            finally:
                counted.leave()
                roster.release()

        self._listeners.append(Listener(sock, serve, admit, partial(self._sink.fault, where="accept")))

    def _serve(self, options: SessionOptions, hooks: Hooks, sock: _socket.socket, peer: Any) -> None:
        try:
            session = open_session(sock, peer, options)
        except OSError:  # gone before we looked
            sock.close()
            return
        Pump(Stream(sock), session, options, hooks, self._roster, self._sink).run()

    def start(self) -> None:
        """Begin to accept."""
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
