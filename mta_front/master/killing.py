"""The end of processes that are late: asked where they stand, then killed."""

from __future__ import annotations

import contextlib
import os
import signal

from mta_front.master.lanes import Lanes
from mta_front.master.places import Child, Place
from mta_front.observe import log

STACK_TIMEOUT_S = 0.2
"""What a process that is about to be killed has to write where it stands."""

STACK_MAX_CHARS = 20_000


def kill(child: Child) -> None:
    """SIGKILL; it is reaped later."""
    child.killed = True
    with contextlib.suppress(ProcessLookupError):
        os.kill(child.pid, signal.SIGKILL)


class Killing:
    """Judges who is late."""

    def __init__(self, lanes: Lanes) -> None:
        self._lanes = lanes
        self._log = log.logger()

    def judge(self, place: Place, child: Child, now: float) -> None:
        """Do with it what is due."""
        if child.killed:
            return
        if now >= child.kill_at:
            self._log.error(f"{place.kind} stood here", stack=self._stack_of(child), **place.names(child))
            kill(child)
            return
        reason = "did not end in time" if now >= child.end_by_at else child.heartbeat.lateness(now)
        if reason and child.kill_at == float("inf"):
            self._log.error(f"{place.kind} killed", reason=reason, **place.names(child))
            with contextlib.suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGUSR2)  # see `mta_front.watchdog`
            child.kill_at = now + STACK_TIMEOUT_S

    def due_at(self, child: Child) -> float:
        """When `judge` has something to do."""
        if child.killed:
            return float("inf")
        return min(child.heartbeat.deadline_at(), child.end_by_at) if child.kill_at == float("inf") else child.kill_at

    def _stack_of(self, child: Child) -> str:
        try:
            with self._lanes.stack_file(child.lane).open("r", errors="backslashreplace") as file:
                return file.read(STACK_MAX_CHARS)
        except OSError:
            return ""
