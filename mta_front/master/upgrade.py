"""One upgrade (USR2): the program on disk is tried in a child, then takes the place of this one (see `handover`).

The way back is not to go: a program that cannot be imported, or refuses the settings, is found out in the child. After
the exchange the workers of the old program serve on until those of the new one are ready; if they never are, the old
ones stay.
"""

from __future__ import annotations

import selectors
from collections.abc import Callable

from mta_front.master import handover, trial
from mta_front.master.children import Children
from mta_front.observe import log


class Upgrade:
    """`hand_over` becomes the new program, or raises OSError. `done` when nothing came of it."""

    def __init__(self, children: Children, hand_over: Callable[[], None], selector: selectors.BaseSelector) -> None:
        self._children = children
        self._hand_over = hand_over
        self._trial: trial.Trial | None = None
        self.done = False
        log.logger().info("trying the program to upgrade to", program=" ".join(handover.command()))
        try:
            self._trial = trial.of_program(handover.command(), handover.trial_environment(), selector)
        except OSError as error:
            self.abort(str(error))

    def reaped(self, pid: int, how: str) -> bool:
        """A process ended. Whether it was ours."""
        return self._trial is not None and self._trial.reaped(pid, how)

    def tick(self, now: float) -> None:
        """Go on to what is next."""
        if self.done or self._trial is None:
            return
        self._trial.tick(now)
        if self._trial.findings is None:
            return
        if self._trial.findings.faults:
            self.abort("; ".join(self._trial.findings.faults))
            return
        self._children.dismiss_successors()
        try:
            self._hand_over()
        except OSError as error:
            self.abort(str(error))

    def due_at(self) -> float:
        """When `tick` has something to do, if nothing else happens."""
        return self._trial.due_at() if self._trial and not self.done else float("inf")

    def abort(self, reason: str) -> None:
        """Everything is as it was."""
        self.done = True
        if self._trial:
            self._trial.close()
        log.logger().error("upgrade refused: all stays as it was", reason=log.printable(reason))
