"""Locks on files: who holds `data_dir`, who writes the pid file, whether an old store still runs.

All are `flock`s: the kernel drops them with the last process that has the file open, so none is ever stale. A lock file
holds its holder's pid and host as text, for the message that the next one to try shows.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import socket
import time
from pathlib import Path

from mta_front.master.failure import CannotStart

POLL_S = 0.02


class Held(Exception):
    """Somebody else holds the lock. `holder`: what its file says, "" if nothing."""

    def __init__(self, path: Path, holder: str) -> None:
        super().__init__(f"{path} is held by {holder or 'another process'}")
        self.holder = holder


class FileLock:
    """An exclusive `flock`, held until `close` and as long as a child that inherited `fd` lives."""

    __slots__ = ("fd", "path")

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self.fd = fd

    @classmethod
    def take(cls, path: Path, timeout_s: float = 0.0, mode: int = 0o600) -> FileLock:
        """Take the lock, waiting up to `timeout_s` for its holder to go. Raises Held, OSError."""
        deadline = time.monotonic() + timeout_s
        while True:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _is_at(fd, path):
                    return cls(path, fd)
                os.close(fd)  # its last holder removed it between our open and our lock
            except BlockingIOError:
                holder = os.pread(fd, 200, 0).decode("utf-8", "replace").split("\n")[0]
                os.close(fd)
                if time.monotonic() >= deadline:
                    raise Held(path, holder) from None
                time.sleep(POLL_S)

    def write(self, text: str) -> None:
        """Replace what the file says."""
        os.ftruncate(self.fd, 0)
        os.pwrite(self.fd, text.encode(), 0)

    def remove(self) -> None:
        """Remove the file, if it is still the one that is locked, and let go."""
        with contextlib.suppress(OSError):
            if _is_at(self.fd, self.path):
                self.path.unlink()
        self.close()

    def close(self) -> None:
        """Let go, in this process."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def hold_data_dir(path: Path) -> FileLock:
    """Make `data_dir` (0700) and lock it. Raises CannotStart: 73 if held or not to be made, 77 if not permitted.

    A directory that holds other things is not made private, since others may need it; if others may even write there
    (`/tmp`), it is refused.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if (path / "lock").exists() or not any(path.iterdir()):
            with contextlib.suppress(PermissionError):  # a volume of root's, given to our group: not ours to change
                path.chmod(0o700)
        elif path.stat().st_mode & 0o002:
            raise CannotStart(os.EX_CANTCREAT, f"data_dir {path} holds other files, and anybody may write there")
        lock = FileLock.take(path / "lock")
    except Held as held:
        raise CannotStart(os.EX_CANTCREAT, f"data_dir {path} is held by {_known(held.holder)}") from None
    except PermissionError as error:
        raise CannotStart(os.EX_NOPERM, f"data_dir {path}: {error.strerror}") from None
    except OSError as error:
        raise CannotStart(os.EX_CANTCREAT, f"data_dir {path}: {error.strerror}") from None
    lock.write(f"pid {os.getpid()} on {socket.gethostname()}\n")
    return lock


def write_pid_file(path: Path) -> FileLock:
    """Write our pid to `path` and lock it, so that another master never overwrites it. Raises CannotStart."""
    try:
        if path.exists() and not re.fullmatch(rb"\s*[0-9]*\s*", path.read_bytes()[:100]):
            raise CannotStart(os.EX_CANTCREAT, f"pid_file {path} exists and is no pid file")
        lock = FileLock.take(path, mode=0o644)
        lock.write(f"{os.getpid()}\n")
    except Held as held:
        raise CannotStart(os.EX_CANTCREAT, f"pid_file {path} is held by pid {held.holder}") from None
    except PermissionError as error:
        raise CannotStart(os.EX_NOPERM, f"pid_file {path}: {error.strerror}") from None
    except OSError as error:
        raise CannotStart(os.EX_CANTCREAT, f"pid_file {path}: {error.strerror}") from None
    return lock


def _is_at(fd: int, path: Path) -> bool:
    """Whether `path` is still the file that is open as `fd`."""
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False


def _known(holder: str) -> str:
    """`pid 123 on HOST` with the command line of the process, where it can be seen."""
    words = holder.split()
    if len(words) == 4 and words[3] == socket.gethostname():
        with contextlib.suppress(OSError):
            command = (
                Path(f"/proc/{int(words[1])}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            )
            return f"pid {words[1]} ({command.strip()})"
    return holder or "another process"
