"""Running an example as a program, as its reader would."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.processes import ROOT

EXAMPLES = ROOT / "examples"
MESSAGE = b"Subject: Hi\r\n\r\nHello.\r\n"


class Running:
    """A running example: its address, and its process."""

    def __init__(self, process: subprocess.Popen[str], where: str, port: int) -> None:
        self.process = process
        self.where = where
        self.port = port

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        return self.where, self.port

    @property
    def path(self) -> str:
        """Of its Unix socket, seen from its directory."""
        return self.where.removeprefix("unix:")

    def line(self) -> str:
        """The next line that it prints."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def end(self, number: signal.Signals = signal.SIGINT) -> str:
        """Stop it; what it printed since. It must end well."""
        self.process.send_signal(number)
        output = self.process.communicate(timeout=30)[0]
        assert self.process.returncode == 0, output
        return output


@contextmanager
def running(name: str, cwd: Path, *arguments: str) -> Iterator[Running]:
    """Start it in `cwd`, wait until it listens; killed at the end if it did not end itself.

    `arguments`: default "0", any free port.
    """
    process = subprocess.Popen(
        [sys.executable, str(EXAMPLES / name), *(arguments or ("0",))],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            found = re.match(r"listening on (.*):([0-9]+),", line)
            assert found, line + process.stdout.read()
            yield Running(process, found[1], int(found[2]))
        finally:
            process.kill()
