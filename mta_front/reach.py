"""All sockets that a worker can accept from: its own slot's always, those of other slots when the master says so."""

from __future__ import annotations

import _socket
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from mta_front.net.listener import Listener


@dataclass(slots=True)
class _Door:
    """One address of a listener."""

    own: Listener
    own_socket: _socket.socket
    others: dict[int, tuple[Listener, _socket.socket]] = field(default_factory=dict)


class Reach:
    """The doors of one worker; `others`: as in `ChildContext`, in the order in which doors are added."""

    def __init__(self, others: Mapping[int, Sequence[tuple[str, _socket.socket]]]) -> None:
        self._others = others
        self._doors: list[_Door] = []

    def add(self, name: str, own: Listener, own_socket: _socket.socket) -> None:
        """A listener's address: its own socket, and how it serves."""
        door = _Door(own, own_socket)
        address = _address(own_socket)
        for slot, sockets in self._others.items():
            for other_name, sock in sockets:
                if other_name == name and _address(sock) == address:
                    door.others[slot] = own.on(sock), sock
        self._doors.append(door)

    def cover(self, slots: Collection[int]) -> None:
        """Accept for these slots too, and for no others."""
        for door in self._doors:
            for slot, (listener, _sock) in door.others.items():
                if slot in slots:
                    listener.start()
                else:
                    listener.stop()

    def end(self, closing: Collection[int] | None) -> None:
        """Accept no more. What waits stays where it is, for others; of doors that are `closing` (numbers, in the order
        in which they were added; None: all) it is accepted, for nobody will come after us.
        """
        for number, door in enumerate(self._doors):
            for listener, sock in ((door.own, door.own_socket), *door.others.values()):
                if closing is None or number in closing:
                    listener.finish()
                    sock.close()
                else:
                    listener.stop()


def _address(sock: _socket.socket) -> object:
    return sock.family, sock.getsockname()
