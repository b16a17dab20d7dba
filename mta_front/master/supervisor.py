"""The master: holds the sockets, the lock and the store; forks children, watches them, and ends when it is told to.

One thread, one loop. It waits in a selector for lines from children, answers of the store, and signals; does what is
due; and never blocks once it runs. It imports nothing that starts threads, hubs or connections, since its children are
forks of it that become gevent processes.

Its order: the lock on `data_dir`, then what an earlier master left, then the sockets, then the loop. When it cannot
start, one line says why and the exit code what kind of reason (sysexits.h): 69 unavailable, 70 children that cannot
run, 73 somebody else has the directory or the port, 77 not permitted, 78 settings.
"""

from __future__ import annotations

import os
import resource
import selectors
import signal
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mta_front.master.backoff import Pace
from mta_front.master.child import MAINS, ChildContext, Kind, Main
from mta_front.master.children import Children
from mta_front.master.ending import Ending
from mta_front.master.failure import CannotStart
from mta_front.master.generation import Generation, key_files_of
from mta_front.master.keyfiles import KeyFiles
from mta_front.master.lanes import Lanes
from mta_front.master.lock import FileLock, hold_data_dir, write_pid_file
from mta_front.master.operations import Operations
from mta_front.master.reload import Source
from mta_front.master.signals import Signals
from mta_front.master.slots import Slots, admin_doors
from mta_front.master.store import EmbeddedStore
from mta_front.master.traffic import Traffic
from mta_front.observe import log

if TYPE_CHECKING:
    from mta_front.config import Settings

TICK_S = 1.0
"""The longest wait of the loop, and the longest that the admin goes without news."""

STANDSTILL_S = 2.0
"""A loop that comes round so much later than it wanted to stood still: its children could not be heard."""

PREDECESSOR_TIMEOUT_S = 10.0
"""How long a start waits for the children of a master that died: they end by themselves."""

OPEN_FILES_MAX = 1 << 20
"""fs.nr_open's default: what no process can pass without the administrator's doing."""


def run(
    settings: Settings,
    *,
    relay_only: bool = False,
    with_relay: bool = True,
    mains: Mapping[Kind, Main] = MAINS,
    pace: Pace | None = None,
    on_ready: Callable[[], object] | None = None,
    source: Source | None = None,
) -> int:
    """Be the master until a signal ends it. Returns the exit code of the process.

    `relay_only`: no listeners and no workers. `with_relay=False`: no relay workers. `mains` and `pace` are for tests.
    `on_ready` is called once, in the master, when all places are filled and the store has answered. `source`: where the
    settings came from, and are read from again at HUP.
    """
    log.set_up(settings.log.format, settings.log.level, process="master")
    supervisor = Supervisor(settings, mains, pace or Pace(), on_ready, source)
    supervisor.relay_only, supervisor.with_relay = relay_only, with_relay or relay_only
    try:
        supervisor.open()
        return supervisor.loop()
    except CannotStart as failure:
        log.logger().error("cannot start", reason=failure.message, exit_code=failure.exit_code)
        return failure.exit_code
    except Exception as error:  # noqa: BLE001 - a bug of ours: say so, and leave nothing behind
        log.logger().error("the master ends: nobody expected this", exc_info=error)
        return os.EX_SOFTWARE
    finally:
        supervisor.close()


class Supervisor:
    """One master."""

    relay_only = False
    with_relay = True

    def __init__(
        self,
        settings: Settings,
        mains: Mapping[Kind, Main],
        pace: Pace,
        on_ready: Callable[[], object] | None,
        source: Source | None,
    ) -> None:
        self._settings = settings
        self._source = source
        self._mains = mains
        self._pace = pace
        self._on_ready = on_ready
        self._pid = os.getpid()
        self._started_at = time.time()
        self._log = log.logger()
        self._selector = selectors.DefaultSelector()
        self._signals = Signals()
        self._slots = Slots(settings.server.slots)
        self._traffic = Traffic(self._slots)
        self._admin_slots = Slots(1)
        self._data_dir_lock: FileLock | None = None
        self._pid_file: FileLock | None = None
        self._store: EmbeddedStore | None = None
        self._children: Children | None = None
        self._operations: Operations | None = None
        self._ending: Ending | None = None
        self._told_at = 0.0
        self._handlers: dict[signal.Signals, Callable[[], None]] = {
            signal.SIGTERM: self.handle_term,
            signal.SIGINT: self.handle_int,
            signal.SIGQUIT: self.handle_int,
            signal.SIGCHLD: lambda: None,  # each turn of the loop reaps: the signal only wakes it
        }

    # -- starting ------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Take all that must be ours alone, in the order in which others may dispute it. Raises CannotStart."""
        settings = self._settings
        self._signals.install()  # a signal that comes from here on ends what was begun
        self._selector.register(self._signals.wakeup, selectors.EVENT_READ, self._signals.drain)
        _raise_open_files_limit()
        data_dir = settings.server.data_dir.absolute()
        self._data_dir_lock = hold_data_dir(data_dir)
        lanes = self._open_lanes(data_dir / "run")
        if not settings.store.url:
            self._store = EmbeddedStore(settings, data_dir, self._pace, self._selector)
            self._store.prepare()
        self._slots.keep(self._slots.open([] if self.relay_only else settings.listeners, settings.server.backlog))
        self._admin_slots.keep(self._admin_slots.open(admin_doors(settings), settings.server.backlog))
        if settings.server.pid_file:
            self._pid_file = write_pid_file(settings.server.pid_file)
        self._log.info("master started", pid=self._pid, data_dir=str(data_dir))
        for group in (*self._slots.groups, *self._admin_slots.groups):
            self._log.info("listening", listener=group.listener, address=str(group.bind), sockets=len(group.sockets))
        generation = Generation(
            settings,
            self._store.url if self._store else settings.store.url,
            KeyFiles([]) if self.relay_only else key_files_of(settings),
            self._slots.groups,
            self._admin_slots.groups,
        )
        self._children = Children(self._mains, self._pace, lanes, self._selector, generation, self._close_in_child)
        for kind, index in self._places_of(settings):
            self._children.add(kind, index)
        self._operations = Operations(
            self._source,
            self._children,
            self._slots,
            self._admin_slots,
            self._selector,
            self._places_of,
            partial(self._close_in_child, None),
        )

    def _places_of(self, settings: Settings) -> list[tuple[Kind, int]]:
        """What is to be filled, with such settings."""
        counts: list[tuple[Kind, int]] = [
            ("admin", 1),
            ("worker", 0 if self.relay_only else settings.server.workers),
            ("relay", settings.relay.workers if self.with_relay else 0),
        ]
        return [(kind, index) for kind, count in counts for index in range(count)]

    def _open_lanes(self, run_dir: Path) -> Lanes:
        try:
            lanes = Lanes(run_dir)
            if living := lanes.start_anew(PREDECESSOR_TIMEOUT_S):
                raise CannotStart(os.EX_CANTCREAT, f"processes of an earlier master still run: {', '.join(living)}")
        except OSError as error:
            code = os.EX_NOPERM if isinstance(error, PermissionError) else os.EX_CANTCREAT
            raise CannotStart(code, f"{error.filename}: {error.strerror}") from None
        return lanes

    # -- the loop ------------------------------------------------------------------------------------------------

    def loop(self) -> int:
        """Run until everything has ended. Returns the exit code."""
        assert self._children
        wanted_at = time.monotonic()
        while True:
            now = time.monotonic()
            if now - wanted_at > STANDSTILL_S:
                self._log.warning("the master stood still", lost_s=round(now - wanted_at, 1))
                self._children.forgive(now - wanted_at)
            try:
                self._turn(now)
            except CannotStart as failure:
                self._halt(failure)
            if self._ending and self._ending.done:
                break
            now = time.monotonic()
            wanted_at = max(now, min(self._due_at(), now + TICK_S))
            for key, _ in self._selector.select(wanted_at - now):
                key.data()
        self._log.info("master ends", exit_code=self._ending.exit_code)
        return self._ending.exit_code

    def _turn(self, now: float) -> None:
        """Do all that is due."""
        assert self._children
        assert self._operations
        while self._signals.pending:
            number = self._signals.pending.popleft()
            handler = self._handlers.get(number)
            if handler:
                handler()
            else:
                self._operations.asked(number)
        self._reap(now)
        if self._store:
            self._store.tick(now)
        self._operations.tick(now)
        self._children.tick(now)
        self._traffic.direct(self._children, now)
        if self._children.generation.key_files.changed(now):
            self._log.info("certificate files changed")
            self._children.hand_out_certificates()
        if self._ending:
            self._ending.tick(now)
        if self._on_ready and self._children.all_ready() and self._children.store_answered:
            on_ready, self._on_ready = self._on_ready, None
            on_ready()
        if self._children.changed or now - self._told_at >= TICK_S:
            self._children.changed = False
            self._told_at = now
            self._children.inform(self._status(now))

    def _due_at(self) -> float:
        assert self._children
        assert self._operations
        return min(
            self._operations.due_at(),
            self._children.due_at(),
            self._children.generation.key_files.due_at(),
            self._store.due_at() if self._store else float("inf"),
            self._ending.due_at() if self._ending else float("inf"),
            0.0 if self._children.changed else float("inf"),
        )

    # -- signals -------------------------------------------------------------------------------------------------

    def handle_term(self) -> None:
        """Drain, then stop; a second time: stop at once."""
        if self._ending:
            self._escalate("TERM")
            return
        ending = self._begin_ending()
        self._log.info("draining", signal="TERM", timeout_s=ending.drain_timeout_s)
        ending.drain()

    def handle_int(self) -> None:
        """Stop at once; a second time: kill."""
        if self._ending:
            self._escalate("INT")
            return
        self._log.info("stopping", signal="INT")
        self._begin_ending().stop()

    def _reap(self, now: float) -> None:
        """Reap whoever ended. As PID 1 that may be anybody's child."""
        assert self._children
        assert self._operations
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if self._store and pid == self._store.pid:
                self._store.reaped(now, how_it_ended(status))
            elif not self._children.reaped(pid, how_it_ended(status), now) and not self._operations.reaped(
                pid, how_it_ended(status)
            ):
                self._log.debug("reaped a stranger", pid=pid, how=how_it_ended(status))

    def _begin_ending(self) -> Ending:
        assert self._children
        assert self._operations
        self._operations.end()
        server = self._children.generation.settings.server
        self._ending = Ending(
            self._children, self._store, self._slots.close, server.drain_timeout_s, server.drain_grace_s
        )
        return self._ending

    def _escalate(self, name: str) -> None:
        """Somebody insists."""
        assert self._ending
        stopped = self._ending.hurried
        self._log.warning("killing everything" if stopped else "stopping at once", signal=name)
        if stopped:
            self._ending.kill()
        else:
            self._ending.stop()

    def _halt(self, failure: CannotStart) -> None:
        """What we are for cannot be done: end, with the failure's exit code."""
        self._log.error("cannot start", reason=failure.message, exit_code=failure.exit_code)
        if not self._ending:
            self._begin_ending().stop()
        assert self._ending
        self._ending.exit_code = self._ending.exit_code or failure.exit_code

    # -- what is told --------------------------------------------------------------------------------------------

    def _status(self, now: float) -> dict[str, Any]:
        assert self._children
        children = self._children
        store = self._store.status() if self._store else {"embedded": False}
        restarts = children.restarts()
        if self._store:
            restarts["store"] = self._store.restarts
        return {
            "pid": self._pid,
            "started_at": self._started_at,
            "state": "draining" if self._ending else "running",
            "reloading": bool(self._operations and self._operations.reloading),
            "listeners": [{"name": group.listener, "address": str(group.bind)} for group in self._slots.groups],
            "children": children.rows(now),
            "leaving": children.leaving(now),
            "store": store | {"answered": children.store_answered},
            "restarts": restarts,
        }

    # -- ending --------------------------------------------------------------------------------------------------

    def _close_in_child(self, context: ChildContext | None) -> None:
        """In a new child: close everything of the master's but what the child was given, if it was given anything."""
        assert self._children
        self._selector.close()
        self._signals.close()
        self._children.close_in_child(context)
        given = context.given() if context else []
        for slots in (self._slots, self._admin_slots):
            slots.close_all_but(given)
        if self._store:
            self._store.close()
        for lock in (self._data_dir_lock, self._pid_file):
            if lock:
                lock.close()

    def close(self) -> None:
        """Leave nothing behind, whichever way the end came."""
        if self._children and not (
            self._ending and self._ending.done
        ):  # a bug of ours: nobody is left to care for them
            left = self._children.alive(MAINS)
            self._children.kill(left)
            if self._store:
                self._store.kill()
            for pid in [child.pid for child in left] + ([self._store.pid] if self._store and self._store.pid else []):
                os.waitpid(pid, 0)
        self._slots.close()
        self._admin_slots.close()
        if self._store:
            self._store.close()
        if self._pid_file:
            self._pid_file.remove()
        if self._data_dir_lock:
            self._data_dir_lock.close()
        self._selector.close()
        self._signals.restore()


def how_it_ended(status: int) -> str:
    """A wait status in words."""
    code = os.waitstatus_to_exitcode(status)
    return f"exit {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"


def _raise_open_files_limit() -> None:
    """Take as many descriptors as we may: each session is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES_MAX if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES_MAX)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
