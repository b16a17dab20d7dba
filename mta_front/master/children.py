"""The children: who fills which place, who is late, who ended, and who is to be started again.

A place is what there is to fill (slot 2, relay 0, the admin); a child is the process that fills it now.
"""

from __future__ import annotations

import base64
import contextlib
import os
import selectors
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mta_front.master.backoff import Pace
from mta_front.master.child import ChildContext, Kind, Main
from mta_front.master.control import Control
from mta_front.master.failure import CannotStart
from mta_front.master.forking import fork_child
from mta_front.master.heartbeat import Heartbeat
from mta_front.master.keyfiles import KeyFiles
from mta_front.master.lanes import Lanes
from mta_front.observe import log

if TYPE_CHECKING:
    from mta_front.config import Settings

PLACE_NAMES: dict[Kind, str] = {"worker": "slot", "relay": "relay", "admin": "admin"}


@dataclass(slots=True, eq=False)
class Child:
    """One process."""

    pid: int
    lane: int
    control: Control
    heartbeat: Heartbeat
    accepting: bool = False
    ending: bool = False
    """It was told to drain or to stop."""
    sessions: int = 0
    fault: str = ""
    """What it said about its end."""
    killed: bool = False

    @property
    def state(self) -> str:
        if self.ending:
            return "draining"
        return "ready" if self.heartbeat.ready_at else "booting"


@dataclass(slots=True, eq=False)
class Place:
    """What a child fills."""

    kind: Kind
    index: int
    child: Child | None = None
    due_at: float = 0.0
    short_lives: int = 0
    restarts: int = 0
    sockets: list[tuple[str, socket.socket]] = field(default_factory=list)

    def row(self, now: float) -> dict[str, Any]:
        """Its part of the status."""
        child = self.child
        row: dict[str, Any] = {"kind": self.kind, "index": self.index, "restarts": self.restarts}
        if child is None:
            return row | {"pid": 0, "state": "none", "accepting": False, "sessions": 0}
        return row | {
            "pid": child.pid,
            "lane": child.lane,
            "state": child.state,
            "accepting": child.accepting,
            "sessions": child.sessions,
            "silent_s": round(now - child.heartbeat.heard_at, 1) if child.heartbeat.heard_at else None,
        }


class Children:
    """All places, and the processes in them."""

    def __init__(
        self,
        settings: Settings,
        mains: Mapping[Kind, Main],
        pace: Pace,
        lanes: Lanes,
        selector: selectors.BaseSelector,
        store_url: str,
        key_files: KeyFiles,
        close_others: Callable[[ChildContext], None],
    ) -> None:
        """`close_others` runs in each new child."""
        self._settings = settings
        self._mains = mains
        self._pace = pace
        self._lanes = lanes
        self._selector = selector
        self._store_url = store_url
        self._key_files = key_files
        self._close_others = close_others
        self._log = log.logger()
        self._boot_failures = Counter[Kind]()
        self._were_ready = set[Kind]()
        self._found_fit = set[Kind]()
        self._unfit_store: dict[Kind, str] = {}  # what it said to kinds that have not found it fit yet
        self.places: list[Place] = []
        self.respawning = True
        self.store_answered = False
        """Some child has had an answer from the store since the master started."""
        self.changed = True
        """Something happened that the admin should know."""

    def add(self, kind: Kind, index: int, sockets: list[tuple[str, socket.socket]]) -> None:
        """A place that is to be filled from now on."""
        self.places.append(Place(kind, index, sockets=sockets))

    def alive(self, kinds: Iterable[Kind]) -> list[Child]:
        """The living processes of these kinds."""
        wanted = set(kinds)
        return [place.child for place in self.places if place.child and place.kind in wanted]

    def all_ready(self) -> bool:
        """Whether every place is filled by a process that works, and every worker accepts."""
        return all(
            place.child and place.child.state == "ready" and (place.child.accepting or place.kind != "worker")
            for place in self.places
        )

    def tick(self, now: float) -> None:
        """Do what is due: start who is missing, kill who is late.

        Raises CannotStart when the first thing that the store says is that it cannot be trusted with mail. Once it was
        fit, the master goes on, and clients hear 451 until it is again.
        """
        if self._unfit_store and self.respawning:
            _, reason = self._unfit_store.popitem()
            raise CannotStart(os.EX_CONFIG, f"the store cannot be trusted with mail: {reason}")
        for place in self.places:
            child = place.child
            if child is None:
                if self.respawning and now >= place.due_at:
                    self._spawn(place, now)
                continue
            child.control.flush()
            reason = child.heartbeat.lateness(now)
            if reason and not child.killed:
                self._log.error(f"{place.kind} killed", reason=reason, **self._names(place, child))
                self.kill([child])

    def due_at(self) -> float:
        """When `tick` has something to do again."""
        due = [
            place.child.heartbeat.deadline_at() if place.child else place.due_at
            for place in self.places
            if (place.child and not place.child.killed) or (not place.child and self.respawning)
        ]
        return min(due, default=float("inf"))

    def reaped(self, pid: int, how: str, now: float) -> bool:
        """A process ended. False if it is none of ours. Raises CannotStart when its kind never gets ready."""
        place = next((place for place in self.places if place.child and place.child.pid == pid), None)
        if place is None or place.child is None:
            return False
        child, place.child = place.child, None
        self._drop_control(place, child)
        self._lanes.give_back(child.lane)
        self.changed = True
        if child.ending:
            write = self._log.info if how == "exit 0" else self._log.warning
            write(f"{place.kind} ended", how=how, **self._names(place, child))
            return True
        self._count_life(place, child, now)
        self._log.error(
            f"{place.kind} died",
            how=how,
            **({"fault": child.fault} if child.fault else {}),
            again_in_s=round(max(0.0, place.due_at - now), 3) if self.respawning else None,
            **self._names(place, child),
        )
        if self._boot_failures[place.kind] >= self._pace.boot_attempts and place.kind not in self._were_ready:
            raise CannotStart(
                os.EX_SOFTWARE,
                f"no {place.kind} can start: {self._boot_failures[place.kind]} tries, the last: {child.fault or how}",
            )
        return True

    def order(self, kinds: Iterable[Kind], **order: Any) -> None:
        """Tell all processes of these kinds to drain or to stop."""
        for child in self.alive(kinds):
            child.ending = True
            child.control.order(**order)
        self.changed = True

    def hand_out_certificates(self) -> None:
        """Give the workers what the files hold now."""
        files = {path: base64.b64encode(content).decode() for path, content in self._key_files.files.items()}
        for child in self.alive(["worker"]):
            child.control.order(do="certificates", files=files)

    def kill(self, children: Iterable[Child]) -> None:
        """SIGKILL; they are reaped later."""
        for child in children:
            child.killed = True
            with contextlib.suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGKILL)

    def inform(self, status: dict[str, Any]) -> None:
        """Send the status to the admin."""
        for child in self.alive(["admin"]):
            child.control.inform(status=status)

    def forgive(self, lost_s: float) -> None:
        """The master stood still: nobody is late for that."""
        for child in self.alive(PLACE_NAMES):
            child.heartbeat.forgive(lost_s)

    def rows(self, now: float) -> list[dict[str, Any]]:
        """The status of all places."""
        return [place.row(now) for place in self.places]

    def restarts(self) -> dict[str, int]:
        """How many processes of each kind were replaced."""
        counts: dict[str, int] = {**dict.fromkeys(PLACE_NAMES, 0)}
        for place in self.places:
            counts[place.kind] += place.restarts
        return counts

    def close_in_child(self, context: ChildContext) -> None:
        """In a new child: close the control sockets of its siblings, and their lanes."""
        for child in self.alive(PLACE_NAMES):
            child.control.close()
        self._lanes.keep_only(context.lane)

    def _spawn(self, place: Place, now: float) -> None:
        lane = self._lanes.take()

        def make(control: socket.socket) -> ChildContext:
            return ChildContext(
                kind=place.kind,
                index=place.index,
                lane=lane,
                settings=self._settings,
                sockets=place.sockets,
                control=control,
                metrics_dir=str(self._lanes.metrics_dir),
                clients_dir=str(self._lanes.clients_dir),
                key_files=self._key_files.files if place.kind == "worker" else {},
                store_url=self._store_url,
            )

        try:
            pid, control = fork_child(make, self._mains[place.kind], self._close_others)
        except OSError as error:  # no process or no memory left: others may end, then it works
            self._lanes.give_back(lane)
            place.short_lives += 1
            place.due_at = now + self._pace.delay_s(place.short_lives, was_ready=False)
            self._log.error(
                f"cannot fork a {place.kind}", error=error.strerror, again_in_s=round(place.due_at - now, 3)
            )
            return
        self._lanes.note(lane, f"pid {pid} ({place.kind} {place.index})\n")
        server = self._settings.server
        heartbeat = Heartbeat(now, server.boot_timeout_s, server.heartbeat_timeout_s)
        child = place.child = Child(pid, lane, control, heartbeat)
        self._selector.register(control.socket, selectors.EVENT_READ, lambda: self._hear(place, child))
        self._log.info(f"{place.kind} started", **self._names(place, child))
        self.changed = True

    def _hear(self, place: Place, child: Child) -> None:
        reports = child.control.receive()
        if reports is None:
            self._drop_control(place, child)  # it is dying, or talks nonsense and will be late
            return
        now = time.monotonic()
        for report in reports:
            child.heartbeat.heard(now)
            self._note(place, child, report, now)

    def _note(self, place: Place, child: Child, report: dict[str, Any], now: float) -> None:
        match report:
            case {"ready": {"accepting": bool(accepting)}}:
                if not child.heartbeat.ready_at:
                    booted_s = round(now - child.heartbeat.born_at, 3)
                    self._log.info(f"{place.kind} ready", after_s=booted_s, **self._names(place, child))
                child.heartbeat.ready(now)
                child.accepting = accepting
                self._were_ready.add(place.kind)
                self.changed = True
            case {"store": {"answered": bool(answered)}}:
                self.store_answered |= answered
                self._found_fit.add(place.kind)
                self._unfit_store.pop(place.kind, None)
                self.changed = True
            case {"store": {"unfit": str(reason)}}:
                # A relay finds fit what workers may not: it asks less of a store that it only drains.
                if place.kind not in self._found_fit:
                    self._unfit_store[place.kind] = reason
            case {"sessions": int(sessions)}:
                child.sessions = sessions
            case {"fault": str(fault)}:
                child.fault = fault

    def _count_life(self, place: Place, child: Child, now: float) -> None:
        """What this end means for the next start."""
        was_ready = bool(child.heartbeat.ready_at)
        if was_ready and now - child.heartbeat.ready_at >= self._pace.good_life_s:
            place.short_lives = 0
        place.short_lives += 1
        place.restarts += 1
        place.due_at = now + self._pace.delay_s(place.short_lives, was_ready=was_ready)
        if not was_ready:
            self._boot_failures[place.kind] += 1

    def _drop_control(self, place: Place, child: Child) -> None:
        """Stop to listen, after a last look: why it ended may still lie there."""
        if child.control.closed:
            return
        self._selector.unregister(child.control.socket)
        for report in self._rest(child):
            self._note(place, child, report, time.monotonic())
        child.control.close()

    @staticmethod
    def _rest(child: Child) -> Iterator[dict[str, Any]]:
        while reports := child.control.receive():
            yield from reports

    @staticmethod
    def _names(place: Place, child: Child) -> dict[str, Any]:
        return {PLACE_NAMES[place.kind]: place.index, "pid": child.pid, "lane": child.lane}
