"""Outgoing streams: connect, send and receive, each with a deadline. Knows nothing of SMTP. Needs no monkey patching.

Measured on loopback, µs of CPU for one send and the recv of its answer: 37 with gevent's socket and its time-outs, 29
here. gevent's `Timeout` is a new timer for each wait; a wire has one timer, armed once, which looks at the present
deadline when it fires. And a wire waits before it asks the kernel: in a dialog an answer is never there at once.
"""

from __future__ import annotations

import _socket
import contextlib
import ipaddress
import os
import socket
import time
from typing import TYPE_CHECKING, Any

import gevent
from gevent.hub import get_hub

from mta_front.net.stream import RECEIVE_BYTES, Stream

if TYPE_CHECKING:
    from mta_front.settings.values import Bind

TIMED_OUT = "timed out"

IP_BIND_ADDRESS_NO_PORT = 24
"""ip(7): the port is chosen with the destination, so that one source address has 28,000 ports for each of them."""

_recv = _socket.socket.recv
_WRITE = 2  # libev's EV_WRITE


class WireError(Exception):
    """The stream cannot be had, or broke, or a deadline passed. `reason`: short plain text."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    @property
    def timed_out(self) -> bool:
        """Whether it was a deadline."""
        return self.reason == TIMED_OUT


def dial(address: Bind, timeout_s: float, source_address: str = "") -> Wire:
    """Connect to host and port (every address of the name in turn) or to a Unix socket. Raises WireError.

    `source_address`: the IP address of ours to come from; then only addresses of its family are tried.
    """
    deadline_at = time.monotonic() + timeout_s
    if address.kind == "unix":
        return _connect(socket.AF_UNIX, address.path, timeout_s)
    targets = _resolve(address.host, address.port, timeout_s)
    if source_address:
        own = socket.AF_INET6 if ":" in source_address else socket.AF_INET
        targets = [(family, target) for family, target in targets if family == own]
        if not targets:
            raise WireError(f"no address that {source_address} could reach")
    while True:
        family, target = targets.pop(0)
        left_s = deadline_at - time.monotonic()
        try:
            # A silent address must not eat the time of those behind it.
            return _connect(family, target, left_s / 2 if targets else left_s, source_address)
        except WireError:
            if not targets:
                raise


def _resolve(host: str, port: int, timeout_s: float) -> list[tuple[int, Any]]:
    try:
        version = ipaddress.ip_address(host).version
    except ValueError:
        pass
    else:
        return [(socket.AF_INET if version == 4 else socket.AF_INET6, (host, port))]
    try:
        with gevent.Timeout(timeout_s):
            found = get_hub().resolver.getaddrinfo(host, port, 0, socket.SOCK_STREAM)
    except gevent.Timeout:
        raise WireError("name resolution timed out") from None
    except (OSError, UnicodeError) as error:
        raise WireError(words(error)) from None
    return list(dict.fromkeys((int(family), target) for family, _, _, _, target in found))


def _connect(family: int, target: Any, timeout_s: float, source_address: str = "") -> Wire:
    sock = _socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        sock.setblocking(False)
        if family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if source_address:
            sock.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
            sock.bind((source_address, 0))
        with contextlib.suppress(BlockingIOError):
            sock.connect(target)
            return Wire(sock)
        if family == socket.AF_UNIX:
            # The backlog is full: there is nothing to wait for (connect(2), EAGAIN).
            raise WireError("too many connections wait")
        _await_connection(sock, timeout_s)
    except BaseException as error:
        sock.close()
        if isinstance(error, OSError):
            raise WireError(words(error)) from None
        raise
    return Wire(sock)


def _await_connection(sock: _socket.socket, timeout_s: float) -> None:
    hub: Any = get_hub()
    watcher = hub.loop.io(sock.fileno(), _WRITE)
    try:
        with gevent.Timeout(max(timeout_s, 0.001), WireError(TIMED_OUT)):
            hub.wait(watcher)
    finally:
        watcher.close()
    error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if error:
        raise OSError(error, os.strerror(error))


class Wire(Stream):
    """A dialled stream, used by one greenlet. Every failure is a WireError; after one only `close` makes sense."""

    __slots__ = ("_armed_at", "_closed", "_deadline_at", "_timed_out", "_timer")

    def __init__(self, sock: _socket.socket) -> None:
        super().__init__(sock)
        self._timer: Any = None
        self._armed_at = 0.0  # when the timer fires; 0 = it does not run
        self._deadline_at = 0.0  # of the present wait; 0 = none
        self._timed_out = False
        self._closed = False

    def recv(self, timeout_s: float = 300.0) -> bytes:
        """Wait for bytes; b"" when the peer closed."""
        self._watch(timeout_s)
        try:
            while True:
                self._hub.wait(self._readable)
                try:
                    data = _recv(self._sock, RECEIVE_BYTES)
                    break
                except BlockingIOError:
                    continue
        except OSError as error:
            raise WireError(TIMED_OUT if self._timed_out else words(error)) from None
        finally:
            self._deadline_at = 0.0
        if self._timed_out and not data:
            raise WireError(TIMED_OUT)
        return data

    def recv_now(self) -> bytes | None:
        """What has come already; b"" when the peer closed, None when there is nothing."""
        try:
            return _recv(self._sock, RECEIVE_BYTES)
        except BlockingIOError:
            return None
        except OSError as error:
            raise WireError(words(error)) from None

    def send(self, data: bytes, timeout_s: float = 300.0) -> None:
        """Send all of it."""
        self._watch(timeout_s)
        try:
            super().send(data)
        except OSError as error:
            raise WireError(TIMED_OUT if self._timed_out else words(error)) from None
        finally:
            self._deadline_at = 0.0

    def close(self) -> None:
        """Close it; any number of times."""
        if self._closed:
            return
        self._closed = True
        if self._timer is not None:
            self._timer.close()
        super().close()

    def _watch(self, timeout_s: float) -> None:
        if self._closed or self._timed_out:
            raise WireError(TIMED_OUT if self._timed_out else "closed")
        now = time.monotonic()
        self._deadline_at = now + timeout_s
        if not self._armed_at or self._armed_at > self._deadline_at:
            self._arm(now)

    def _arm(self, now: float) -> None:
        if self._timer is not None:
            self._timer.close()
        self._armed_at = self._deadline_at
        self._timer = self._hub.loop.timer(max(self._deadline_at - now, 0.0))
        self._timer.start(self._look)

    def _look(self) -> None:
        """The timer fired: is somebody waiting beyond the deadline? If only later, look again then."""
        self._armed_at = 0.0
        if not self._deadline_at:
            return
        now = time.monotonic()
        if now < self._deadline_at - 0.001:
            self._arm(now)
        else:
            self._timed_out = True
            self.cut(write=True)


def words(error: BaseException) -> str:
    """An error of the system as people know it: "Connection refused"."""
    if isinstance(error, TimeoutError):
        return TIMED_OUT
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
