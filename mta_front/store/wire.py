"""One connection to the store: bytes out, replies in, every wait with a deadline, nothing ever sent twice.

redis-py knows AUTH, SELECT and TLS, so it opens the connection; its `Connection` classes are given gevent's
sockets, which makes them work in any process, patched or not (`rediss://` alone needs a patched one, for gevent's SSL
contexts). All that follows is ours, over hiredis: redis-py's `read_response` closes the connection when one reply of a
pipeline is LOADING or an AUTH error (it raises them as its ConnectionError), and then nobody knows the fate of all
others. What chatters or retries by itself is off: RESP2 (no HELLO), no CLIENT SETINFO, no maintenance notifications,
no health checks, `Retry(NoBackoff, 0)`.
"""

from __future__ import annotations

import contextlib
import select
import time
from collections.abc import Mapping, Sequence
from typing import Any

import gevent
import hiredis
from gevent import socket
from gevent.monkey import get_original
from redis.backoff import NoBackoff
from redis.connection import Connection, SSLConnection, UnixDomainSocketConnection
from redis.exceptions import RedisError
from redis.retry import Retry

from mta_front.store.errors import StoreDown

Command = tuple[Any, ...] | list[Any]

_poll = get_original("select", "poll")  # gevent's own one waits for the loop, even with a time-out of 0
_NOT_YET = object()
_READ_BYTES = 65536


class ReplyError(Exception):
    """An error reply: `code` is its first word (OOM, NOSCRIPT, ERR …), `text` the whole."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text
        self.code = text.partition(" ")[0]


class Lost(Exception):
    """The connection is no more: what was sent and has no reply may have been executed, or may yet be."""

    def __init__(self, reason: str, timed_out: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.timed_out = timed_out


class _Tcp(Connection):
    def _connect(self) -> Any:
        stream = socket.create_connection((self.host, self.port), timeout=self.socket_connect_timeout)
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in self.socket_keepalive_options.items():
            stream.setsockopt(socket.IPPROTO_TCP, option, value)
        stream.settimeout(self.socket_timeout)
        return stream


class _Tls(SSLConnection, _Tcp):
    """`SSLConnection` wraps what `_Tcp` opens."""


class _Unix(UnixDomainSocketConnection):
    def _connect(self) -> Any:
        stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # A Unix socket connects at once or not at all. EAGAIN is a full queue (a frozen store), where gevent's
            # connect would ask again without a pause until its time-out.
            stream._sock.connect(self.path)
            stream.settimeout(self.socket_timeout)
        except BaseException:
            stream.close()
            raise
        return stream


Place = tuple[str, int]  # host and port; of a Unix socket its path and 0


class Access:
    """How to log in at any server of a store. `tls`: options of redis-py's `SSLConnection`; None: no TLS."""

    __slots__ = ("_options", "_tls")

    def __init__(
        self, username: str = "", password: str = "", db: int = 0, tls: Mapping[str, Any] | None = None
    ) -> None:
        self._options = {"username": username or None, "password": password or None, "db": db}
        self._tls = tls

    def connect(self, place: Place, deadline: float) -> Wire:
        """A connection that is logged in, by `deadline` on `time.monotonic()`. `StoreDown` says why not."""
        timeout_s = max(0.001, deadline - time.monotonic())
        host, port = place
        there: dict[str, Any] = {"host": host, "port": port} if port else {"path": host}
        if port and self._tls is not None:
            there |= self._tls
        kind: type[Any] = _Unix if not port else _Tcp if self._tls is None else _Tls
        connection = kind(
            **self._options,
            **there,
            protocol=2,
            driver_info=None,
            retry=Retry(NoBackoff(), 0),
            health_check_interval=0,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
        )
        try:
            with gevent.Timeout(timeout_s, TimeoutError("connecting took too long")):
                connection.connect()
        except (RedisError, OSError) as error:
            connection.disconnect()
            raise StoreDown(str(error) or type(error).__name__) from None
        return Wire(connection, place)


class Wire:
    """Commands out, replies in, in order."""

    __slots__ = ("_buffer", "_connection", "_reader", "_stream", "place")

    def __init__(self, connection: Connection | UnixDomainSocketConnection, place: Place) -> None:
        self.place = place
        self._connection = connection  # it closes the socket when it is collected
        self._stream: Any = connection._get_socket()
        self._reader = hiredis.Reader(replyError=ReplyError, notEnoughData=_NOT_YET)
        self._buffer = bytearray(_READ_BYTES)

    def send(self, commands: Sequence[Command], deadline: float) -> None:
        """Send all of them; `deadline` on `time.monotonic()`. `Lost`: some may have been sent."""
        pack = hiredis.pack_command
        data = b"".join([pack(tuple(command)) for command in commands])
        try:
            self._stream.settimeout(max(0.001, deadline - time.monotonic()))
            self._stream.sendall(data)
        except TimeoutError:
            raise Lost("the store did not take what was sent in time", timed_out=True) from None
        except OSError as error:
            raise Lost(f"connection lost: {error.strerror or error}") from None

    def read(self, deadline: float) -> Any:
        """The next reply; an error reply is returned, as a `ReplyError`. `Lost`: none came by `deadline`, none will."""
        reader = self._reader
        reply = reader.gets()
        while reply is _NOT_YET:
            left_s = deadline - time.monotonic()
            try:
                if left_s <= 0:
                    raise TimeoutError
                self._stream.settimeout(left_s)
                count = self._stream.recv_into(self._buffer)
            except TimeoutError:
                raise Lost("no answer in time", timed_out=True) from None
            except OSError as error:
                raise Lost(f"connection lost: {error.strerror or error}") from None
            if not count:
                raise Lost("the store closed the connection")
            reader.feed(self._buffer, 0, count)  # type: ignore[arg-type]  # any buffer does
            try:
                reply = reader.gets()
            except hiredis.ProtocolError as error:
                raise Lost(f"not a reply: {error}") from None
        return reply

    def ask(self, commands: Sequence[Command], deadline: float) -> list[Any]:
        """Send, and read as many replies."""
        self.send(commands, deadline)
        return [self.read(deadline) for _ in commands]

    def must_be_open(self) -> None:
        """`Lost` when the other side has closed. For a connection that was idle; costs a system call."""
        poller = _poll()
        poller.register(self._stream.fileno(), select.POLLRDHUP)  # POLLHUP and POLLERR come unasked
        if poller.poll(0):
            raise Lost("the store closed the connection")

    def close(self) -> None:
        """Close at once; what was sent may still be executed."""
        with contextlib.suppress(OSError):
            self._connection.disconnect()  # type: ignore[no-untyped-call]
