"""Postfix's load generator and null server, written in C: neither knows the code under test."""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path
from typing import Self

from tests.needs import program
from tests.ports import accepting, free_port
from tests.processes import Program
from tests.settingsfile import OURS
from tests.wait import until


class SmtpSink(Program):
    """`smtp-sink -c`: a next hop that counts what it takes."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        super().__init__(
            [program("smtp-sink"), "-c", "-u", "nobody", "-m", "1000", f"127.0.0.1:{self.port}", "1024"],
            directory / "smtp-sink.log",
            directory,
        )

    def start(self) -> Self:
        """Start it, and wait until it listens."""
        super().start()
        until(lambda: accepting(self.port), 10.0, "smtp-sink listens")
        return self

    @property
    def next_hop(self) -> str:
        """As a route names it."""
        return f"127.0.0.1:{self.port}"

    def messages(self) -> int:
        """How many messages it took."""
        counts = re.findall(r"mesg=(\d+)", self.log_text())
        return int(counts[-1]) if counts else 0


def smtp_source(
    address: tuple[str, int], *, sessions: int, messages: int, length_bytes: int, timeout_s: float = 200.0
) -> float:
    """Send `messages` by `sessions` in parallel, one a connection. It ends with an error at the first refusal.

    Returns the seconds it took.
    """
    began_at = time.monotonic()
    host, port = address
    counts = ["-s", str(sessions), "-m", str(messages), "-l", str(length_bytes)]
    done = subprocess.run(
        [program("smtp-source"), "-4", *counts, "-f", "a@client.example", "-t", f"b@{OURS}", f"{host}:{port}"],
        capture_output=True,
        text=True,
        timeout=timeout_s,
    )
    assert done.returncode == 0, f"smtp-source: {done.stderr}"
    return time.monotonic() - began_at
