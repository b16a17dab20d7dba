"""Certificate and key files, watched by the master and handed to the workers as bytes.

The master may be root and the workers not (DECISIONS P1): so it reads, and they never open a key. A change is seen by
stat, through symlinks, so the swap of a Kubernetes Secret mount is one, too. What was read is never looked into here:
a worker that cannot use it keeps what it has, and says so.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

WATCH_S = 0.5
"""How often the files are looked at."""

MAX_FILE_BYTES = 1 << 20
"""No chain of certificates is as long; what is longer is no file for us."""

_Mark = tuple[int, int, int, int]


class KeyFiles:
    """The files of `paths`. `files` holds what could be read of them, by path."""

    def __init__(self, paths: Iterable[str]) -> None:
        self._marks: dict[str, _Mark | None] = dict.fromkeys(paths)
        self._looked_at = float("-inf")
        self.files: dict[str, bytes] = {}
        self._read()

    def __repr__(self) -> str:
        return f"<KeyFiles {list(self._marks)}>"

    def changed(self, now: float) -> bool:
        """Look, if it is time to; whether something is new, and `files` with it."""
        if now < self.due_at():
            return False
        self._looked_at = now
        if all(_mark(path) == mark for path, mark in self._marks.items()):
            return False
        before = self.files
        self._read()
        return self.files != before

    def due_at(self) -> float:
        """When to look again; never without files."""
        return self._looked_at + WATCH_S if self._marks else float("inf")

    def _read(self) -> None:
        files = dict(self.files)
        for path in self._marks:
            self._marks[path] = _mark(path)  # before it is read: a change in between is seen the next time
            content = _content(path)
            if content is not None:  # a file that is gone for a moment is kept as it was
                files[path] = content
        self.files = files


def _mark(path: str) -> _Mark | None:
    try:
        found = os.stat(path)  # noqa: PTH116 (the same, and no object is made for it twice a second)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size


def _content(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            return file.read(MAX_FILE_BYTES)
    except OSError:
        return None
