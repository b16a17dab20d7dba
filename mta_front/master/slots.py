"""Slots: the numbered places that workers fill, and the listening sockets of each.

The master opens every socket at start, for as many slots as there may ever be, and holds it: a connection that waits in
a slot's accept queue survives the death of its worker, and a slot more needs no right to bind. A TCP address has one
socket for each slot, between which connections are steered (`master.steering`); the slots of a Unix socket share one,
since AF_UNIX has no SO_REUSEPORT.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from mta_front.master.failure import CannotStart
from mta_front.master.sockets import open_tcp, open_unix, remove_unix
from mta_front.master.steering import steer
from mta_front.observe import log
from mta_front.settings.values import parse_bind

if TYPE_CHECKING:
    from mta_front.config import Bind, Settings


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
    """The sockets of one address of a listener: one for each slot, or one that all slots share."""

    listener: str
    bind: Bind
    sockets: list[socket.socket]

    @property
    def is_spread(self) -> bool:
        """Whether each slot has a socket of its own."""
        return len(self.sockets) > 1

    def of(self, slot: int) -> socket.socket:
        """The socket on which this slot's worker accepts."""
        return self.sockets[slot] if self.is_spread else self.sockets[0]

    def close(self) -> None:
        """Let go of the address."""
        if self.bind.kind == "unix":
            remove_unix(self.sockets[0])
        for sock in self.sockets:
            sock.close()


class Slots:
    """All listening sockets of the front, by slot."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.groups: list[Group] = []
        self._chosen: frozenset[int] = frozenset()
        self._steers = True
        self.given: dict[str, socket.socket] = {}
        """Sockets that somebody else opened, by address: all slots share one."""

    def open(
        self, listeners: Iterable[Door], backlog: int, failed: Callable[[CannotStart], None] | None = None
    ) -> list[Group]:
        """The sockets of every address of every listener: those that are open already, and new ones.

        Raises CannotStart; then no more is open than before. `keep` settles it. `failed` may raise what it is given, or
        else the address is left out.
        """
        before = {str(group.bind): group for group in self.groups}
        found: list[Group] = []
        try:
            for listener in listeners:
                for bind in listener.addresses:
                    try:
                        sockets = self._sockets(listener, bind, backlog, before.get(str(bind)))
                    except CannotStart as failure:
                        if failed is None:
                            raise
                        failed(failure)
                    else:
                        found.append(Group(listener.name, bind, sockets))
        except BaseException:
            self.drop(found)
            raise
        return found

    def _sockets(self, listener: Door, bind: Bind, backlog: int, held: Group | None) -> list[socket.socket]:
        if held:
            for sock in held.sockets:
                sock.listen(backlog)  # it may be another than before
            return held.sockets
        if given := self.given.pop(str(bind), None):
            given.listen(backlog)
            return [given]
        if bind.kind == "tcp":
            return open_tcp(bind, self.count, backlog)
        return [open_unix(bind, listener.unix_mode, backlog)]

    def keep(self, groups: list[Group]) -> None:
        """These are the groups from now on; close all others."""
        kept = {str(group.bind) for group in groups}
        for group in self.groups:
            if str(group.bind) not in kept:
                group.close()
        self.groups = groups
        self._chosen = frozenset()  # of what is new, nothing is chosen yet

    def drop(self, groups: list[Group]) -> None:
        """What `open` gave is not wanted: close what is new in it."""
        held = {str(group.bind) for group in self.groups}
        for group in groups:
            if str(group.bind) not in held:
                group.close()

    def state(self) -> dict[str, Any]:
        """For the next program in this process."""
        groups = [
            {"listener": group.listener, "bind": str(group.bind), "fds": [sock.fileno() for sock in group.sockets]}
            for group in self.groups
        ]
        return {"count": self.count, "groups": groups}

    @classmethod
    def of_state(cls, state: dict[str, Any]) -> Slots:
        """What an earlier program held."""
        slots = cls(state["count"])
        for group in state["groups"]:
            sockets = [socket.socket(fileno=fd) for fd in group["fds"]]
            for sock in sockets:
                sock.setblocking(False)
            slots.groups.append(Group(group["listener"], parse_bind(group["bind"]), sockets))
        return slots

    def steer(self, chosen: Collection[int]) -> None:
        """From now on these slots get new connections."""
        wanted = frozenset(chosen)
        if wanted == self._chosen or not self._steers:
            return
        self._chosen = wanted
        try:
            for group in self.groups:
                if group.is_spread and wanted:
                    steer(group.sockets[0], wanted)
        except OSError as error:
            self._steers = False
            log.logger().warning("the kernel does not steer: connections are spread by a hash", error=error.strerror)

    def close(self) -> None:
        """Close all sockets. New connections are refused once the workers have closed theirs too."""
        self.keep([])

    def close_all_but(self, kept: Iterable[socket.socket]) -> None:
        """In a child: close what it was not given."""
        keep = set(kept)
        for group in self.groups:
            for sock in group.sockets:
                if sock not in keep:
                    sock.close()


class _AdminDoor:
    """An address of the admin's, as the slots want to see it: one place, one socket."""

    unix_mode = 0o600

    def __init__(self, name: str, address: Bind) -> None:
        self.name = name
        self.addresses = [address]


def admin_doors(settings: Settings) -> list[Door]:
    """The admin's port, and HAProxy's agent's."""
    doors: list[Door] = [_AdminDoor("admin", settings.admin.address)]
    if settings.admin.agent_address:
        doors.append(_AdminDoor("agent", settings.admin.agent_address))
    return doors
