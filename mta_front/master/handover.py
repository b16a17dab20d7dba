"""A new program in the place of the old one (USR2): the master executes it, and hands over all that it holds.

The process stays the same, so it keeps its pid, its children, its locks and its place as PID 1 or under systemd; what
is new is the program. Before that the new program is tried in a child, up to the point where it would become the
master: if it cannot be imported, or finds a fault in the settings, nothing happens but a line in the log. Descriptors
stay open over the execution; what they are for is written to a memfd. All signals wait meanwhile: they are blocked, and
the mask outlives the execution.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

VARIABLE = "MTAFRONT_HANDOVER"
"""In the environment: TRY, or the number of the memfd. No setting, so not called like one."""

TRY = "try"

VERSION = 1
"""Of what is written. A program that does not know it refuses while it is tried."""


def is_tried() -> bool:
    """Whether this program runs only to find out whether it could."""
    return os.environ.get(VARIABLE, "").startswith(TRY)


def is_adopting() -> bool:
    """Whether another program in this process, or in its parent, holds data_dir for us."""
    return VARIABLE in os.environ


def refusal() -> str:
    """Of a program that is tried: why it could not go on from the one that runs; "" when it could."""
    _, _, version = os.environ.get(VARIABLE, "").partition(" ")
    return "" if version == str(VERSION) else f"a running version hands over in format {version}, not {VERSION}"


def command() -> list[str]:
    """How this program was started."""
    return [sys.executable, *sys.orig_argv[1:]]


def trial_environment() -> dict[str, str]:
    """For the new program while it is tried."""
    return {**os.environ, VARIABLE: f"{TRY} {VERSION}"}


def execute(state: dict[str, Any]) -> None:
    """Become the new program. Returns only when that fails, by OSError.

    `state`: all that it needs to know; every integer under a key that is, or ends in, `fd` or `fds` is a descriptor.
    """
    memory = os.memfd_create("mta-front", 0)
    os.write(memory, json.dumps(state).encode())
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    held = [*_descriptors(state), memory]
    try:
        for fd in held:
            os.set_inheritable(fd, True)
        sys.stdout.flush()
        sys.stderr.flush()
        argv = command()
        os.execve(argv[0], argv, {**os.environ, VARIABLE: str(memory)})  # noqa: S606 - our own command line
    finally:
        for fd in held:
            os.set_inheritable(fd, False)
        os.close(memory)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def take() -> dict[str, Any] | None:
    """What an earlier program in this process left; None when there was none. Descriptors are no longer inheritable."""
    text = os.environ.pop(VARIABLE, "")
    if not text:
        return None
    memory = int(text)
    size = os.fstat(memory).st_size
    state: dict[str, Any] = json.loads(os.pread(memory, size, 0))
    os.close(memory)
    for fd in _descriptors(state):
        os.set_inheritable(fd, False)
    return state


def unblock_signals() -> None:
    """They may come again: somebody hears them now."""
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def _descriptors(value: Any, key: str = "") -> Iterator[int]:
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _descriptors(item, name)
    elif isinstance(value, list):
        for item in value:
            yield from _descriptors(item, key)
    elif isinstance(value, int) and (key in {"fd", "fds"} or key.endswith(("_fd", "_fds"))):
        yield value
