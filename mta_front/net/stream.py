"""A connected socket in gevent's hub, with no more system calls than it needs.

Measured (DESIGN §7): gevent's own `sendall` makes a `getsockopt` each time, and its `recv` and `send` cost Python on
the way; asking the underlying socket first and the hub only on EAGAIN took a loop from 71 to 45 µs per message.

A stream has no time-outs of its own: whoever watches over it calls `cut()`, and the waiting greenlet goes on at once
with end of file or a broken pipe. No exception is ever thrown into a greenlet from outside, so none can hit it where
it was not waiting for its peer.
"""

from __future__ import annotations

import _socket
import contextlib
from typing import Any

import gevent

RECEIVE_BYTES = 65536

YIELD_S = 1e-6
"""What to sleep so that others run. gevent calls up to 50 callbacks before it looks at sockets again, and a greenlet
that sleeps 0 s is each of them; a timer, however short, is one turn of the loop."""

LINGER_S = 0.5
LINGER_BYTES = 262_144

_recv = _socket.socket.recv
_send = _socket.socket.send
_READ = 1  # libev's EV_READ, EV_WRITE, as gevent's loop.io() takes them
_WRITE = 2


class Stream:
    """`sock` must be connected and non-blocking; the stream owns it."""

    __slots__ = ("_hub", "_readable", "_sock", "_writable")

    def __init__(self, sock: _socket.socket) -> None:
        self._sock = sock
        self._hub: Any = gevent.get_hub()
        self._readable: Any = self._hub.loop.io(sock.fileno(), _READ)
        self._writable: Any = None

    @property
    def socket(self) -> _socket.socket:
        """The socket, for its addresses."""
        return self._sock

    def recv(self, size_bytes: int = RECEIVE_BYTES) -> bytes:
        """At most so much; b"" at end of file. Raises OSError when the connection is broken."""
        try:
            return _recv(self._sock, size_bytes)
        except BlockingIOError:
            pass
        while True:
            self._hub.wait(self._readable)
            try:
                return _recv(self._sock, size_bytes)
            except BlockingIOError:
                continue

    def readable_within(self, timeout_s: float) -> bool:
        """Whether the peer sends something, or goes away, within so many seconds."""
        try:
            with gevent.Timeout(timeout_s) as timeout:
                self._hub.wait(self._readable)
        except gevent.Timeout as error:
            if error is not timeout:
                raise
            return False
        return True

    def send(self, data: bytes) -> None:
        """Send all of it. Raises OSError when the connection is broken."""
        try:
            sent = _send(self._sock, data)
        except BlockingIOError:
            sent = 0
        if sent != len(data):
            self._send_rest(memoryview(data)[sent:])

    def end(self) -> None:
        """What is sent next is the last."""

    def _send_rest(self, rest: memoryview) -> None:
        if self._writable is None:
            self._writable = self._hub.loop.io(self._sock.fileno(), _WRITE)
        while rest:
            self._hub.wait(self._writable)
            with contextlib.suppress(BlockingIOError):
                rest = rest[_send(self._sock, rest) :]

    def cut(self, *, write: bool = False) -> None:
        """Wake whoever waits here: reading ends (b""), with `write` sending too (OSError). Never raises."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(_socket.SHUT_RDWR if write else _socket.SHUT_RD)

    def linger(self) -> None:
        """Say that nothing more comes from here, and read on for a little. Never raises.

        A socket that is closed with input unread resets the connection, and the peer may lose our last words with it
        (RFC 1122 §4.2.2.13).
        """
        with contextlib.suppress(OSError):
            self._sock.shutdown(_socket.SHUT_WR)
            gevent.with_timeout(LINGER_S, self._read_off, timeout_value=None)

    def _read_off(self) -> None:
        left = LINGER_BYTES
        while left > 0 and (data := self.recv()):
            left -= len(data)

    def let_go(self) -> None:
        """Leave the socket to somebody else."""
        for watcher in (self._readable, self._writable):
            if watcher is not None:
                watcher.close()

    def close(self) -> None:
        """Close the socket. Never raises."""
        self.let_go()
        with contextlib.suppress(OSError):
            self._sock.close()


class ResumedStream(Stream):
    """`stream`, of which `ahead` was received already; it takes the socket over."""

    __slots__ = ("_ahead",)

    def __init__(self, stream: Stream, ahead: bytes) -> None:
        super().__init__(stream.socket)
        stream.let_go()
        self._ahead = ahead

    def recv(self, size_bytes: int = RECEIVE_BYTES) -> bytes:
        """See Stream."""
        if self._ahead:
            data, self._ahead = self._ahead[:size_bytes], self._ahead[size_bytes:]
            return data
        return super().recv(size_bytes)

    def readable_within(self, timeout_s: float) -> bool:
        """See Stream."""
        return bool(self._ahead) or super().readable_within(timeout_s)
