"""A generation: the settings, certificates and sockets that processes are made of. A reload makes the next one."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mta_front.master.child import Kind
from mta_front.master.keyfiles import KeyFiles
from mta_front.master.slots import Group
from mta_front.settings.tls import tls_of_listeners

if TYPE_CHECKING:
    from mta_front.config import Settings


@dataclass(slots=True, eq=False)
class Generation:
    """What all processes of one loading of the settings share."""

    settings: Settings
    store_url: str
    key_files: KeyFiles
    doors: list[Group]
    """Of the listeners."""
    admin_doors: list[Group]

    def sockets_of(self, kind: Kind, index: int) -> list[tuple[str, socket.socket]]:
        """The sockets on which the process in this place accepts, each with its listener's name."""
        groups = {"worker": self.doors, "admin": self.admin_doors, "relay": []}[kind]
        return [(group.listener, group.of(index)) for group in groups]

    def others_of(self, kind: Kind, index: int) -> dict[int, list[tuple[str, socket.socket]]]:
        """To a worker: the sockets of each other slot. Those that all slots share are its own already."""
        if kind != "worker":
            return {}
        found: dict[int, list[tuple[str, socket.socket]]] = {}
        for group in self.doors:
            if group.is_spread:
                for slot, sock in enumerate(group.sockets):
                    if slot != index:
                        found.setdefault(slot, []).append((group.listener, sock))
        return found


def key_files_of(settings: Settings) -> KeyFiles:
    """The certificates and keys that the listeners of these settings need, read now."""
    wanted = [path for options in tls_of_listeners(settings).values() for path in options.files()]
    return KeyFiles(dict.fromkeys(wanted))
