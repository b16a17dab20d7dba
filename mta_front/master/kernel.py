"""What the kernel offers and Python does not wrap."""

from __future__ import annotations

import ctypes
import os
import signal

PR_SET_PDEATHSIG = 1
"""prctl(2)."""

PR_SET_NO_NEW_PRIVS = 38

_libc = ctypes.CDLL(None, use_errno=True)


def die_with(parent_pid: int) -> None:
    """In a child: be killed when the parent dies, however it dies. Exits at once if it is dead already."""
    if _libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    if os.getppid() != parent_pid:
        os._exit(os.EX_UNAVAILABLE)


def allow_no_new_privileges() -> None:
    """No program that this process or its children execute can have more rights than they. Raises OSError."""
    if _libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
