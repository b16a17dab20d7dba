"""Slots: the numbered places that workers fill, and the listening sockets of each.

The master opens every socket at start and holds it: a connection that waits in a slot's accept queue survives the death
of its worker. A TCP address has one socket for each slot, between which the kernel spreads connections; the slots of a
Unix socket share one, since AF_UNIX has no SO_REUSEPORT.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from mta_front.master.sockets import open_tcp, open_unix, remove_unix

if TYPE_CHECKING:
    from mta_front.config import Bind


class Door(Protocol):
    """What a listener is for the master: a name, addresses, the permissions of its Unix sockets."""

    @property
    def name(self) -> str: ...

    @property
    def unix_mode(self) -> int: ...

    @property
    def addresses(self) -> list[Bind]: ...


@dataclass(slots=True)
class Group:
    """The sockets of one address of a listener. Of a TCP address, `sockets[i]` is slot i's; a Unix socket is shared."""

    listener: str
    bind: Bind
    sockets: list[socket.socket]

    def of(self, slot: int) -> socket.socket:
        """The socket on which this slot's worker accepts."""
        return self.sockets[slot] if self.bind.kind == "tcp" else self.sockets[0]


class Slots:
    """All listening sockets of the front, by slot."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.groups: list[Group] = []

    def open(self, listeners: Iterable[Door], backlog: int) -> None:
        """Open every address of every listener for every slot. Raises CannotStart; then nothing stays open."""
        try:
            for listener in listeners:
                for bind in listener.addresses:
                    if bind.kind == "tcp":
                        sockets = open_tcp(bind, self.count, backlog)
                    else:
                        sockets = [open_unix(bind, listener.unix_mode, backlog)]
                    self.groups.append(Group(listener.name, bind, sockets))
        except BaseException:
            self.close()
            raise

    def of(self, slot: int) -> list[tuple[str, socket.socket]]:
        """The sockets of one slot, each with its listener's name."""
        return [(group.listener, group.of(slot)) for group in self.groups]

    def close(self) -> None:
        """Close all sockets. New connections are refused once the workers have closed theirs too."""
        for group in self.groups:
            if group.bind.kind == "unix":
                remove_unix(group.sockets[0])
        self.close_all_but(())

    def close_all_but(self, kept: Iterable[socket.socket]) -> None:
        """In a child: close what it was not given."""
        keep = set(kept)
        for group in self.groups:
            for sock in group.sockets:
                if sock not in keep:
                    sock.close()
        if not keep:
            self.groups.clear()
