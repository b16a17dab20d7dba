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
from collections.abc import Callable

from mta_front.checks import Findings
from mta_front.master.forking import fork

TIMEOUT_S = 90.0
"""Then it is killed. Longer than what `mta_front.checks` itself waits for."""

READ_BYTES = 65_536


class Trial:
    """One try of `examine`. `findings` is None until it is over."""

    def __init__(
        self, examine: Callable[[], Findings], close_others: Callable[[], None], selector: selectors.BaseSelector
    ) -> None:
        """`close_others` runs in the child. Raises OSError when it cannot be forked."""
        self._selector = selector
        self._heard = b""
        self._deadline_at = time.monotonic() + TIMEOUT_S
        self.findings: Findings | None = None
        self._reader, writer = os.pipe()

        def run() -> int:
            close_others()
            found = examine()
            answer = json.dumps({"faults": found.faults, "remarks": found.remarks}).encode() + b"\n"
            while answer:
                answer = answer[os.write(writer, answer) :]
            return 0

        try:
            self.pid = fork(run)
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

    def reaped(self, how: str) -> None:
        """Its process ended."""
        self._hear()
        if self.findings is None:
            self._end(Findings([f"checking ends with {how}"]))

    def close(self) -> None:
        """Nobody wants to know any more."""
        if self.findings is None:
            self._end(Findings(["not wanted any more"]))

    def _hear(self) -> None:
        if self.findings is not None:
            return
        with contextlib.suppress(BlockingIOError):
            while piece := os.read(self._reader, READ_BYTES):
                self._heard += piece
        if self._heard.endswith(b"\n"):
            self._end(Findings(**json.loads(self._heard)))

    def _end(self, findings: Findings) -> None:
        self.findings = findings
        self._selector.unregister(self._reader)
        os.close(self._reader)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)  # it has ended, or must; it is reaped later
