"""The embedded store: one Valkey, started by the master, watched, started again if it dies, stopped last.

It dies with the master (PR_SET_PDEATHSIG), so that nobody writes to its files afterwards; and it inherits the lock on
`store.lock`, so that the next master, however soon it comes, waits until this one's store is really gone: two Valkeys
on one append-only directory lose what both had acknowledged.

Whether it is up is asked by PING over its socket, without waiting. A store that does not answer is not killed: it may
be loading a long log, or its disk may be slow, and it holds mail. Only one that opens no socket in time is.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mta_front.master import valkey
from mta_front.master.backoff import Pace
from mta_front.master.failure import CannotStart
from mta_front.master.forking import fork
from mta_front.master.lock import FileLock, Held
from mta_front.observe import log

if TYPE_CHECKING:
    from mta_front.config import Settings

PREDECESSOR_TIMEOUT_S = 10.0
"""How long a start waits for the store of a master that died."""

PROBE_S = 0.05
"""Between two PINGs while it starts."""

WATCH_S = 1.0
"""Between two PINGs while it is up."""

ANSWER_TIMEOUT_S = 5.0
STOP_TIMEOUT_S = 10.0
LOG_MAX_BYTES = 16 << 20


class EmbeddedStore:
    """The store's process. Every method returns at once, but `prepare`, which waits for a predecessor."""

    def __init__(self, settings: Settings, data_dir: Path, pace: Pace, selector: selectors.BaseSelector) -> None:
        self._boot_timeout_s = settings.server.boot_timeout_s
        self._directory = data_dir / "store"
        self._log_file = self._directory / "valkey.log"
        self._lock_file = data_dir / "store.lock"
        self._pace = pace
        self._selector = selector
        self._log = log.logger()
        self._lock: FileLock | None = None
        self._argv: list[str] = []
        self._socket_path = Path()
        self._probe: socket.socket | None = None
        self._probe_at = 0.0
        self._probe_deadline_at = 0.0
        self._due_at = 0.0
        self._started_at = 0.0
        self._connected = False
        self._up_at = 0.0
        """When it first answered in this life; 0.0 until then."""
        self._short_lives = 0
        self._kill_at = 0.0
        self.ending = False
        self.pid = 0
        self.up = False
        self.was_up = False
        """Since the master started."""
        self.restarts = 0

    @property
    def url(self) -> str:
        """What the children connect to. Valid after `prepare`."""
        return valkey.url_of(self._socket_path)

    def state(self) -> dict[str, Any]:
        """For the next program in this process."""
        assert self._lock
        return {"pid": self.pid, "lock_fd": self._lock.fd, "up": self.up, "restarts": self.restarts}

    def adopt(self, state: dict[str, Any]) -> None:
        """Take over the store that an earlier program of this process started; it runs on. Raises CannotStart."""
        self._lock = FileLock(self._lock_file, state["lock_fd"])
        self.prepare()
        self.pid, self.restarts = state["pid"], state["restarts"]
        self.up = self.was_up = self._connected = state["up"]
        self._started_at = self._probe_at = time.monotonic()
        self._up_at = self._started_at if state["up"] else 0.0

    def prepare(self) -> None:
        """Find the binary, make the directory, wait for a predecessor's store. Raises CannotStart."""
        if os.environ.get("KUBERNETES_SERVICE_HOST"):
            raise CannotStart(
                os.EX_CONFIG,
                "store.url is empty, and the embedded store is not for Kubernetes, where a disk goes with its pod: "
                "set store.url (MTA_FRONT_STORE__URL) to a Redis or Valkey that stays",
            )
        binary = valkey.find_binary()
        try:
            self._directory.mkdir(mode=0o700, exist_ok=True)
            self._directory.chmod(0o700)
            self._socket_path = valkey.socket_path_in(self._directory)
            if self._lock is None:
                self._lock = FileLock.take(self._lock_file, PREDECESSOR_TIMEOUT_S)
                self._rotate_log()
        except Held as held:
            raise CannotStart(os.EX_CANTCREAT, f"an earlier embedded store still runs: {held.holder}") from None
        except OSError as error:
            code = os.EX_NOPERM if isinstance(error, PermissionError) else os.EX_CANTCREAT
            raise CannotStart(code, f"embedded store: {error.filename}: {error.strerror}") from None
        self._argv = valkey.arguments(binary, self._directory, self._socket_path, self._log_file)

    def tick(self, now: float) -> None:
        """Do what is due: start, ask, kill."""
        if not self.pid:
            if not self.ending and now >= self._due_at:
                self._start(now)
            return
        if self._kill_at and now >= self._kill_at:
            self._log.warning(
                "embedded store killed", pid=self.pid, reason=f"still there {STOP_TIMEOUT_S:g} s after TERM"
            )
            self._kill()
        if self._probe and now >= self._probe_deadline_at:
            self._answered(False, f"no answer in {ANSWER_TIMEOUT_S:g} s")
        if not self._probe and now >= self._probe_at and not self.ending:
            self._ask(now)
        if not self._connected and now >= self._started_at + self._boot_timeout_s and not self.ending:
            self._log.error("embedded store killed", pid=self.pid, reason=f"no socket in {self._boot_timeout_s:g} s")
            self._started_at = now
            self._kill()

    def due_at(self) -> float:
        """When `tick` has something to do again."""
        if not self.pid:
            return float("inf") if self.ending else self._due_at
        return min(self._probe_deadline_at if self._probe else self._probe_at, self._kill_at or float("inf"))

    def reaped(self, now: float, how: str) -> None:
        """Its process ended. Raises CannotStart when it never came up, again and again."""
        pid, self.pid, self.up = self.pid, 0, False
        self._forget_probe()
        if self.ending:
            self._log.info("embedded store stopped", pid=pid, how=how)
            return
        if self._up_at and now - self._up_at >= self._pace.good_life_s:
            self._short_lives = 0
        self._short_lives += 1
        if not self.was_up and self._short_lives >= self._pace.boot_attempts:
            raise CannotStart(
                os.EX_UNAVAILABLE,
                f"the embedded store cannot start: {how}; {self._log_file} ends with: {self._last_words()}",
            )
        self.restarts += 1
        self._due_at = now + self._pace.delay_s(self._short_lives, was_ready=bool(self._up_at))
        self._log.error("embedded store died", pid=pid, how=how, again_in_s=round(self._due_at - now, 3))

    def stop(self, now: float) -> None:
        """Ask it to end: it writes and syncs what it has. It is killed if that takes too long."""
        self.ending = True
        self._forget_probe()
        if self.pid:
            os.kill(self.pid, signal.SIGTERM)
            self._kill_at = now + STOP_TIMEOUT_S

    def kill(self) -> None:
        """End it at once. It loses nothing that it acknowledged."""
        self.ending = True
        self._forget_probe()
        if self.pid:
            self._kill()

    def close(self) -> None:
        """Drop descriptors: after the end, and in a child."""
        if self._probe:
            self._probe.close()
        if self._lock:
            self._lock.close()

    def status(self) -> dict[str, Any]:
        return {"embedded": True, "pid": self.pid, "up": self.up, "restarts": self.restarts}

    def _start(self, now: float) -> None:
        assert self._lock
        lock = self._lock

        def run() -> int:
            os.setpgid(0, 0)  # Ctrl-C in a terminal is for the master, which stops the store last
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)
            for number in (signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)
            os.set_inheritable(lock.fd, True)
            null = os.open(os.devnull, os.O_RDWR)
            output = os.open(self._log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            for fd, source in ((0, null), (1, output), (2, output)):
                os.dup2(source, fd)
            secretless = {key: value for key, value in os.environ.items() if not key.startswith("MTA_FRONT_")}
            os.execve(self._argv[0], self._argv, secretless)  # noqa: S606 - our own arguments, no shell

        try:
            self.pid = fork(run)
        except OSError as error:  # no process or no memory left: others may end, then it works
            self._due_at = now + self._pace.longest_s
            self._log.error("cannot fork the embedded store", error=error.strerror, again_in_s=self._pace.longest_s)
            return
        lock.write(f"pid {self.pid}\n")
        self._started_at, self._connected, self._up_at = now, False, 0.0
        self._probe_at = now + PROBE_S
        self._log.info("embedded store started", pid=self.pid, program=self._argv[0], socket=str(self._socket_path))

    def _ask(self, now: float) -> None:
        probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        probe.setblocking(False)
        try:
            probe.connect(str(self._socket_path))
            probe.send(b"*1\r\n$4\r\nPING\r\n")
        except OSError as error:
            probe.close()
            self._answered(False, f"{self._socket_path}: {error.strerror}")
            return
        self._connected = True
        self._probe = probe
        self._probe_deadline_at = now + ANSWER_TIMEOUT_S
        self._selector.register(probe, selectors.EVENT_READ, self._hear)

    def _hear(self) -> None:
        assert self._probe
        try:
            answer = self._probe.recv(1024)
        except OSError:
            answer = b""
        words = answer.decode("ascii", "replace").strip()
        self._answered(answer.startswith(b"+PONG"), words or "it closed the connection")

    def _answered(self, good: bool, words: str) -> None:
        """The end of one probe. An error reply such as -LOADING means that it lives, not that it works."""
        self._forget_probe()
        self._probe_at = time.monotonic() + (WATCH_S if good else PROBE_S if not self.up else WATCH_S / 4)
        if good:
            self._up_at = self._up_at or time.monotonic()
        if good and not self.up:
            self._log.info("embedded store up", pid=self.pid, after_s=round(time.monotonic() - self._started_at, 3))
        elif not good and self.up:
            self._log.warning("embedded store does not answer", pid=self.pid, reason=words)
        self.up = good
        self.was_up |= good

    def _forget_probe(self) -> None:
        if self._probe:
            self._selector.unregister(self._probe)
            self._probe.close()
            self._probe = None

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def _rotate_log(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            if self._log_file.stat().st_size > LOG_MAX_BYTES:
                self._log_file.rename(self._log_file.with_suffix(".log.1"))

    def _last_words(self) -> str:
        try:
            lines = self._log_file.read_text("utf-8", "replace").splitlines()
        except OSError:
            return "(nothing)"
        return log.printable(next((line for line in reversed(lines) if line.strip()), "(nothing)"))
