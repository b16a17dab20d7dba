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
import selectors
import signal
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from mta_front import __version__
from mta_front.master import handover, privileges, status, succession
from mta_front.master.backoff import Pace
from mta_front.master.child import MAINS, ChildContext, Kind, Main
from mta_front.master.children import Children
from mta_front.master.ending import Ending
from mta_front.master.failure import CannotStart
from mta_front.master.holdings import Holdings
from mta_front.master.notify import Notify, listening_fds
from mta_front.master.operations import Operations
from mta_front.master.reload import Source
from mta_front.master.signals import Signals
from mta_front.master.traffic import Traffic
from mta_front.observe import log

if TYPE_CHECKING:
    from mta_front.config import Settings

TICK_S = 1.0
"""The longest wait of the loop, and the longest that the admin goes without news."""

RECOUNT_S = 0.1
"""The longest that the admin goes without new counts of sessions."""

STANDSTILL_S = 2.0
"""A loop that comes round so much later than it wanted to stood still: its children could not be heard."""


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
    if handover.is_tried():
        why = handover.refusal()
        print(why, file=sys.stderr)
        return os.EX_UNAVAILABLE if why else os.EX_OK
    if not handover.is_adopting():
        privileges.close_inherited(listening_fds(os.environ))
    supervisor = Supervisor(
        settings, mains, pace or Pace(), on_ready, source, relay_only=relay_only, with_relay=with_relay or relay_only
    )
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

    def __init__(
        self,
        settings: Settings,
        mains: Mapping[Kind, Main],
        pace: Pace,
        on_ready: Callable[[], object] | None,
        source: Source | None,
        *,
        relay_only: bool,
        with_relay: bool,
    ) -> None:
        self._settings = settings
        self._source = source
        self._relay_only = relay_only
        self._with_relay = with_relay
        self._mains = mains
        self._pace = pace
        self._on_ready = on_ready
        self._pid = os.getpid()
        self._started_at = time.time()
        self._log = log.logger()
        self._selector = selectors.DefaultSelector()
        self._signals = Signals()
        self._held = Holdings(settings, pace, self._selector, relay_only=relay_only)
        self._traffic: Traffic | None = None
        self._children: Children | None = None
        self._operations: Operations | None = None
        self._ending: Ending | None = None
        self._notify = Notify(os.environ)
        self._told_at = 0.0
        self._handlers: dict[signal.Signals, Callable[[], None]] = {
            signal.SIGTERM: self.handle_term,
            signal.SIGINT: self.handle_int,
            signal.SIGQUIT: self.handle_int,
            signal.SIGCHLD: lambda: None,  # each turn of the loop reaps: the signal only wakes it
        }

    # -- starting ------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Take all that must be ours alone, or take it over from the program before us. Raises CannotStart."""
        adopted = handover.take()
        self._signals.install()  # a signal that comes from here on ends what was begun
        handover.unblock_signals()
        self._selector.register(self._signals.wakeup, selectors.EVENT_READ, self._signals.drain)
        if adopted:
            self._held.adopt(adopted["held"])
            self._started_at = adopted["started_at"]
        else:
            self._held.open()
        self._log.info("master upgraded" if adopted else "master started", pid=self._pid, version=__version__)
        generation = self._held.first_generation()  # reads keys, which may be root's
        self._held.drop_privileges()
        self._children = Children(
            self._mains, self._pace, self._held.lanes, self._selector, generation, self._close_in_child
        )
        if adopted:
            self._on_ready = None
            succession.adopt(self._children, adopted["children"])
        else:
            for kind, index in self._places_of(self._settings):
                self._children.add(kind, index)
        self._operations = Operations(
            self._source,
            self._children,
            self._held.slots,
            self._held.admin_slots,
            self._selector,
            self._places_of,
            partial(self._close_in_child, None),
            self._hand_over,
        )
        self._traffic = Traffic(self._held.slots)
        if adopted:
            self._operations.replace_all(self._settings)

    def _hand_over(self) -> None:
        """Become the next program. Raises OSError; then all is as it was."""
        assert self._children
        self._log.info("upgrading")
        state = {
            "held": self._held.state(),
            "children": succession.state_of(self._children),
            "started_at": self._started_at,
        }
        handover.execute(state)

    def _places_of(self, settings: Settings) -> list[tuple[Kind, int]]:
        """What is to be filled, with such settings."""
        counts: list[tuple[Kind, int]] = [
            ("admin", 1),
            ("worker", 0 if self._relay_only else settings.server.workers),
            ("relay", settings.relay.workers if self._with_relay else 0),
        ]
        return [(kind, index) for kind, count in counts for index in range(count)]

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
        if self._held.store:
            self._held.store.tick(now)
        self._operations.tick(now)
        self._children.tick(now)
        if self._traffic:
            self._traffic.direct(self._children, now)
        if self._children.generation.key_files.changed(now):
            self._log.info("certificate files changed")
            self._children.hand_out_certificates()
        if self._ending:
            self._ending.tick(now)
        self._notify.tick(now)
        self._tell_systemd()
        if self._on_ready and self._children.all_ready() and self._children.store_answered:
            on_ready, self._on_ready = self._on_ready, None
            on_ready()
        if now >= self._tell_at():
            self._children.changed = self._children.recounted = False
            self._told_at = now
            self._children.inform(self._status(now))

    def _due_at(self) -> float:
        assert self._children
        assert self._operations
        return min(
            self._operations.due_at(),
            self._notify.due_at(),
            self._children.due_at(),
            self._children.generation.key_files.due_at(),
            self._held.store.due_at() if self._held.store else float("inf"),
            self._ending.due_at() if self._ending else float("inf"),
            self._tell_at(),
        )

    def _tell_at(self) -> float:
        """When the admin is to hear of us next. A count is told late, so that it is the last of several."""
        assert self._children
        if self._children.changed:
            return 0.0
        return self._told_at + (RECOUNT_S if self._children.recounted else TICK_S)

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
            if self._held.store and pid == self._held.store.pid:
                self._held.store.reaped(now, how_it_ended(status))
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
            self._children, self._held.store, self._held.slots.close, server.drain_timeout_s, server.drain_grace_s
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
        store = self._held.store.status() if self._held.store else {"embedded": False}
        restarts = status.restarts(children)
        if self._held.store:
            restarts["store"] = self._held.store.restarts
        return {
            "pid": self._pid,
            "started_at": self._started_at,
            "state": "draining" if self._ending else "running",
            "reloading": bool(self._operations and self._operations.reloading),
            "listeners": [{"name": group.listener, "address": str(group.bind)} for group in self._held.slots.groups],
            "children": status.in_service(children, now),
            "leaving": status.leaving(children, now),
            "store": store | {"answered": children.store_answered},
            "restarts": restarts,
        }

    def _tell_systemd(self) -> None:
        assert self._children
        assert self._operations
        if self._ending:
            self._notify.state("STOPPING", "draining")
        elif self._operations.reloading:
            self._notify.state("RELOADING", "reloading")
        elif self._children.all_ready() and self._children.store_answered:
            self._notify.state("READY", f"serving, {len(self._children.of('worker'))} workers")

    # -- ending --------------------------------------------------------------------------------------------------

    def _close_in_child(self, context: ChildContext | None) -> None:
        """In a new child: close everything of the master's but what the child was given, if it was given anything."""
        assert self._children
        self._selector.close()
        self._signals.close()
        self._children.close_in_child(context)
        self._held.close_in_child(context.given() if context else [])

    def close(self) -> None:
        """Leave nothing behind, whichever way the end came."""
        if self._children and not (
            self._ending and self._ending.done
        ):  # a bug of ours: nobody is left to care for them
            left = self._children.alive(MAINS)
            self._children.kill(left)
            if self._held.store:
                self._held.store.kill()
            for pid in [child.pid for child in left] + (
                [self._held.store.pid] if self._held.store and self._held.store.pid else []
            ):
                os.waitpid(pid, 0)
        self._held.close()
        self._selector.close()
        self._signals.restore()


def how_it_ended(status: int) -> str:
    """A wait status in words."""
    code = os.waitstatus_to_exitcode(status)
    return f"exit {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"
