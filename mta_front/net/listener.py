"""A listening socket in gevent's hub: accepts, refuses what is too much, and starts a session for the rest."""

from __future__ import annotations

import _socket
import contextlib
import errno
from collections.abc import Callable
from typing import Any

import gevent

ACCEPTS_PER_TURN = 64
"""Accepted in a row before other greenlets run (DECISIONS P9)."""

PAUSE_S = 0.2
"""Out of file handles or memory: so long no accept is tried; clients wait in the queue meanwhile."""

_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_READ = 1


class Listener:
    """`sock` listens and is non-blocking; it stays its owner's. `serve(sock, peer)` runs in a greenlet per connection;
    `admit()` counts it in, or says that there are too many: then the client hears `refusal` (b"": nothing).
    """

    def __init__(
        self,
        sock: _socket.socket,
        serve: Callable[[_socket.socket, Any], None],
        admit: Callable[[], bool],
        failed: Callable[[BaseException], None],
        refusal: bytes,
    ) -> None:
        self._sock = sock
        self._serve = serve
        self._admit = admit
        self._failed = failed
        self._refusal = refusal
        self._family, self._type, self._proto = sock.family, sock.type, sock.proto
        self._watcher: Any = None
        self._pause: Any = None

    def on(self, sock: _socket.socket) -> Listener:
        """The same for another socket, not started."""
        return Listener(sock, self._serve, self._admit, self._failed, self._refusal)

    def start(self) -> None:
        """Begin to accept."""
        if self._watcher is not None:
            return
        loop = gevent.get_hub().loop
        self._watcher = loop.io(self._sock.fileno(), _READ)
        self._pause = loop.timer(PAUSE_S)
        self._watcher.start(self._accept)

    def stop(self) -> None:
        """Accept no more; the socket stays open and its queue fills."""
        for watcher in (self._watcher, self._pause):
            if watcher is not None:
                watcher.stop()
                watcher.close()
        self._watcher = self._pause = None

    def finish(self) -> None:
        """Accept what still waits, then no more: the socket is about to be closed, which would reset it."""
        self.stop()
        while self._accept():
            pass

    def _accept(self) -> bool:
        """Runs in the hub: must not block. Whether more may wait."""
        for _ in range(ACCEPTS_PER_TURN):
            try:
                fd, peer = _socket.socket._accept(self._sock)  # type: ignore[attr-defined]
            except BlockingIOError:
                return False
            except ConnectionError:
                continue  # ECONNABORTED: it came and went
            except OSError as error:
                self._failed(error)
                if error.errno in _EXHAUSTED and self._watcher is not None:
                    self._watcher.stop()
                    self._pause.start(lambda: self._watcher.start(self._accept))
                return False
            sock = _socket.socket(self._family, self._type, self._proto, fileno=fd)
            sock.setblocking(False)
            if self._admit():
                gevent.spawn_raw(self._serve, sock, peer)
            else:
                self._turn_away(sock)
        return True

    def _turn_away(self, sock: _socket.socket) -> None:
        with contextlib.suppress(OSError):
            if self._refusal:
                sock.send(self._refusal)
        sock.close()
