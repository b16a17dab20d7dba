"""What the master hands to a child: the seam between the forking side and the three process mains.

The master forks; the child calls one of the mains named here with a `ChildContext` and leaves with the code it returns.
A main is imported only in the child, and its first act is `gevent.monkey.patch_all()`: nothing here may import gevent,
Redis or OpenSSL (the master must stay free of threads, hubs and connections).

The control socket carries JSON lines both ways (see `mta_front.lifeline` for the child's side):

    master -> child   {"do": "drain", "grace_s": 5.0, "timeout_s": 30.0, "closing": [0]}
                                                           both counted from now; the numbers of those of its sockets
                                                           that go away, without it all do
                      {"do": "cover", "slots": [2, 3]}     to workers: accept for these slots too, and for no others
                      {"do": "stop"}
                      {"do": "certificates", "files": {path: base64}}      to workers, when one of the files changed
                      {"status": {...}}                                    to the admin only
    child -> master   {"beat": 1}                                          each second
                      {"ready": {"accepting": true}}
                      {"store": {"answered": true}}
                      {"store": {"unfit": "appendfsync is no, must be always"}}   only before it has answered
                      {"sessions": 12}                     at each change, 50 times a second at most
                      {"leaving": "TERM"}                  it drains by itself, and needs a successor
                      {"renew": "5000 sessions served"}    it serves on, and wants a successor
                      {"standstill": {"for_ms": 500, "session": "…", "where": "hooks.py:12 in on_data"}}
                                                           its hub stands still; any other line means that it moves
                      {"fault": "ImportError: ..."}                        why it is about to exit

End of file on it means that the other side is dead.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from mta_front.config import Settings

Kind: TypeAlias = Literal["worker", "relay", "admin"]


@dataclass(slots=True, kw_only=True)
class ChildContext:
    """All that a process main gets. The sockets are plain, non-blocking and belong to the child."""

    kind: Kind
    index: int
    """Slot of a worker, number of a relay, 0 for the admin."""
    lane: int
    """The number under which this process keeps its metrics; no other living process of this data_dir has it."""
    settings: Settings
    sockets: list[tuple[str, socket.socket]]
    """Worker: (listener's name, listening socket of this slot). Relay: [].
    Admin: [("admin", socket)], and ("agent", socket) where HAProxy asks.
    """
    others: dict[int, list[tuple[str, socket.socket]]] = field(default_factory=dict)
    """Worker: the same for every other slot, to accept from when the master says so."""
    control: socket.socket
    """One end of an AF_UNIX stream pair; the master holds the other."""
    metrics_dir: str
    """Where the processes' metric files lie (prometheus multiprocess mode)."""
    clients_dir: str
    """Where the workers count the sessions of each listener together (see `mta_front.net.tally`)."""
    stack_file: str
    """Where its stack is written to at SIGUSR2."""
    key_files: dict[str, bytes] = field(repr=False)
    """Certificates and keys, by path, as the master read them."""
    store_url: str
    """`settings.store.url`, or `unix:///…` of the embedded store."""

    def given(self) -> list[socket.socket]:
        """All listening sockets that the child may use."""
        return [sock for sockets in (self.sockets, *self.others.values()) for _, sock in sockets]


Main: TypeAlias = Callable[[ChildContext], int]
"""A process main: patches first, then runs until it is told to end; returns the exit code of the process."""


def worker(child: ChildContext) -> int:
    from mta_front.worker import main

    return main(child)


def relay(child: ChildContext) -> int:
    from mta_front.relaying import main

    return main(child)


def admin(child: ChildContext) -> int:
    from mta_front.administering import main

    return main(child)


MAINS: dict[Kind, Main] = {"worker": worker, "relay": relay, "admin": admin}
