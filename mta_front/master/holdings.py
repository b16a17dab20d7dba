"""What a master has for itself alone: the lock on data_dir, lanes, the embedded store, sockets that listen, a pid file.

Taken in the order in which others may dispute it; or taken over from the program that was the master in this process
before (see `handover`).
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mta_front.master import privileges
from mta_front.master.backoff import Pace
from mta_front.master.failure import CannotStart
from mta_front.master.generation import Generation, key_files_of
from mta_front.master.keyfiles import KeyFiles
from mta_front.master.lanes import Lanes
from mta_front.master.lock import FileLock, hold_data_dir, write_pid_file
from mta_front.master.notify import given_sockets
from mta_front.master.slots import Slots, admin_doors
from mta_front.master.store import EmbeddedStore
from mta_front.observe import log

if TYPE_CHECKING:
    from mta_front.config import Settings

PREDECESSOR_TIMEOUT_S = 10.0
"""How long a start waits for the children of a master that died: they end by themselves."""


class Holdings:
    """Of one master. `relay_only`: no listeners."""

    def __init__(self, settings: Settings, pace: Pace, selector: selectors.BaseSelector, *, relay_only: bool) -> None:
        self._settings = settings
        self._pace = pace
        self._selector = selector
        self._relay_only = relay_only
        self._data_dir = settings.server.data_dir.absolute()
        self._data_dir_lock: FileLock | None = None
        self._pid_file: FileLock | None = None
        self._identity: privileges.Identity | None = None
        self.lanes: Lanes
        self.store: EmbeddedStore | None = None
        self.slots = Slots(settings.server.slots)
        self.admin_slots = Slots(1)

    def open(self) -> None:
        """Take all; as root, for the user that we are to become. Raises CannotStart."""
        settings = self._settings
        self._identity = privileges.wanted(settings.server.user, settings.server.group)
        privileges.raise_open_files_limit(settings)
        self._make_data_dir()
        with self._identity.acting() if self._identity else contextlib.nullcontext():
            self._data_dir_lock = hold_data_dir(self._data_dir)
            self.lanes = self._open_lanes()
            if not settings.store.url:
                self.store = EmbeddedStore(settings, self._data_dir, self._pace, self._selector)
                self.store.prepare()
        self.slots.given = given_sockets(os.environ)
        self.slots.keep(self.slots.open([] if self._relay_only else settings.listeners, settings.server.backlog))
        self.admin_slots.keep(self.admin_slots.open(admin_doors(settings), settings.server.backlog))
        for address, sock in self.slots.given.items():
            log.logger().warning("systemd opened a socket that no listener wants", address=address)
            sock.close()
        self.slots.given = {}
        if settings.server.pid_file:
            self._pid_file = write_pid_file(settings.server.pid_file)
        if self._identity:
            for group in (*self.slots.groups, *self.admin_slots.groups):
                if group.bind.kind == "unix":
                    self._identity.own(group.bind.path)
        for group in (*self.slots.groups, *self.admin_slots.groups):
            log.logger().info("listening", listener=group.listener, address=str(group.bind), sockets=len(group.sockets))

    def _make_data_dir(self) -> None:
        """As root: the user may not be allowed to, where it lies."""
        if self._identity:
            try:
                self._data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
                if not any(self._data_dir.iterdir()):
                    self._identity.own(self._data_dir)
            except OSError as error:
                raise CannotStart(os.EX_CANTCREAT, f"data_dir {self._data_dir}: {error.strerror}") from None

    def drop_privileges(self) -> None:
        """What needed root is done."""
        if self._identity:
            self._identity.become()
            log.logger().info("privileges dropped", user=self._identity.name, uid=os.getuid(), gid=os.getgid())
        privileges.forgo()

    def adopt(self, state: dict[str, Any]) -> None:
        """Take over what an earlier program of this process held. Raises CannotStart."""
        if state["data_dir"] != str(self._data_dir):
            raise CannotStart(os.EX_CONFIG, f"data_dir was {state['data_dir']}; only a restart can change it")
        self._data_dir_lock = FileLock(self._data_dir / "lock", state["data_dir_fd"])
        self.lanes = Lanes(self._data_dir / "run")
        self.lanes.adopt(state["lanes"])
        if state["store"]:
            self.store = EmbeddedStore(self._settings, self._data_dir, self._pace, self._selector)
            self.store.adopt(state["store"])
        self.slots = Slots.of_state(state["slots"])
        self.admin_slots = Slots.of_state(state["admin_slots"])
        if state["pid_file"]:
            self._pid_file = FileLock(Path(state["pid_file"]["path"]), state["pid_file"]["fd"])

    def state(self) -> dict[str, Any]:
        """What `adopt` needs."""
        assert self._data_dir_lock
        pid_file = self._pid_file
        return {
            "data_dir": str(self._data_dir),
            "data_dir_fd": self._data_dir_lock.fd,
            "lanes": self.lanes.state(),
            "store": self.store.state() if self.store else None,
            "slots": self.slots.state(),
            "admin_slots": self.admin_slots.state(),
            "pid_file": {"path": str(pid_file.path), "fd": pid_file.fd} if pid_file else None,
        }

    def first_generation(self) -> Generation:
        """What processes are made of until a reload."""
        settings = self._settings
        return Generation(
            settings,
            self.store.url if self.store else settings.store.url,
            KeyFiles([]) if self._relay_only else key_files_of(settings),
            self.slots.groups,
            self.admin_slots.groups,
        )

    def close_in_child(self, given: Collection[socket.socket]) -> None:
        """In a new child: close all but the sockets that it was given."""
        for slots in (self.slots, self.admin_slots):
            slots.close_all_but(given)
        if self.store:
            self.store.close()
        for lock in (self._data_dir_lock, self._pid_file):
            if lock:
                lock.close()

    def close(self) -> None:
        """Give all back."""
        self.slots.close()
        self.admin_slots.close()
        if self.store:
            self.store.close()
        if self._pid_file:
            self._pid_file.remove()
        if self._data_dir_lock:
            self._data_dir_lock.close()

    def _open_lanes(self) -> Lanes:
        try:
            lanes = Lanes(self._data_dir / "run")
            if living := lanes.start_anew(PREDECESSOR_TIMEOUT_S):
                raise CannotStart(os.EX_CANTCREAT, f"processes of an earlier master still run: {', '.join(living)}")
        except OSError as error:
            code = os.EX_NOPERM if isinstance(error, PermissionError) else os.EX_CANTCREAT
            raise CannotStart(code, f"{error.filename}: {error.strerror}") from None
        return lanes
