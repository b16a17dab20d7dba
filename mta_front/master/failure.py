"""Why a master ends before its time, with the exit code that says so (sysexits.h)."""

from __future__ import annotations


class CannotStart(Exception):
    """The master cannot do its work. `exit_code` is one of os.EX_*; the message is one line for the operator."""

    def __init__(self, exit_code: int, message: str) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.message = message
