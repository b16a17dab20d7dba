"""Who listens on a port: for the one line that tells an operator why we cannot have it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

LISTEN = "0A"
"""The state TCP_LISTEN in /proc/net/tcp (proc_net_tcp in the kernel's documentation)."""


def holder_of_port(port: int) -> str:
    """`pid 123 (its command line)`, as far as /proc shows it to us."""
    inodes = set(_listening_inodes(port))
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if any(_socket_inode(fd) in inodes for fd in (process / "fd").iterdir()):
                command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace").strip()
                return f"pid {process.name} ({command})"
    return "another process"


def _listening_inodes(port: int) -> Iterator[str]:
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for row in Path(table).read_text("ascii").splitlines()[1:]:
                fields = row.split()
                if fields[3] == LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                    yield fields[9]


def _socket_inode(fd: Path) -> str:
    with contextlib.suppress(OSError):
        target = str(fd.readlink())
        if target.startswith("socket:["):
            return target[8:-1]
    return ""
