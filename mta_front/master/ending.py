"""The order in which everything ends: workers, relays, the admin, the embedded store last.

Workers drain while everything they need still runs; the relays then finish the attempts in hand; the admin answers that
we are not ready until nobody is left to be asked about. Each step has a time limit, after which its processes are
killed: the whole takes a bounded time, whatever hangs. A second signal skips the waiting, a third kills.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mta_front.master.child import Kind
from mta_front.master.children import Children
from mta_front.observe import log

if TYPE_CHECKING:
    from mta_front.master.store import EmbeddedStore

MARGIN_S = 2.0
"""What a child may take beyond the time that it was told."""

STOP_TIMEOUT_S = 2.0
"""From an order to stop at once until the kill."""

RELAY_LEAST_S = 5.0
"""What the relays get for their attempts in hand, even if the workers used up the time to drain."""

ALL: tuple[Kind, ...] = ("worker", "relay", "admin")


@dataclass(frozen=True, slots=True)
class Step:
    """Some kinds of process, what they are told, and how long they may take."""

    kinds: tuple[Kind, ...]
    drain: bool


class Ending:
    """One shutdown, from the first signal on."""

    def __init__(
        self,
        children: Children,
        store: EmbeddedStore | None,
        close_listeners: Callable[[], None],
        drain_timeout_s: float,
        drain_grace_s: float,
    ) -> None:
        """From here on nobody is started. `close_listeners` is called once, when the grace or the last worker ends."""
        now = time.monotonic()
        self._children = children
        self._store = store
        self._close_listeners: Callable[[], None] | None = close_listeners
        self.drain_timeout_s = drain_timeout_s
        self._grace_ends_at = now + min(drain_grace_s, drain_timeout_s)
        self._drained_by_at = now + drain_timeout_s
        self._log = log.logger()
        self._steps: deque[Step] = deque()
        self._kinds: tuple[Kind, ...] = ()
        self._deadline_at = float("inf")
        self._store_told = False
        self.exit_code = 0
        self.done = False
        self.hurried = False
        """It was told to stop at once."""
        children.respawning = False

    def drain(self) -> None:
        """Gently: sessions may end."""
        self._begin(Step(("worker",), drain=True), Step(("relay",), drain=True), Step(("admin",), drain=False))

    def stop(self) -> None:
        """At once."""
        self.hurried = True
        self._grace_ends_at = 0.0
        self._begin(Step(ALL, drain=False))

    def kill(self) -> None:
        """Now."""
        self._grace_ends_at = 0.0
        self._children.kill(self._children.alive(ALL))
        if self._store:
            self._store.kill()

    def tick(self, now: float) -> None:
        """Go on to what is next."""
        if self._close_listeners and (now >= self._grace_ends_at or not self._children.alive(["worker"])):
            self._close_listeners()
            self._close_listeners = None
        while left := self._children.alive(self._kinds):
            if now >= self._deadline_at:
                self._deadline_at = float("inf")
                self._log.warning("killed: did not end in time", pids=[child.pid for child in left])
                self._children.kill(left)
            return
        if self._steps:
            self._take(self._steps.popleft(), now)
            self.tick(now)
        elif self._store and self._store.pid:
            if not self._store_told:
                self._store_told = True
                self._store.stop(now)
        else:
            self.done = True

    def due_at(self) -> float:
        """When `tick` has something to do again."""
        return min(self._deadline_at, self._grace_ends_at if self._close_listeners else float("inf"))

    def _begin(self, *steps: Step) -> None:
        self._steps = deque(steps)
        self._kinds = ()
        self.tick(time.monotonic())

    def _take(self, step: Step, now: float) -> None:
        self._kinds = step.kinds
        if not step.drain:
            self._deadline_at = now + STOP_TIMEOUT_S
            self._children.order(step.kinds, do="stop")
            return
        rest_s = max(0.0, self._drained_by_at - now)
        if step.kinds == ("relay",):
            rest_s = max(RELAY_LEAST_S, rest_s)
        grace_s = max(0.0, self._grace_ends_at - now) if step.kinds == ("worker",) else 0.0
        self._deadline_at = now + rest_s + MARGIN_S
        self._children.order(step.kinds, do="drain", grace_s=grace_s, timeout_s=rest_s)
