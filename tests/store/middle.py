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

from tests.stores import Store


class Middle:
    """Listens on a socket of its own and passes bytes on to the store and back. Use it in a `with`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._directory = Path(tempfile.mkdtemp(prefix="mta-mid-"))
        self._path = self._directory / "m"
        self._listener: Any = None
        self._greenlets: list[Any] = []
        self._pairs: list[_Pair] = []
        self.requests = 0  # pieces that went to the store
        self.connections = 0
        self.change: Callable[[bytes], bytes] = lambda piece: piece  # of replies
        self.cut_after: Callable[[bytes], bool] = lambda piece: (
            False
        )  # cut it when this request was passed on; its reply is lost
        self.hold_after: Callable[[bytes], bool] = lambda piece: (
            False
        )  # this connection's replies are lost from here on
        self.cut_before: Callable[[bytes], bool] = lambda piece: False  # cut it instead of passing this request on

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

    def cut(self) -> None:
        """Close all connections."""
        for pair in list(self._pairs):
            pair.close()

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            self.connections += 1
            server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            server.connect(str(self._store.socket))
            pair = _Pair(client, server)
            self._pairs.append(pair)
            self._greenlets.append(gevent.spawn(self._pass_requests, pair))
            self._greenlets.append(gevent.spawn(self._pass_replies, pair))

    def _pass_requests(self, pair: _Pair) -> None:
        with contextlib.suppress(OSError):
            while piece := pair.client.recv(1 << 20):
                self.requests += 1
                if self.cut_before(piece):
                    break
                cut = self.cut_after(piece)
                pair.held = pair.held or cut or self.hold_after(piece)
                pair.server.sendall(piece)
                if cut:
                    gevent.sleep(0.05)  # the store has what it was sent before the connection ends
                    break
        pair.close()

    def _pass_replies(self, pair: _Pair) -> None:
        with contextlib.suppress(OSError):
            while piece := pair.server.recv(1 << 20):
                if not pair.held:
                    pair.client.sendall(self.change(piece))
        pair.close()


class _Pair:
    """One connection of ours and the one to the store."""

    def __init__(self, client: Any, server: Any) -> None:
        self.client = client
        self.server = server
        self.held = False  # the store executes, and nobody hears of it

    def close(self) -> None:
        """Both."""
        self.client.close()
        self.server.close()
