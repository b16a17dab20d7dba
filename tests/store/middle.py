"""What may go wrong between us and a real store, on purpose: a relay of bytes that can hold, cut and change them."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import gevent
from gevent import socket
from gevent.event import Event

from tests.stores import Store


class Middle:
    """Listens on a socket of its own and passes bytes on to the store and back. Use it in a `with`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._directory = Path(tempfile.mkdtemp(prefix="mta-mid-"))
        self._path = self._directory / "m"
        self._listener: Any = None
        self._greenlets: list[Any] = []
        self._pairs: list[tuple[Any, Any]] = []
        self._open = Event()  # replies pass
        self._open.set()
        self.requests = 0  # pieces that went to the store
        self.connections = 0
        self.change: Callable[[bytes], bytes] = lambda piece: piece  # of replies
        self.cut_after: Callable[[bytes], bool] = lambda piece: False  # cut when this request has been passed on
        self.cut_before: Callable[[bytes], bool] = lambda piece: False  # cut instead of passing this request on

    @property
    def url(self) -> str:
        """For `StoreOptions`."""
        return f"unix://{self._path}"

    def __enter__(self) -> Self:
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(self._path))
        self._listener.listen()
        self._greenlets.append(gevent.spawn(self._accept))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        gevent.killall(self._greenlets)
        self.cut()
        self._listener.close()
        self._path.unlink()
        self._directory.rmdir()

    def hold_replies(self) -> None:
        """The store executes, and nobody hears of it."""
        self._open.clear()

    def cut(self) -> None:
        """Close all connections."""
        pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for side in pair:
                side.close()
        self._open.set()

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            self.connections += 1
            server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            server.connect(str(self._store.socket))
            self._pairs.append((client, server))
            self._greenlets.append(gevent.spawn(self._pass_requests, client, server))
            self._greenlets.append(gevent.spawn(self._pass_replies, server, client))

    def _pass_requests(self, client: Any, server: Any) -> None:
        with contextlib.suppress(OSError):
            while piece := client.recv(1 << 20):
                self.requests += 1
                if self.cut_before(piece):
                    self.cut()
                    return
                server.sendall(piece)
                if self.cut_after(piece):
                    self.hold_replies()
                    gevent.sleep(0.05)  # the store has what it was sent before the connection ends
                    self.cut()
                    return
        client.close()
        server.close()

    def _pass_replies(self, server: Any, client: Any) -> None:
        with contextlib.suppress(OSError):
            while piece := server.recv(1 << 20):
                self._open.wait()
                client.sendall(self.change(piece))
        client.close()
        server.close()
