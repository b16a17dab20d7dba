"""One reload: read, check, boot everything new beside the old, and exchange all at once; or leave all as it was.

While it goes on, the old generation serves, and dies and is replaced as ever. Nothing of it is touched before every new
process has said that it is ready; so whatever is wrong with the new settings, a hook, a certificate or the code itself,
costs one line in the log and nothing else.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from mta_front.checks import Findings
from mta_front.master.child import Kind
from mta_front.master.children import Children
from mta_front.master.failure import CannotStart
from mta_front.master.generation import Generation, key_files_of
from mta_front.master.places import Place
from mta_front.master.slots import Slots, admin_doors
from mta_front.master.trial import Trial
from mta_front.observe import log
from mta_front.settings.faults import SettingsError

if TYPE_CHECKING:
    from mta_front.config import Settings

FIXED = ("data_dir", "pid_file", "user", "group")
"""What of `[server]` only a restart can change."""


@runtime_checkable
class Source(Protocol):
    """See `mta_front.reloading`."""

    def read(self) -> Settings: ...
    def examine(self) -> Findings: ...


class Refused(Exception):
    """The reload is not to be; the message says why, in one line."""


class Reload:
    """One of them. `done` when it is over, whichever way."""

    def __init__(
        self,
        source: Source | Settings,
        children: Children,
        slots: Slots,
        admin_slots: Slots,
        places_of: Callable[[Settings], list[tuple[Kind, int]]],
        start_trial: Callable[[Callable[[], Findings]], Trial],
    ) -> None:
        """`source`: where the settings are to be read, or settings that were read and checked. `places_of`: what there
        is to be filled with such settings.
        """
        self._children = children
        self._slots = slots
        self._admin_slots = admin_slots
        self._places_of = places_of
        self._log = log.logger()
        self._began_at = time.monotonic()
        self._before = children.generation
        self._settings = self._before.settings
        self._next: Generation | None = None
        self._added: list[Place] = []
        self._trial: Trial | None = None
        self.done = False
        if isinstance(source, Source):
            self._read(source, start_trial)
        else:
            self._settings = source

    def _read(self, source: Source, start_trial: Callable[[Callable[[], Findings]], Trial]) -> None:
        self._log.info("reloading")
        try:
            self._settings = source.read()
            self._refuse_what_is_fixed()
            self._trial = start_trial(source.examine)
        except SettingsError as error:
            self.abort("; ".join(error.faults))
        except (Refused, OSError) as error:
            self.abort(str(error))

    def reaped(self, pid: int, how: str) -> bool:
        """A process ended. Whether it was ours."""
        return self._trial is not None and self._trial.reaped(pid, how)

    def tick(self, now: float) -> None:
        """Go on to what is next."""
        if self.done:
            return
        try:
            if self._next:
                self._await_successors(self._next)
            elif self._trial is None:
                self._boot()
            else:
                self._trial.tick(now)
                if self._trial.findings:
                    self._take(self._trial.findings)
        except Refused as why:
            self.abort(str(why))
        except CannotStart as why:
            self.abort(why.message)

    def due_at(self) -> float:
        """When `tick` has something to do, if nothing else happens."""
        return self._trial.due_at() if self._trial and not self.done else float("inf")

    def abort(self, reason: str) -> None:
        """Leave everything as it was."""
        self._log.error("reload refused: all stays as it was", reason=log.printable(reason))
        self._finish()
        self._children.dismiss_successors()
        for place in self._added:
            self._children.remove(place)
        if self._next:
            self._slots.drop(self._next.doors)
            self._admin_slots.drop(self._next.admin_doors)

    def _finish(self) -> None:
        self.done = True
        self._children.hold = False
        if self._trial:
            self._trial.close()

    def _refuse_what_is_fixed(self) -> None:
        before, after = self._before.settings, self._settings
        fixed = [f"server.{key}" for key in FIXED if getattr(before.server, key) != getattr(after.server, key)]
        if bool(before.store.url) != bool(after.store.url):
            fixed.append("store.url (between an embedded store and another)")
        if fixed:
            raise Refused(f"only a restart can change {' and '.join(fixed)}")
        workers = sum(kind == "worker" for kind, _ in self._places_of(after))
        if workers > self._slots.count:
            raise Refused(
                f"server.workers = {workers} is more than the {self._slots.count} that there are sockets for; "
                "a restart makes more, up to server.max_workers"
            )

    def _take(self, findings: Findings) -> None:
        if findings.faults:
            raise Refused("; ".join(findings.faults))
        for remark in findings.remarks:
            self._log.warning("settings", remark=remark)
        self._boot()

    def _boot(self) -> None:
        """Everything that is to be, beside everything that is."""
        settings, before = self._settings, self._before
        doors = self._slots.open(settings.listeners, settings.server.backlog, self._leave_out) if before.doors else []
        try:
            admin = self._admin_slots.open(admin_doors(settings), settings.server.backlog)
        except CannotStart:
            self._slots.drop(doors)
            raise
        store_url = settings.store.url or before.store_url
        self._next = Generation(settings, store_url, key_files_of(settings), doors, admin)
        self._children.hold = True
        self._children.failed_successor = ""
        for kind, index in self._places_of(settings):
            place = next((place for place in self._children.of(kind) if place.index == index), None)
            if place is None:
                place = self._children.add(kind, index, counted=False)
                place.pending = True
                self._added.append(place)
            self._children.succeed(place, self._next)

    def _leave_out(self, why: CannotStart) -> None:
        """A port below 1024 can only be bound by the privileged: the rest applies."""
        if why.exit_code != os.EX_NOPERM:
            raise why
        self._log.error("a listener is left out: a restart can open it", reason=why.message)

    def _await_successors(self, generation: Generation) -> None:
        if self._children.failed_successor:
            raise Refused(self._children.failed_successor)
        successors = [place.successor for place in self._children.places if place.successor]
        if all(successor.heartbeat.ready_at for successor in successors):
            self._commit(generation)

    def _commit(self, generation: Generation) -> None:
        """From here on everything is new."""
        kept = {str(group.bind) for group in generation.doors}
        closing = [number for number, group in enumerate(self._before.doors) if str(group.bind) not in kept]
        self._children.generation = generation
        wanted = set(self._places_of(generation.settings))
        for place in list(self._children.places):
            place.pending = False
            if (place.kind, place.index) not in wanted:
                self._children.remove(place, closing)
            elif place.successor:
                self._children.promote(place, closing)
        self._slots.keep(generation.doors)
        self._admin_slots.keep(generation.admin_doors)
        self._finish()
        log.set_up(generation.settings.log.format, generation.settings.log.level, process="master")
        self._log.info("reloaded", after_s=round(time.monotonic() - self._began_at, 3))
