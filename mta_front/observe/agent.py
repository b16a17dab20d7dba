"""HAProxy's agent-check: a port that says one line to whoever connects, closes, and reads nothing (DECISIONS W13).

    ready up 87%   in service; the number is the part of our capacity that is free, HAProxy's weight for us
    drain          we end: sessions go on, new connections go to others
    maint          not ready (see /readyz), or without workers: no connection can be served

"up" alone does not take back "drain" or "maint", so "ready" stands before it (DECISIONS W11; HAProxy's configuration
manual, agent-check).
"""

from __future__ import annotations

import _socket
import contextlib
import errno
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from gevent import sleep
from gevent.socket import wait_read

if TYPE_CHECKING:
    from mta_front.config import Settings

ACCEPTS_PER_TURN = 64
"""Answered in a row before probes and scrapes get their turn (DECISIONS P9)."""

PAUSE_S = 0.2
"""Out of file handles or memory: so long nobody is answered."""

_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


def capacity_of(settings: Settings) -> int:
    """Sessions that we may have at once: all workers together, and all listeners where each has a limit."""
    most = settings.server.max_connections * settings.server.workers
    limits = [listener.max_clients for listener in settings.listeners]
    return min(most, sum(limits)) if limits and all(limits) else most


def line_of(status: dict[str, Any], faults: list[str], capacity: int) -> bytes:
    """What is true of us now. `status`: the master's; `faults`: why we are not ready; `capacity`: sessions at once."""
    if status.get("state") == "draining":
        return b"drain\n"
    workers = [row for row in status.get("children", ()) if row["kind"] == "worker"]
    if faults or not workers:
        return b"maint\n"
    sessions = sum(row["sessions"] for row in workers)
    # Never 0: a weight of 0 is "drain" under another name, and a full server still has an answer, 421.
    free = max(1, 100 - 100 * sessions // capacity)
    return b"ready up %d%%\n" % free


class AgentPort:
    """`sock` listens and does not block. `line` is asked for each connection."""

    def __init__(self, sock: _socket.socket, line: Callable[[], bytes]) -> None:
        self._sock = sock
        self._line = line

    def serve(self) -> NoReturn:
        """Answer, in a greenlet, for as long as the process lives. No connection outlives its answer, so there is
        nothing to limit.
        """
        while True:
            wait_read(self._sock.fileno())
            sleep(0 if self._answer_some() else PAUSE_S)

    def _answer_some(self) -> bool:
        """Whether there are resources for more."""
        for _ in range(ACCEPTS_PER_TURN):
            try:
                fd, _peer = _socket.socket._accept(self._sock)  # type: ignore[attr-defined]
            except BlockingIOError:
                break
            except ConnectionError:
                continue  # ECONNABORTED: it came and went
            except OSError as error:
                return error.errno not in _EXHAUSTED
            client = _socket.socket(self._sock.family, self._sock.type, self._sock.proto, fileno=fd)
            with contextlib.suppress(OSError):  # gone before our answer
                client.setblocking(False)
                client.send(self._line())
            client.close()
        return True
