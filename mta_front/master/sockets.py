"""Listening sockets, opened so that nobody else can have the same address, SO_REUSEPORT or not.

SO_REUSEPORT lets any process of our uid join our port, so a second master would get half of the connections unseen. The
first socket of an address is therefore bound and made to listen without it (the kernel allows one such listener), and
gets the option afterwards; its siblings then bind with it. There is no moment at which a second master could come
between: of two that race, one fails in `listen` (checked on Linux 6.18; SO_REUSEADDR alone lets both bind, never both
listen).
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from mta_front.master.failure import CannotStart
from mta_front.master.holder import holder_of_port

if TYPE_CHECKING:
    from mta_front.config import Bind


def open_tcp(bind: Bind, count: int, backlog: int) -> list[socket.socket]:
    """`count` listening sockets of one address. Raises CannotStart: 73 in use or not ours, 77 not permitted."""
    family, address = _resolve(bind)
    opened = list[socket.socket]()
    try:
        opened.append(_tcp(family))
        opened[0].bind(address)
        opened[0].listen(backlog)
        opened[0].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        for _ in range(1, count):
            sibling = _tcp(family)
            opened.append(sibling)
            sibling.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sibling.bind(address)
            sibling.listen(backlog)
    except OSError as error:
        for sock in opened:
            sock.close()
        raise _cannot_bind(bind, error) from None
    return opened


def open_unix(bind: Bind, mode: int, backlog: int) -> socket.socket:
    """A listening Unix socket with these permissions, where nobody listens. Call it under the lock of data_dir."""
    path = Path(bind.path).absolute()
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.setblocking(False)
    try:
        if path.is_socket() and _nobody_listens(path):
            path.unlink()  # left by a predecessor that was killed
        before = os.umask(0o777)  # nobody may connect before the mode is as the operator wants it
        try:
            sock.bind(str(path))
        finally:
            os.umask(before)
        path.chmod(mode)
        sock.listen(backlog)
    except OSError as error:
        sock.close()
        raise _cannot_bind(bind, error) from None
    return sock


def remove_unix(sock: socket.socket) -> None:
    """Remove the path of a Unix socket that we opened."""
    with contextlib.suppress(OSError):
        Path(sock.getsockname()).unlink()


def _tcp(family: socket.AddressFamily) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # accepted sockets inherit it: a system call less each
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    return sock


def _resolve(bind: Bind) -> tuple[socket.AddressFamily, tuple[str, int]]:
    """The address to bind; of a name that has several, the first."""
    try:
        found = socket.getaddrinfo(bind.host, bind.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise CannotStart(os.EX_CANTCREAT, f"cannot bind {bind}: {error.strerror}") from None
    family, _, _, _, address = found[0]
    return family, (str(address[0]), bind.port)


def _nobody_listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        return probe.connect_ex(str(path)) == errno.ECONNREFUSED


def _cannot_bind(bind: Bind, error: OSError) -> CannotStart:
    if error.errno in {errno.EACCES, errno.EPERM}:
        need = (
            " (a port below 1024 needs root or CAP_NET_BIND_SERVICE)" if bind.kind == "tcp" and bind.port < 1024 else ""
        )
        return CannotStart(os.EX_NOPERM, f"cannot bind {bind}: {error.strerror}{need}")
    if error.errno == errno.EADDRINUSE:
        holder = holder_of_port(bind.port) if bind.kind == "tcp" else "another process, or it is no socket"
        return CannotStart(os.EX_CANTCREAT, f"cannot bind {bind}: in use by {holder}")
    return CannotStart(os.EX_CANTCREAT, f"cannot bind {bind}: {error.strerror}")
