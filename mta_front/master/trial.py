"""A child of the master that tries something and tells its findings: so that the master neither waits nor is spoilt.

What is tried may hang, end the process, or start threads (hooks are user code); none of that reaches the master.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import time
from collections.abc import Callable, Mapping

from mta_front.checks import Findings
from mta_front.master.forking import fork

TIMEOUT_S = 90.0
"""Then it is killed. Longer than what `mta_front.checks` itself waits for."""

READ_BYTES = 65_536
LAST_LINES = 3
"""Of what a program said that failed."""


class Trial:
    """One try. `findings` is None until it is over.

    `run(writer)` is what the child does; `judge(output, how)` says what its output means, `how` being its end, "" while
    it has none. None: nothing yet.
    """

    def __init__(
        self,
        run: Callable[[int], int],
        judge: Callable[[bytes, str], Findings | None],
        selector: selectors.BaseSelector,
    ) -> None:
        """Raises OSError when it cannot be forked."""
        self._judge = judge
        self._selector = selector
        self._heard = b""
        self._deadline_at = time.monotonic() + TIMEOUT_S
        self.findings: Findings | None = None
        self._reader, writer = os.pipe()
        try:
            self.pid = fork(lambda: run(writer))
        except OSError:
            os.close(self._reader)
            raise
        finally:
            os.close(writer)
        os.set_blocking(self._reader, False)
        selector.register(self._reader, selectors.EVENT_READ, self._hear)

    def tick(self, now: float) -> None:
        """Kill it when it takes too long."""
        if self.findings is None and now >= self._deadline_at:
            self._end(Findings([f"checking takes longer than {TIMEOUT_S:g} s"]))

    def due_at(self) -> float:
        """When `tick` has something to do."""
        return self._deadline_at if self.findings is None else float("inf")

    def reaped(self, pid: int, how: str) -> bool:
        """A process ended. Whether it was its own."""
        if pid != self.pid:
            return False
        if self.findings is None:
            self._hear()
        if self.findings is None:
            self._end(self._judge(self._heard, how) or Findings([f"checking ends with {how}"]))
        return True

    def close(self) -> None:
        """Nobody wants to know any more."""
        if self.findings is None:
            self._end(Findings(["not wanted any more"]))

    def _hear(self) -> None:
        try:
            while piece := os.read(self._reader, READ_BYTES):
                self._heard += piece
            self._selector.unregister(self._reader)  # the end of the file, which would be told again and again
        except BlockingIOError:
            pass
        except KeyError:
            pass  # it was told before
        if found := self._judge(self._heard, ""):
            self._end(found)

    def _end(self, findings: Findings) -> None:
        self.findings = findings
        with contextlib.suppress(KeyError):
            self._selector.unregister(self._reader)
        os.close(self._reader)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)  # it has ended, or must; it is reaped later


def of_settings(
    examine: Callable[[], Findings], close_others: Callable[[], None], selector: selectors.BaseSelector
) -> Trial:
    """Try what settings name, by `examine`. `close_others` runs in the child."""

    def run(writer: int) -> int:
        close_others()
        found = examine()
        answer = json.dumps({"faults": found.faults, "remarks": found.remarks}).encode() + b"\n"
        while answer:
            answer = answer[os.write(writer, answer) :]
        return 0

    def judge(output: bytes, _how: str) -> Findings | None:
        return Findings(**json.loads(output)) if output.endswith(b"\n") else None

    return Trial(run, judge, selector)


def of_program(argv: list[str], environment: Mapping[str, str], selector: selectors.BaseSelector) -> Trial:
    """Try a program: good if it ends with 0."""

    def run(writer: int) -> int:
        null = os.open(os.devnull, os.O_RDONLY)
        for fd, source in ((0, null), (1, writer), (2, writer)):
            os.dup2(source, fd)
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        os.execve(argv[0], argv, environment)  # noqa: S606 - our own command line

    def judge(output: bytes, how: str) -> Findings | None:
        if not how:
            return None
        lines = output.decode("utf-8", "replace").strip().splitlines()[-LAST_LINES:]
        return Findings() if how == "exit 0" else Findings([f"the new program ends with {how}: {'; '.join(lines)}"])

    return Trial(run, judge, selector)
