"""What systemd is told (sd_notify(3)), and the sockets that it opened for us (sd_listen_fds(3)); elsewhere nothing."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Mapping

FIRST_FD = 3
"""SD_LISTEN_FDS_START."""


class Notify:
    """The notification socket of the unit, if there is one. Never waits, never raises: who does not hear, does not."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        usec = (
            environ.get("WATCHDOG_USEC", "")
            if environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
            else ""
        )
        self._every_s = int(usec) / 2_000_000 if usec.isdecimal() and self._address else 0.0
        self._due_at = 0.0 if self._every_s else float("inf")
        self._state = ""

    def state(self, state: str, words: str) -> None:
        """READY, RELOADING or STOPPING, told when it changes; `words` are for `systemctl status`."""
        if state == self._state:
            return
        self._state = state
        lines = [f"{state}=1", f"STATUS={words}"]
        if state == "RELOADING":
            lines.append(f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
        self._send("\n".join(lines))

    def tick(self, now: float) -> None:
        """The loop goes round: systemd's watchdog may know."""
        if now >= self._due_at:
            self._due_at = now + self._every_s
            self._send("WATCHDOG=1")

    def due_at(self) -> float:
        """When `tick` has something to do."""
        return self._due_at

    def _send(self, text: str) -> None:
        if self._address:
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.setblocking(False)
                sock.sendto(text.encode(), self._address)


def listening_fds(environ: Mapping[str, str]) -> list[int]:
    """The descriptors that systemd opened for this process."""
    if environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    count = environ.get("LISTEN_FDS", "")
    return list(range(FIRST_FD, FIRST_FD + int(count))) if count.isdecimal() else []


def given_sockets(environ: Mapping[str, str]) -> dict[str, socket.socket]:
    """The listening sockets among them, by address as settings write it: `HOST:PORT`, `[IPV6]:PORT` or `unix:PATH`."""
    found = {}
    for fd in listening_fds(environ):
        os.set_inheritable(fd, False)
        sock = socket.socket(fileno=fd)
        sock.setblocking(False)
        name = sock.getsockname()
        if sock.family == socket.AF_UNIX:
            found[f"unix:{name}"] = sock
        elif sock.family == socket.AF_INET6:
            found[f"[{name[0]}]:{name[1]}"] = sock
        else:
            found[f"{name[0]}:{name[1]}"] = sock
    return found
