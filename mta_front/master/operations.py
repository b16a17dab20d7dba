"""What an operator asks of a running master by signals: reload (HUP), upgrade (USR2), a worker more (TTIN) or
fewer (TTOU).

One thing at a time: what is asked while a reload goes on waits for its end; while everything ends, nothing is begun.
"""

from __future__ import annotations

import selectors
import signal
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from mta_front.checks import Findings
from mta_front.master import trial
from mta_front.master.child import Kind
from mta_front.master.children import Children
from mta_front.master.reload import Reload, Source
from mta_front.master.slots import Slots
from mta_front.master.upgrade import Upgrade
from mta_front.observe import log

if TYPE_CHECKING:
    from mta_front.config import Settings


ONCE = (signal.SIGHUP, signal.SIGUSR2)
"""Who asks for these twice, before the first is begun, asked once."""


class Operations:
    """Of one master. `source`: where its settings came from; None: they cannot be read again."""

    def __init__(
        self,
        source: Source | None,
        children: Children,
        slots: Slots,
        admin_slots: Slots,
        selector: selectors.BaseSelector,
        places_of: Callable[[Settings], list[tuple[Kind, int]]],
        close_in_child: Callable[[], None],
        hand_over: Callable[[], None],
    ) -> None:
        """`hand_over` becomes the program that is on disk now."""
        self._source = source
        self._children = children
        self._slots = slots
        self._admin_slots = admin_slots
        self._selector = selector
        self._places_of = places_of
        self._close_in_child = close_in_child
        self._hand_over = hand_over
        self._log = log.logger()
        self._at_work: Reload | Upgrade | None = None
        self._waiting: deque[signal.Signals] = deque()
        self._ended = False
        self._meanings: dict[signal.Signals, Callable[[], None]] = {
            signal.SIGHUP: self._begin_reload,
            signal.SIGTTIN: self._add_worker,
            signal.SIGTTOU: self._remove_worker,
            signal.SIGUSR1: self._reopen_logs,
            signal.SIGUSR2: self._begin_upgrade,
        }

    @property
    def reloading(self) -> bool:
        """Whether a reload or an upgrade goes on."""
        return self._at_work is not None

    def asked(self, number: signal.Signals) -> None:
        """A signal came."""
        if self._ended or number not in self._meanings:
            reason = "everything ends" if self._ended else "it has no meaning yet"
            self._log.warning("signal ignored", signal=number.name, reason=reason)
        elif number not in ONCE or number not in self._waiting:
            self._waiting.append(number)

    def tick(self, now: float) -> None:
        """Go on with what was begun, begin what waits."""
        if self._at_work:
            self._at_work.tick(now)
            if self._at_work.done:
                self._at_work = None
        while self._waiting and not self._at_work:
            self._meanings[self._waiting.popleft()]()
            if self._at_work and self._at_work.done:
                self._at_work = None

    def due_at(self) -> float:
        """When `tick` has something to do again."""
        return self._at_work.due_at() if self._at_work else float("inf")

    def reaped(self, pid: int, how: str) -> bool:
        """A process ended. Whether it was one of ours."""
        return self._at_work is not None and self._at_work.reaped(pid, how)

    def end(self) -> None:
        """Everything ends: begin nothing more, and leave nothing half done."""
        self._ended = True
        self._waiting.clear()
        if self._at_work:
            self._at_work.abort("everything ends")
            self._at_work = None

    def replace_all(self, settings: Settings) -> None:
        """These settings are good: replace whoever serves by processes with them."""
        self._at_work = self._reload_from(settings)

    def _begin_reload(self) -> None:
        if self._source is None:
            self._log.warning("signal ignored", signal="SIGHUP", reason="nobody said where the settings came from")
            return
        self._at_work = self._reload_from(self._source)

    def _reload_from(self, source: Source | Settings) -> Reload:
        def start_trial(examine: Callable[[], Findings]) -> trial.Trial:
            return trial.of_settings(examine, self._close_in_child, self._selector)

        return Reload(source, self._children, self._slots, self._admin_slots, self._places_of, start_trial)

    def _begin_upgrade(self) -> None:
        self._at_work = Upgrade(self._children, self._hand_over, self._selector)

    def _add_worker(self) -> None:
        taken = {place.index for place in self._children.of("worker")}
        free = [slot for slot in range(self._slots.count) if slot not in taken]
        if not taken or not free:
            reason = f"there are sockets for {self._slots.count} workers" if taken else "there are no listeners"
            self._log.warning("signal ignored", signal="SIGTTIN", reason=reason)
            return
        self._log.info("a worker more", slot=free[0], workers=len(taken) + 1)
        self._children.add("worker", free[0], counted=False)

    def _remove_worker(self) -> None:
        workers = self._children.of("worker")
        if len(workers) < 2:
            self._log.warning("signal ignored", signal="SIGTTOU", reason="one worker stays")
            return
        self._log.info("a worker fewer", slot=workers[-1].index, workers=len(workers) - 1)
        self._children.remove(workers[-1])

    def _reopen_logs(self) -> None:
        self._log.info("logs go to standard error: there is no file to open again", signal="SIGUSR1")
