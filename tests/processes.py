"""Programs that tests start: each in a session of its own, marked, logged to a file, ended by pid, and surely reaped.

Every program gets a session of its own and an environment variable with a random value; its descendants inherit both.
So a scan of /proc finds each process that came from it, orphans too. (Redis and Valkey write their title
over their environment, and are found by their session.)
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.wait import until

MARK = "MTA_TEST_ID"
ROOT = Path(__file__).resolve().parent.parent
LOG_TAIL_LINES, LOG_LINE_CHARACTERS = 40, 400

started: list[Program] = []
"""What the running test started, for `conftest.py`: to be ended after it, and whose logs its report shows."""


class Program:
    """One started program and all that descends from it. As a context manager it is started, then killed and reaped."""

    def __init__(self, argv: Sequence[str], log: Path, cwd: Path, env: Mapping[str, str] | None = None) -> None:
        self.argv = list(argv)
        self.log = log
        self.cwd = cwd
        self.mark = uuid.uuid4().hex
        self.env = clean_environment() | dict(env or {}) | {MARK: self.mark}
        self.popen: subprocess.Popen[bytes] | None = None
        self.sessions = set[int]()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.end()

    @property
    def pid(self) -> int:
        """The pid of the program itself."""
        assert self.popen is not None, f"{self.argv} was not started"
        return self.popen.pid

    def start(self) -> Self:
        """Start it. Its output is appended to `log`."""
        assert self.popen is None or self.popen.poll() is not None, f"{self.argv} runs already"
        self._close_stdin()
        with self.log.open("ab") as log:
            self.popen = subprocess.Popen(
                self.argv,
                cwd=self.cwd,
                env=self.env,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.sessions.add(self.popen.pid)
        if self not in started:
            started.append(self)
        return self

    def running(self) -> bool:
        """Whether the program itself lives."""
        return self.popen is not None and self.popen.poll() is None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the program itself."""
        assert self.popen is not None
        self.popen.send_signal(number)

    def wait(self, timeout_s: float = 10.0) -> int:
        """Wait for the program's own end; its exit code, negative for a signal."""
        assert self.popen is not None
        try:
            return self.popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.argv[:4]} still runs after {timeout_s} s") from None

    def terminate(self, timeout_s: float = 10.0) -> int:
        """TERM, then wait; the exit code."""
        self.signal(signal.SIGTERM)
        return self.wait(timeout_s)

    def tree(self) -> list[int]:
        """The pids of all living processes that came from this program, itself included."""
        return [pid for pid in all_pids() if alive(pid) and self._is_ours(pid)]

    def kill(self) -> None:
        """Kill -9 of everything that came from this program, until nothing is left; reaps the program."""
        deadline = time.monotonic() + 10.0
        while pids := self.tree():
            for pid in pids:
                kill(pid)
            if self.popen is not None:
                self.popen.poll()
            assert time.monotonic() < deadline, f"kill -9 does not end {[describe(pid) for pid in pids]}"
            time.sleep(0.005)
        if self.popen is not None:
            self.popen.wait(5.0)

    def end(self) -> None:
        """Whatever state it is in: nothing of it is left afterwards."""
        self.kill()
        self._close_stdin()

    def assert_all_ended(self, timeout_s: float = 5.0) -> None:
        """AssertionError unless, within `timeout_s`, no process that came from this program is left."""
        left: list[int] = []
        with contextlib.suppress(AssertionError):
            until(lambda: not left_now(self, left), timeout_s)
        assert not left, f"left behind: {[describe(pid) for pid in left]}"

    def log_text(self) -> str:
        """All that it wrote so far."""
        return self.log.read_text("utf-8", "replace") if self.log.exists() else ""

    def log_tail(self) -> str:
        """The last lines that it wrote, for a failed test's report."""
        lines = [line[:LOG_LINE_CHARACTERS] for line in self.log_text().splitlines()[-LOG_TAIL_LINES:]]
        return f"--- the end of {self.log} ---\n" + "\n".join(lines)

    def _is_ours(self, pid: int) -> bool:
        return session(pid) in self.sessions or f"{MARK}={self.mark}".encode() in _read(pid, "environ").split(b"\0")

    def _close_stdin(self) -> None:
        if self.popen is not None and self.popen.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self.popen.stdin.close()


def left_now(program: Program, left: list[int]) -> bool:
    """Whether something of `program` lives; `left` becomes the list."""
    if program.popen is not None:
        program.popen.poll()
    left[:] = program.tree()
    return bool(left)


def python(*args: str) -> list[str]:
    """The argv of this Python with these arguments, modules of the project found, warnings shown."""
    return [sys.executable, *args]


def clean_environment() -> dict[str, str]:
    """Our environment without settings of the server, and with the project importable from any directory."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("MTA_FRONT_", "KUBERNETES_"))}
    kept.pop("LD_PRELOAD", None)
    return kept | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}


def all_pids() -> list[int]:
    """Every pid that /proc shows."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208


def state(pid: int) -> str:
    """R, S, D, T, Z …; "" when there is no such process."""
    fields = _stat(pid)
    return fields[0] if fields else ""


def alive(pid: int) -> bool:
    """Whether there is such a process, and it is no zombie."""
    return state(pid) not in {"Z", "X", ""}


def parent(pid: int) -> int:
    """The pid of its parent, 0 when there is no such process."""
    fields = _stat(pid)
    return int(fields[1]) if fields else 0


def session(pid: int) -> int:
    """The id of its session, 0 when there is no such process."""
    fields = _stat(pid)
    return int(fields[3]) if fields else 0


def cmdline(pid: int) -> list[str]:
    """Its arguments."""
    return [part.decode("utf-8", "replace") for part in _read(pid, "cmdline").split(b"\0")[:-1]]


def describe(pid: int) -> str:
    """One line for a message."""
    return f"{pid} (parent {parent(pid)}, {state(pid) or 'gone'}): {' '.join(cmdline(pid))[:200]}"


def memory_bytes(pid: int, field: str = "VmHWM") -> int:
    """Resident memory: VmHWM is the peak, VmRSS what is held now; 0 when the process is gone."""
    found = re.search(rf"^{field}:\s+(\d+) kB", _read(pid, "status").decode(), re.MULTILINE)
    return int(found.group(1)) * 1024 if found else 0


def kill(pid: int, number: signal.Signals = signal.SIGKILL) -> bool:
    """Send a signal to one process; False when it is gone already."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def _stat(pid: int) -> list[str]:
    text = _read(pid, "stat").decode("utf-8", "replace")
    return text.rpartition(")")[2].split()


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""
