"""Playing a power cut: kill -9 everything, then take away what no fsync had brought to the disk.

kill -9 leaves the page cache, so it proves nothing about fsync. Here a preloaded shim (`powercut.c`) writes a journal
of what was synced; after the kill `cut` shortens every file of the store's append-only directory and of the Maildir to
its noted size (a file never synced to nothing) and undoes entries of the Maildir whose directory was not synced after
them. Harsher than most disks and never milder, but for one thing: an entry renamed in the append-only directory stays
(what it replaced is not kept; the store syncs that directory itself).
"""

from __future__ import annotations

import subprocess
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tests.needs import program

SOURCE = Path(__file__).with_name("powercut.c")


@dataclass(slots=True)
class Disk:
    """What the journal says is on the disk."""

    synced: dict[str, int] = field(default_factory=dict)  # path -> bytes
    loose: dict[str, dict[str, str]] = field(
        default_factory=lambda: defaultdict(dict)
    )  # directory -> entry -> its old path
    begun: dict[str, list[set[str]]] = field(default_factory=lambda: defaultdict(list))

    def read(self, lines: Iterable[str]) -> Disk:
        """Follow the journal line by line."""
        for line in lines:
            kind, _, rest = line.rstrip("\n").partition(" ")
            match kind:
                case "F":
                    size, _, path = rest.partition(" ")
                    self.synced[path] = int(size)
                case "R":
                    old, _, new = rest.partition("\t")
                    self.synced[new] = self.synced.get(old, 0)
                    self.loose[str(Path(new).parent)][new] = old
                case "B":
                    self.begun[rest].append(set(self.loose[rest]))
                case "D":
                    for entry in self.begun[rest].pop(0):
                        self.loose[rest].pop(entry, None)
                case _:
                    raise ValueError(f"not a line of the journal: {line!r}")
        return self


@dataclass(slots=True)
class Cut:
    """What one power cut took away."""

    files: int = 0
    shortened: int = 0
    taken_bytes: int = 0
    entries_undone: int = 0


class PowerCut:
    """The shim, its journal, and the cut. `environment` goes to the processes whose power will be cut."""

    def __init__(self, directory: Path) -> None:
        self.journal = directory / "powercut.journal"
        shim = directory / "powercut.so"
        compiler = program("cc")
        subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", shim, SOURCE, "-ldl"], check=True)
        self.environment = {"LD_PRELOAD": str(shim), "MTA_POWERCUT_JOURNAL": str(self.journal)}

    def cut(self, store: Iterable[Path], maildirs: Iterable[Path]) -> Cut:
        """Cut back the files below these directories. Nothing may be running. What is left is on the disk for good."""
        disk = Disk().read(self.journal.read_text("utf-8").splitlines())
        result, left = Cut(), list[str]()
        for directory in maildirs:
            for path in sorted(_files(directory)):
                old = disk.loose[str(path.parent)].get(str(path))
                if old is not None:
                    disk.synced[old] = disk.synced.get(str(path), 0)
                    if Path(old).exists():  # a link: rename would keep both names of the one file
                        path.unlink()
                    else:
                        path.rename(old)
                    result.entries_undone += 1
        for path in [path for directory in (*store, *maildirs) for path in _files(directory)]:
            size, kept = path.stat().st_size, disk.synced.get(str(path), 0)
            result.files += 1
            if size > kept:
                with path.open("r+b") as file:
                    file.truncate(kept)
                result.shortened += 1
                result.taken_bytes += size - kept
            left.append(f"F {min(size, kept)} {path}\n")
        self.journal.write_text("".join(left), "utf-8")
        return result


def _files(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file() and not path.is_symlink()]
