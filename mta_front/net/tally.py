"""How many sessions a listener has at once (`max_clients`): in this process, or over all workers of a pod.

The workers share a file, one number per lane (see `master.lanes`), mapped into each of them: a count needs no message
and no system call. Each writes its own number only, so nothing is ever lost in a race; it counts itself in first and
looks at the sum then, so the limit is never passed. A number outlives its worker by no more than the master needs to
see it dead, for it zeroes the lane.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import Protocol

MAX_LANES = 1024
_CELL_BYTES = 4


class Tally(Protocol):
    """A count with a limit."""

    def enter(self) -> bool:
        """Count one session in; False, and not counted, when there are too many."""

    def leave(self) -> None:
        """One session that was counted in is over."""


class LocalTally:
    """Of this process alone. `limit` 0: none."""

    __slots__ = ("_count", "_limit")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._count = 0

    def enter(self) -> bool:
        """See Tally."""
        if self._limit and self._count >= self._limit:
            return False
        self._count += 1
        return True

    def leave(self) -> None:
        """See Tally."""
        self._count -= 1


class SharedTally:
    """Of all processes that map `path`; each has a `lane` of its own. `limit` is at least 1. Raises OSError."""

    __slots__ = ("_cells", "_lane", "_limit")

    def __init__(self, path: Path, lane: int, limit: int) -> None:
        if lane >= MAX_LANES:
            raise ValueError(f"lane {lane} is beyond the {MAX_LANES} that a count has room for")
        size = MAX_LANES * _CELL_BYTES
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(fd, size)
            self._cells = memoryview(mmap.mmap(fd, size)).cast("i")
        finally:
            os.close(fd)
        self._lane = lane
        self._limit = limit
        self._cells[lane] = 0

    def enter(self) -> bool:
        """See Tally."""
        self._cells[self._lane] += 1
        if sum(self._cells) <= self._limit:
            return True
        self._cells[self._lane] -= 1
        return False

    def leave(self) -> None:
        """See Tally."""
        self._cells[self._lane] -= 1
