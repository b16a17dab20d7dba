"""Somebody who connects all the while, and notes each time that he is not answered: refused, reset, or kept waiting."""

from __future__ import annotations

import socket
import threading
import time
from types import TracebackType
from typing import Self


class Knocking:
    """Connects `rate_s` times a second in all, from several threads; each waits for the first line and hangs up.

    `failures`: why, for each that got no line. `slowest_s`: the longest that somebody waited for his line.
    """

    def __init__(
        self, address: tuple[str, int], rate_s: float = 200.0, threads: int = 8, timeout_s: float = 10.0
    ) -> None:
        self._address = address
        self._pause_s = threads / rate_s
        self._timeout_s = timeout_s
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._knock, daemon=True) for _ in range(threads)]
        self._lock = threading.Lock()
        self.failures: list[str] = []
        self.answered = 0
        self.slowest_s = 0.0

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(self._timeout_s + 5.0)

    def _knock(self) -> None:
        due_at = time.monotonic()
        while not self._over.wait(max(0.0, due_at - time.monotonic())):
            due_at = max(due_at + self._pause_s, time.monotonic() - 1.0)
            began_at = time.monotonic()
            why = self._once()
            with self._lock:
                if why:
                    self.failures.append(why)
                else:
                    self.answered += 1
                    self.slowest_s = max(self.slowest_s, time.monotonic() - began_at)

    def _once(self) -> str:
        try:
            with socket.create_connection(self._address, timeout=self._timeout_s) as client:
                line = client.recv(200)
                return "" if line and not line.startswith(b"4") else f"got {line!r}"
        except OSError as error:
            return repr(error)
