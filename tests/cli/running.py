"""`mta-front ARGUMENTS` as a user runs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.processes import clean_environment


class Result:
    """What a command left behind."""

    def __init__(self, done: subprocess.CompletedProcess[str]) -> None:
        self.code = done.returncode
        self.out = done.stdout
        self.lines = done.stderr.splitlines()


def run(directory: Path, *arguments: str, stdin: str = "", **environ: str) -> Result:
    """Run `mta-front ARGUMENTS` in the directory."""
    command = [sys.executable, "-m", "mta_front.cli", *arguments]
    environment = {**clean_environment(), **environ}
    return Result(
        subprocess.run(
            command,
            cwd=directory,
            env=environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    )


def put(directory: Path, text: str, name: str = "mta-front.toml") -> Path:
    """Write a file into the directory."""
    path = directory / name
    path.write_text(text, "utf-8")
    return path
