"""What an operator asks of a running master by signals: reload (HUP), a worker more (TTIN) or fewer (TTOU).

One thing at a time: what is asked while a reload goes on waits for its end; while everything ends, nothing is begun.
"""

from __future__ import annotations

import selectors
import signal
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mta_front.master.child import Kind
from mta_front.master.children import Children
from mta_front.master.reload import Reload, Source
from mta_front.master.slots import Slots
from mta_front.master.trial import Trial
from mta_front.observe import log

if TYPE_CHECKING:
    from mta_front.config import Settings


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
    ) -> None:
        self._source = source
        self._children = children
        self._slots = slots
        self._admin_slots = admin_slots
        self._selector = selector
        self._places_of = places_of
        self._close_in_child = close_in_child
        self._log = log.logger()
        self._reload: Reload | None = None
        self._waiting: deque[signal.Signals] = deque()
        self._ended = False
        self._meanings: dict[signal.Signals, Callable[[], None]] = {
            signal.SIGHUP: self._begin_reload,
            signal.SIGTTIN: self._add_worker,
            signal.SIGTTOU: self._remove_worker,
            signal.SIGUSR1: self._reopen_logs,
        }

    @property
    def reloading(self) -> bool:
        """Whether a reload goes on."""
        return self._reload is not None

    def asked(self, number: signal.Signals) -> None:
        """A signal came."""
        if self._ended or number not in self._meanings:
            reason = "everything ends" if self._ended else "it has no meaning yet"
            self._log.warning("signal ignored", signal=number.name, reason=reason)
        elif number != signal.SIGHUP or number not in self._waiting:  # two reloads in a row are one
            self._waiting.append(number)

    def tick(self, now: float) -> None:
        """Go on with what was begun, begin what waits."""
        if self._reload:
            self._reload.tick(now)
            if self._reload.done:
                self._reload = None
        while self._waiting and not self._reload:
            self._meanings[self._waiting.popleft()]()
            if self._reload and self._reload.done:
                self._reload = None

    def due_at(self) -> float:
        """When `tick` has something to do again."""
        return self._reload.due_at() if self._reload else float("inf")

    def reaped(self, pid: int, how: str) -> bool:
        """A process ended. Whether it was one of ours."""
        return self._reload is not None and self._reload.reaped(pid, how)

    def end(self) -> None:
        """Everything ends: begin nothing more, and leave nothing half done."""
        self._ended = True
        self._waiting.clear()
        if self._reload:
            self._reload.abort("everything ends")
            self._reload = None

    def _begin_reload(self) -> None:
        if self._source is None:
            self._log.warning("signal ignored", signal="SIGHUP", reason="the settings come from no file")
            return

        def start_trial(examine: Callable[[], Any]) -> Trial:
            return Trial(examine, self._close_in_child, self._selector)

        self._reload = Reload(
            self._source, self._children, self._slots, self._admin_slots, self._places_of, start_trial
        )

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
