"""The children: who fills which place, who follows whom, who is late, who ended, and who is to be started again.

A child in service is replaced without a gap: its successor boots beside it, takes over when it is ready, and only then
the old one drains. Both hold the same sockets, so nothing that waits there is lost.
"""

from __future__ import annotations

import base64
import os
import selectors
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from mta_front.master.backoff import Pace
from mta_front.master.child import ChildContext, Kind, Main
from mta_front.master.failure import CannotStart
from mta_front.master.forking import fork_child
from mta_front.master.generation import Generation
from mta_front.master.heartbeat import Heartbeat
from mta_front.master.killing import Killing, kill
from mta_front.master.lanes import Lanes
from mta_front.master.places import NAMES, Child, Place
from mta_front.observe import log

MARGIN_S = 2.0
"""What a child that leaves may take beyond the time that it was told."""


class Children:
    """All places, and the processes in them."""

    def __init__(
        self,
        mains: Mapping[Kind, Main],
        pace: Pace,
        lanes: Lanes,
        selector: selectors.BaseSelector,
        generation: Generation,
        close_others: Callable[[ChildContext], None],
    ) -> None:
        """`close_others` runs in each new child."""
        self._mains = mains
        self._pace = pace
        self._lanes = lanes
        self._selector = selector
        self._close_others = close_others
        self._killing = Killing(lanes)
        self._log = log.logger()
        self._boot_failures = Counter[Kind]()
        self._were_ready = set[Kind]()
        self._found_fit = set[Kind]()
        self._unfit_store: dict[Kind, str] = {}  # what it said to kinds that have not found it fit yet
        self.gone_restarts = Counter[Kind]()
        """Of places that are none any more."""
        self._left: list[Place] = []  # no longer places, but somebody drains there
        self.generation = generation
        self.places: list[Place] = []
        self.respawning = True
        self.hold = False
        """Successors that are ready wait for `promote`: a reload exchanges all at once."""
        self.failed_successor = ""
        """Why the last successor that came to nothing did."""
        self.store_answered = False
        """Some child has had an answer from the store since the master started."""
        self.changed = True
        """Something happened that the admin should know."""
        self.recounted = False
        """A worker said how many sessions it has, since the admin was told."""

    # -- places --------------------------------------------------------------------------------------------------

    def add(self, kind: Kind, index: int, *, counted: bool = True) -> Place:
        """A place that is to be filled from now on."""
        place = Place(kind, index, counted=counted)
        self.places.append(place)
        return place

    def of(self, kind: Kind) -> list[Place]:
        """The places of a kind, by number."""
        return sorted((place for place in self.places if place.kind == kind), key=lambda place: place.index)

    def remove(self, place: Place, closing: Iterable[int] = ()) -> None:
        """A place that is not wanted any more: whoever is in it drains. `closing`: as in `promote`."""
        self.places.remove(place)
        self._left.append(place)
        self.gone_restarts[place.kind] += place.restarts
        for child in (place.successor, place.child):
            if child:
                self._leave(place, child, closing)
        place.child = place.successor = None
        self._forget_left()

    def all_places(self) -> list[Place]:
        """Also those that are none any more, but in which somebody drains."""
        return [*self.places, *self._left]

    def found_ready(self, kind: Kind) -> None:
        """Processes of this kind can start: they did, under an earlier program."""
        self._were_ready.add(kind)
        self._found_fit.add(kind)

    def succeed(self, place: Place, generation: Generation) -> None:
        """Start a successor to whoever is in this place, beside him."""
        if place.successor:
            self._leave(place, place.successor)
        place.successor = self._spawn(place, generation, time.monotonic())

    def promote(self, place: Place, closing: Iterable[int] = ()) -> None:
        """The successor takes over; who was there drains. `closing`: the numbers of his sockets that go away."""
        before, place.child, place.successor = place.child, place.successor, None
        place.renewal = ""
        place.short_lives = 0
        place.counted = True
        if before:
            self._leave(place, before, closing)
        self.changed = True

    def dismiss_successors(self) -> None:
        """Nothing comes of them: whoever was to be succeeded stays."""
        for place in self.places:
            if place.successor:
                self._leave(place, place.successor)
                place.successor = None

    def alive(self, kinds: Iterable[Kind]) -> list[Child]:
        """The living processes of these kinds."""
        wanted = set(kinds)
        return [child for place in self.all_places() if place.kind in wanted for child in place.living]

    def all_ready(self) -> bool:
        """Whether every place is filled by a process that works, and every worker accepts."""
        return all(
            place.child and place.child.state == "ready" and (place.child.accepting or place.kind != "worker")
            for place in self.places
        )

    # -- time ----------------------------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Do what is due: start who is missing, kill who is late.

        Raises CannotStart when the first thing that the store says is that it cannot be trusted with mail. Once it was
        fit, the master goes on, and clients hear 451 until it is again.
        """
        if self._unfit_store and self.respawning:
            _, reason = self._unfit_store.popitem()
            raise CannotStart(os.EX_CONFIG, f"the store cannot be trusted with mail: {reason}")
        for place in self.places:
            if self._lacks(place) and now >= place.due_at:
                if place.child:
                    place.successor = self._spawn(place, self.generation, now)
                else:
                    place.child = self._spawn(place, self.generation, now)
        for place in self.all_places():
            for child in place.living:
                child.control.flush()
                self._killing.judge(place, child, now)

    def _lacks(self, place: Place) -> bool:
        """Whether somebody is to be started in it."""
        wanted = not place.child or bool(place.renewal and not place.successor and not self.hold)
        return wanted and self.respawning and not place.pending

    def due_at(self) -> float:
        """When `tick` has something to do again."""
        due = [place.due_at for place in self.places if self._lacks(place)]
        due += [self._killing.due_at(child) for child in self.alive(NAMES)]
        return min(due, default=float("inf"))

    def reaped(self, pid: int, how: str, now: float) -> bool:
        """A process ended. False if it is none of ours. Raises CannotStart when its kind never gets ready."""
        for place in self.all_places():
            for child in place.living:
                if child.pid == pid:
                    self._bury(place, child, how, now)
                    return True
        return False

    def _bury(self, place: Place, child: Child, how: str, now: float) -> None:
        place.living.remove(child)
        self._drop_control(place, child)
        self._lanes.give_back(child.lane)
        self.changed = True
        self._forget_left()
        if child is place.successor:
            self.failed_successor = f"the new {place.kind} {place.index} cannot start: {child.fault or how}"
            place.successor = None
            place.short_lives += 1
            place.due_at = now + self._pace.delay_s(place.short_lives, was_ready=False)
        elif child is place.child:
            place.child = None
            if not child.ending:
                self._count_life(place, child, now)
            if place.successor and place.successor.heartbeat.ready_at and not self.hold:
                self.promote(place)
        if child.ending:
            write = self._log.info if how == "exit 0" else self._log.warning
            write(f"{place.kind} ended", how=how, **place.names(child))
            return
        self._log.error(
            f"{place.kind} died",
            how=how,
            **({"fault": child.fault} if child.fault else {}),
            again_in_s=round(max(0.0, place.due_at - now), 3) if self.respawning else None,
            **place.names(child),
        )
        if self._boot_failures[place.kind] >= self._pace.boot_attempts and place.kind not in self._were_ready:
            raise CannotStart(
                os.EX_SOFTWARE,
                f"no {place.kind} can start: {self._boot_failures[place.kind]} tries, the last: {child.fault or how}",
            )

    # -- orders --------------------------------------------------------------------------------------------------

    def order(self, kinds: Iterable[Kind], **order: Any) -> None:
        """Tell all processes of these kinds to drain or to stop."""
        for child in self.alive(kinds):
            child.ending = True
            child.control.order(**order)
        self.changed = True

    def hand_out_certificates(self) -> None:
        """Give the workers what the files hold now."""
        files = {path: base64.b64encode(held).decode() for path, held in self.generation.key_files.files.items()}
        for child in self.alive(["worker"]):
            if child.generation is self.generation:
                child.control.order(do="certificates", files=files)

    def kill(self, children: Iterable[Child]) -> None:
        """SIGKILL; they are reaped later."""
        for child in children:
            kill(child)

    def inform(self, status: dict[str, Any]) -> None:
        """Send the status to the admin."""
        for child in self.alive(["admin"]):
            child.control.inform(status=status)

    def forgive(self, lost_s: float) -> None:
        """The master stood still: nobody is late for that."""
        for child in self.alive(NAMES):
            child.heartbeat.forgive(lost_s)

    def _leave(self, place: Place, child: Child, closing: Iterable[int] = ()) -> None:
        """While all others go on, this one drains: at once, nobody has to be told before."""
        timeout_s = child.generation.settings.server.drain_timeout_s
        child.end_by_at = time.monotonic() + timeout_s + MARGIN_S
        if child.heartbeat.ready_at:
            child.control.order(do="drain", grace_s=0.0, timeout_s=timeout_s, closing=list(closing))
        else:
            kill(child)  # it serves nobody yet, and may not listen either
        child.ending = True
        self._log.info(f"{place.kind} drains", **place.names(child))
        self.changed = True

    def close_in_child(self, context: ChildContext | None) -> None:
        """In a new child: close the control sockets of its siblings, and their lanes."""
        for child in self.alive(NAMES):
            child.control.close()
        self._lanes.keep_only(context.lane if context else -1)

    # -- processes -----------------------------------------------------------------------------------------------

    def _spawn(self, place: Place, generation: Generation, now: float) -> Child | None:
        lane = self._lanes.take()

        def make(control: socket.socket) -> ChildContext:
            return ChildContext(
                kind=place.kind,
                index=place.index,
                lane=lane,
                settings=generation.settings,
                sockets=generation.sockets_of(place.kind, place.index),
                others=generation.others_of(place.kind, place.index),
                control=control,
                stack_file=str(self._lanes.stack_file(lane)),
                metrics_dir=str(self._lanes.metrics_dir),
                clients_dir=str(self._lanes.clients_dir),
                key_files=generation.key_files.files if place.kind == "worker" else {},
                store_url=generation.store_url,
            )

        try:
            pid, control = fork_child(make, self._mains[place.kind], self._close_others)
        except OSError as error:  # no process or no memory left: others may end, then it works
            self._lanes.give_back(lane)
            place.short_lives += 1
            place.due_at = now + self._pace.delay_s(place.short_lives, was_ready=False)
            self.failed_successor = f"cannot fork a {place.kind}: {error.strerror}"
            self._log.error(
                f"cannot fork a {place.kind}", error=error.strerror, again_in_s=round(place.due_at - now, 3)
            )
            return None
        self._lanes.note(lane, f"pid {pid} ({place.kind} {place.index})\n")
        server = generation.settings.server
        child = Child(pid, lane, control, Heartbeat(now, server.boot_timeout_s, server.block_kill_s), generation)
        self.watch(place, child)
        self._log.info(f"{place.kind} started", **place.names(child))
        return child

    def watch(self, place: Place, child: Child) -> None:
        """A process that lives in this place: hear what it says."""
        place.living.append(child)
        self._selector.register(child.control.socket, selectors.EVENT_READ, lambda: self._hear(place, child))
        self.changed = True

    def _hear(self, place: Place, child: Child) -> None:
        reports = child.control.receive()
        if reports is None:
            self._drop_control(place, child)  # it is dying, or talks nonsense and will be late
            return
        now = time.monotonic()
        for report in reports:
            self._note(place, child, report, now)

    def _note(self, place: Place, child: Child, report: dict[str, Any], now: float) -> None:
        if standstill := report.get("standstill"):  # said by its watchdog, not by its hub: no sign of life
            self._log.warning(f"{place.kind} stands still", **standstill, **place.names(child))
            child.standstill = standstill
            self.changed = True
            return
        child.heartbeat.heard(now)
        child.standstill = None
        match report:
            case {"sessions": int(sessions)}:
                child.sessions = sessions
                self.recounted = True
            case {"ready": {"accepting": bool(accepting)}}:
                self._note_ready(place, child, accepting, now)
            case {"store": {"answered": bool(answered)}}:
                self.store_answered |= answered
                self._found_fit.add(place.kind)
                self._unfit_store.pop(place.kind, None)
                self.changed = True
            case {"store": {"unfit": str(reason)}}:
                # A relay finds fit what workers may not: it asks less of a store that it only drains.
                if place.kind not in self._found_fit:
                    self._unfit_store[place.kind] = reason
            case {"leaving": str(reason)} if not child.ending:
                self._log.info(f"{place.kind} leaves by itself", reason=reason, **place.names(child))
                child.ending = True
                child.end_by_at = now + child.generation.settings.server.drain_timeout_s + MARGIN_S
                if child is place.child:
                    place.child = None
                self.changed = True
            case {"renew": str(reason)} if child is place.child and not place.renewal:
                self._log.info(f"{place.kind} is to be replaced", reason=reason, **place.names(child))
                place.renewal = reason
            case {"fault": str(fault)}:
                child.fault = fault

    def _note_ready(self, place: Place, child: Child, accepting: bool, now: float) -> None:
        if not child.heartbeat.ready_at:
            booted_s = round(now - child.heartbeat.born_at, 3)
            self._log.info(f"{place.kind} ready", after_s=booted_s, **place.names(child))
        child.heartbeat.ready(now)
        child.accepting = accepting
        self._were_ready.add(place.kind)
        self.changed = True
        if child is place.child:
            place.counted = True
        elif child is place.successor and not self.hold:
            self.promote(place)

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

    def _forget_left(self) -> None:
        self._left = [place for place in self._left if place.living]

    def _drop_control(self, place: Place, child: Child) -> None:
        """Stop to listen, after a last look: why it ended may still lie there."""
        if child.control.closed:
            return
        self._selector.unregister(child.control.socket)
        while reports := child.control.receive():
            for report in reports:
                self._note(place, child, report, time.monotonic())
        child.control.close()
