"""Listening sockets, hooks and options made into a running server, in the gevent hub of the calling thread.

Knows no store, no master and no settings file: `worker` builds one from the settings.
"""

from __future__ import annotations

import _socket
from functools import partial
from typing import Any

from mta_front.hooks import Hooks
from mta_front.net.listener import Listener
from mta_front.net.roster import Roster
from mta_front.net.session import Pump, SessionOptions, open_session
from mta_front.net.stream import Stream
from mta_front.observe.events import NOBODY, Events


class Server:
    """All listeners of one process. `max_connections`: sessions at once, 0 = no limit."""

    def __init__(self, sink: Events = NOBODY, max_connections: int = 0) -> None:
        self._sink = sink
        self._roster = Roster(max_connections)
        self._listeners: list[Listener] = []

    @property
    def sessions(self) -> int:
        """Live sessions."""
        return len(self._roster)

    def add(self, sock: _socket.socket, options: SessionOptions, hooks: Hooks, max_clients: int = 0) -> None:
        """Serve `sock` (listening, non-blocking; it stays the caller's). `max_clients`: sessions at once, 0 = any."""
        roster = self._roster
        admitted = 0

        def admit() -> bool:
            nonlocal admitted
            if roster.full or (max_clients and admitted >= max_clients):
                return False
            admitted += 1
            roster.admit()
            return True

        def serve(accepted: _socket.socket, peer: Any) -> None:
            nonlocal admitted
            try:
                self._serve(options, hooks, accepted, peer)
            finally:
                admitted -= 1
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
