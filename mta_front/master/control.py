"""The master's end of a child's control socket: JSON lines, never a wait. `master/child.py` lists the lines."""

from __future__ import annotations

import json
import socket
from typing import Any

READ_BYTES = 65_536
LONGEST_LINE_BYTES = 65_536


class Control:
    """One child's line to the master."""

    __slots__ = ("_pending", "_unsent", "socket")

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self.socket = end
        self._unsent = b""
        self._pending = b""

    def state(self) -> dict[str, Any]:
        """For the next program in this process."""
        lines = {"unsent": self._unsent.decode("latin-1"), "pending": self._pending.decode("latin-1")}
        return {"fd": self.socket.fileno(), **lines}

    @classmethod
    def of_state(cls, state: dict[str, Any]) -> Control:
        """A line that an earlier program held."""
        control = cls(socket.socket(fileno=state["fd"]))
        control._unsent, control._pending = state["unsent"].encode("latin-1"), state["pending"].encode("latin-1")
        return control

    def order(self, **order: Any) -> None:
        """Send an order, or keep it until the child reads. A child that is gone is no error: it will be reaped."""
        self._unsent += json.dumps(order).encode() + b"\n"
        self.flush()

    def inform(self, **news: Any) -> None:
        """Send news that the next ones replace: dropped when the child has not read what came before."""
        self.flush()
        if not self._unsent:
            self.order(**news)

    def flush(self) -> None:
        """Send what is left of earlier lines."""
        try:
            while self._unsent:
                self._unsent = self._unsent[self.socket.send(self._unsent) :]
        except OSError:
            pass  # full: later. Closed: the child is dead or dying.

    def receive(self) -> list[dict[str, Any]] | None:
        """The lines that came; None at the end of file, and when what came is no line of ours."""
        try:
            received = self.socket.recv(READ_BYTES)
        except BlockingIOError:
            return []
        except OSError:
            return None
        if not received:
            return None
        *lines, self._pending = (self._pending + received).split(b"\n")
        if len(self._pending) > LONGEST_LINE_BYTES:
            return None
        try:
            reports = [json.loads(line) for line in lines]
        except ValueError:
            return None
        return reports if all(isinstance(report, dict) for report in reports) else None

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self.socket.fileno() < 0

    def close(self) -> None:
        """The child is gone, or has nothing more to say."""
        self.socket.close()
