"""Lanes: numbers that identify processes for metrics (the lowest that no living process holds).

A lane is held by a `flock` on its file, whose descriptor the child inherits: a process that outlives its master, or
that drains while its successor already works, keeps its number. The next holder goes on with the lane's counter files;
gauge files say what is true of a living process and are removed, its count of sessions is set to 0.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from pathlib import Path

from mta_front.master.lock import FileLock, Held


class Lanes:
    """The lanes of one `data_dir`, as this master knows them."""

    def __init__(self, run_dir: Path) -> None:
        """`run_dir` gets the directories `lanes`, `metrics`, `clients` and `stacks`."""
        self.metrics_dir = run_dir / "metrics"
        self.clients_dir = run_dir / "clients"
        self._lanes_dir = run_dir / "lanes"
        self._stacks_dir = run_dir / "stacks"
        self._held: dict[int, FileLock] = {}
        for directory in (self._lanes_dir, self.metrics_dir, self.clients_dir, self._stacks_dir):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def state(self) -> list[dict[str, int]]:
        """For the next program in this process."""
        return [{"lane": lane, "fd": lock.fd} for lane, lock in self._held.items()]

    def adopt(self, state: list[dict[str, int]]) -> None:
        """Take over the locks of an earlier program."""
        self._held = {row["lane"]: FileLock(self._lanes_dir / str(row["lane"]), row["fd"]) for row in state}

    def take(self) -> int:
        """The lowest free lane. The lock is inherited by a child forked before `give_back`."""
        for lane in itertools.count():
            if lane not in self._held:
                with contextlib.suppress(Held):
                    self._held[lane] = FileLock.take(self._lanes_dir / str(lane))
                    self._forget(lane)
                    return lane
        raise AssertionError("unreachable")

    def stack_file(self, lane: int) -> Path:
        """Where the lane's process writes its stack when it is asked to."""
        return self._stacks_dir / str(lane)

    def give_back(self, lane: int) -> None:
        """Its process was reaped."""
        self._forget(lane)
        self._held.pop(lane).close()

    def keep_only(self, lane: int) -> None:
        """In a child: close the descriptors of all other lanes. Its own stays open as long as it lives."""
        for other, lock in self._held.items():
            if other != lane:
                lock.close()

    def note(self, lane: int, text: str) -> None:
        """Say in the lane's file who holds it."""
        self._held[lane].write(text)

    def start_anew(self, timeout_s: float) -> list[str]:
        """At a master's start: wait for the children of a predecessor to end, then forget what they counted.

        Returns who still lives after `timeout_s`; then nothing was forgotten.
        """
        living = []
        deadline = time.monotonic() + timeout_s
        for file in self._lanes_dir.iterdir():
            try:
                FileLock.take(file, deadline - time.monotonic()).remove()
            except Held as held:
                living.append(held.holder)
        if not living:
            for file in self.metrics_dir.glob("*.db"):
                file.unlink()
        return living

    def _forget(self, lane: int) -> None:
        """What was true of a living process is true no more: its gauges, its sessions (see `net.tally`)."""
        for file in self.metrics_dir.glob(f"gauge_*_{lane}.db"):
            file.unlink(missing_ok=True)
        for file in self.clients_dir.iterdir():
            with file.open("r+b") as cells:
                cells.seek(4 * lane)
                cells.write(bytes(4))
