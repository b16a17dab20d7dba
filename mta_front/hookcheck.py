"""Can the operator's hooks class be used? Asked in a child that does nothing else, never in the master (P1).

The class is user code: loading it may start threads or connections, which must not be there when the master forks.
`fault_of` starts this module as a program; the program loads the class as a worker does, gevent's patches first.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import traceback

LOAD_TIMEOUT_S = 60.0


def fault_of(name: str) -> str:
    """What is wrong with the class `name` ("package.module:Class"), in one line; "" for nothing, or without a name."""
    if not name:
        return ""
    try:
        child = subprocess.run(
            [sys.executable, "-m", "mta_front.hookcheck", name],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=LOAD_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"loading it takes longer than {LOAD_TIMEOUT_S:.0f} s"
    said = child.stdout.decode(errors="replace").strip()
    if child.returncode and not said:
        return f"loading it ends the process (exit status {child.returncode})"
    return said


def verdict(name: str) -> str:
    """Load the class as a worker does and say what is wrong with it. Runs in the child."""
    from mta_front.hooks import load_hooks

    try:
        load_hooks(name)
    except Exception as error:  # noqa: BLE001 (user code may raise anything)
        return f"cannot be used: {_told(error)}"
    return ""


def _told(error: Exception) -> str:
    """The error in one line, with the place in the user's code where it came from."""
    ours = (os.path.dirname(__file__), os.path.dirname(importlib.__file__), "<frozen")  # noqa: PTH120
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(ours)]
    where = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    said = " ".join(str(error).split())
    return f"{type(error).__name__}: {said}{where}"


def main() -> int:
    """Print the verdict on the class named in the first argument; nothing if it is good."""
    answer = os.dup(1)
    os.dup2(2, 1)  # what user code prints while it is loaded is no part of the answer
    from gevent import monkey

    monkey.patch_all()
    said = verdict(sys.argv[1])
    os.write(answer, said.encode())
    return 1 if said else 0


if __name__ == "__main__":
    sys.exit(main())
