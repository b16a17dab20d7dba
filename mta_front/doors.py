"""Listening sockets of the library: bound at once, so that a taken port is an error where it is asked for."""

from __future__ import annotations

import _socket
import contextlib
import errno
import socket
from pathlib import Path

BACKLOG = 128
"""Connections that wait in the kernel until they are accepted."""

UNIX = "unix:"


class Door:
    """One listening, non-blocking socket. `address`: what it is bound to, as (host, port) or ("unix:PATH", 0)."""

    __slots__ = ("_left", "address", "sock")

    def __init__(self, host: str, port: int) -> None:
        """Bind and listen. Raises OSError whose text names the address; ValueError for what can be none."""
        self._left: tuple[int, int] | None = None  # device and inode of a Unix socket's file
        try:
            if host.startswith(UNIX):
                self.sock = _unix(host.removeprefix(UNIX))
                found = Path(host.removeprefix(UNIX)).stat()
                self._left = found.st_dev, found.st_ino
                self.address = host, 0
            else:
                self.sock = _tcp(host, port)
                name = self.sock.getsockname()
                self.address = str(name[0]), int(name[1])
        except OSError as error:
            where = host if host.startswith(UNIX) else f"port {port} of {host}"
            raise OSError(error.errno, f"cannot listen on {where}: {error.strerror}") from error

    def close(self, *, shut: bool = True) -> None:
        """Free the address. Never raises. `shut` false: the socket is another process's too, and stays open there."""
        if shut:
            with contextlib.suppress(OSError):  # a forked child may hold a copy: nobody is let in by that one either
                self.sock.shutdown(_socket.SHUT_RDWR)
            self._remove_file()
        self.sock.close()

    def _remove_file(self) -> None:
        if self._left is None:
            return
        left, self._left = self._left, None  # once: a successor's file may get the same inode
        path = Path(self.address[0].removeprefix(UNIX))
        with contextlib.suppress(OSError):
            found = path.stat()
            if (found.st_dev, found.st_ino) == left:
                path.unlink()


def _tcp(host: str, port: int) -> _socket.socket:
    """The first address that the name `host` has."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, kind, protocol, _, address = found[0]
    sock = _socket.socket(family, kind, protocol)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # accepted sockets inherit it
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # "::" beside "0.0.0.0" on one port
        sock.bind(address)
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def _unix(path: str) -> _socket.socket:
    """A file that a server which was killed has left behind is replaced; one where somebody listens is not."""
    sock = _socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        if Path(path).is_socket() and _nobody_listens(path):
            Path(path).unlink()
        sock.bind(path)
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def _nobody_listens(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        return probe.connect_ex(path) == errno.ECONNREFUSED
