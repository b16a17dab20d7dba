"""Somebody who keeps many sessions open, and comes again where one ends."""

from __future__ import annotations

import selectors
import socket
import threading
import time
from types import TracebackType
from typing import Self

TIMEOUT_S = 15.0


class Holding:
    """`count` sessions at once. `failures`: why, for each connection that got no first line. `ended`: sessions that
    ended after it.
    """

    def __init__(self, address: tuple[str, int], count: int) -> None:
        self._address = address
        self.count = count
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._hold, daemon=True)
        self._selector = selectors.DefaultSelector()
        self._greeted: dict[socket.socket, float] = {}  # 0.0: yes; else when it connected
        self.failures: list[str] = []
        self.ended = 0

    @property
    def open(self) -> int:
        """Sessions that have their first line."""
        return sum(at == 0.0 for at in list(self._greeted.values()))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._over.set()
        self._thread.join(10.0)
        for sock in self._greeted:
            sock.close()
        self._selector.close()

    def _hold(self) -> None:
        while not self._over.is_set():
            while len(self._greeted) < self.count:
                self._connect()
            for key, _ in self._selector.select(0.05):
                self._read(key.fileobj)  # type: ignore[arg-type]
            late = [sock for sock, at in self._greeted.items() if at and at < time.monotonic() - TIMEOUT_S]
            for sock in late:
                self._drop(sock, "no line in time")

    def _connect(self) -> None:
        sock = socket.socket()
        sock.setblocking(False)
        sock.connect_ex(self._address)
        self._greeted[sock] = time.monotonic()
        self._selector.register(sock, selectors.EVENT_READ)

    def _read(self, sock: socket.socket) -> None:
        why = ""
        try:
            received = sock.recv(1000)
        except OSError as error:
            received, why = b"", repr(error)
        if self._greeted[sock] == 0.0:
            if not received:
                self.ended += 1
                self._drop(sock, "")
        elif received and not received.startswith(b"4"):
            self._greeted[sock] = 0.0
        else:
            self._drop(sock, why or f"got {received!r}")

    def _drop(self, sock: socket.socket, why: str) -> None:
        if why:
            self.failures.append(why)
        self._selector.unregister(sock)
        sock.close()
        del self._greeted[sock]
