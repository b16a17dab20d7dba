"""Signals, as something that a loop can wait for.

The handlers only append; the interpreter writes a byte to the wake-up socket, so that a selector returns. What a signal
means is decided by the loop, outside of any handler.
"""

from __future__ import annotations

import contextlib
import signal
import socket
from collections import deque

HEARD = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGTTIN,
    signal.SIGTTOU,
    signal.SIGCHLD,
)


class Signals:
    """The signals that came and were not yet looked at."""

    def __init__(self) -> None:
        self.pending: deque[signal.Signals] = deque()
        self.wakeup, self._written = socket.socketpair()
        self.wakeup.setblocking(False)
        self._written.setblocking(False)

    def install(self) -> None:
        """From now on signals arrive here."""
        signal.set_wakeup_fd(self._written.fileno(), warn_on_full_buffer=False)
        for number in HEARD:
            signal.signal(number, self._append)

    def restore(self) -> None:
        """The master is done: signals do again what they do by default."""
        signal.set_wakeup_fd(-1)
        for number in HEARD:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        self.close()

    def drain(self) -> None:
        """Empty the wake-up socket."""
        with contextlib.suppress(BlockingIOError):
            while self.wakeup.recv(4096):
                pass

    def close(self) -> None:
        """Drop the sockets: at the end, and in a child."""
        self.wakeup.close()
        self._written.close()

    def _append(self, number: int, _frame: object) -> None:
        self.pending.append(signal.Signals(number))
