"""When a worker has done enough: it has served many sessions, or holds much memory. It says so, serves on, and drains
when its successor is ready.
"""

from __future__ import annotations

import random
import resource
from collections.abc import Callable
from pathlib import Path

import gevent

LOOK_S = 1.0
JITTER = 0.1
"""Workers that began together do not end together."""


class Renewal:
    """`max_sessions`, give or take a tenth; `max_memory_bytes`, resident. 0: any number."""

    def __init__(self, max_sessions: int, max_memory_bytes: int, served: Callable[[], int]) -> None:
        self._max_sessions = round(max_sessions * random.uniform(1 - JITTER, 1 + JITTER))  # noqa: S311 - no secret
        self._max_memory_bytes = max_memory_bytes
        self._served = served

    def start(self, ask: Callable[[str], object]) -> None:
        """Look each second; `ask(reason)` once."""
        if self._max_sessions or self._max_memory_bytes:
            gevent.spawn(self._watch, ask)

    def _watch(self, ask: Callable[[str], object]) -> None:
        while not (reason := self.reason()):
            gevent.sleep(LOOK_S)
        ask(reason)

    def reason(self) -> str:
        """Why it is enough; "" while it is not."""
        if self._max_sessions and self._served() >= self._max_sessions:
            return f"{self._served()} sessions served"
        if self._max_memory_bytes and (held := _resident_bytes()) > self._max_memory_bytes:
            return f"{held >> 20} MiB of memory"
        return ""


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * resource.getpagesize()
