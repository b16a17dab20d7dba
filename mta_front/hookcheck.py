"""Can the operator's hooks class be used? Asked in a child that lives for one import, never in the master (P1).

The class is user code: importing it may start threads or connections, which must not be there when the master forks.
`fault_of` starts this module as a program; the program imports as a worker does, gevent's patches first.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import traceback
from pathlib import Path

IMPORT_TIMEOUT_S = 60.0


def search_here() -> None:
    """Let modules of the working directory be imported, however Python was started, as gunicorn does."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)


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
            timeout=IMPORT_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"importing it takes longer than {IMPORT_TIMEOUT_S:.0f} s"
    said = child.stdout.decode(errors="replace").strip()
    if child.returncode and not said:
        return f"importing it ends the process (exit status {child.returncode})"
    return said


def verdict(name: str) -> str:
    """Import the class and say what is wrong with it. Runs in the child."""
    from mta_front.hooks import Hooks

    module_name, _, class_name = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # noqa: BLE001 (user code may raise anything)
        return f"cannot be imported: {_told(error)}"
    found = getattr(module, class_name, None)
    if found is None:
        return f"module {module_name} has no {class_name}"
    if not isinstance(found, type) or not issubclass(found, Hooks):
        return "is no subclass of mta_front.Hooks"
    return ""


def _told(error: Exception) -> str:
    """The error in one line, with the place in user code where it came from."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<frozen")]
    where = f" ({frames[-1].filename}:{frames[-1].lineno})" if len(frames) > 2 else ""
    said = " ".join(str(error).split())
    return f"{type(error).__name__}: {said}{where}"


def main() -> int:
    """Print the verdict on the class named in the first argument; nothing if it is good."""
    answer = os.dup(1)
    search_here()
    os.dup2(2, 1)  # what user code prints while it is imported is no part of the answer
    from gevent import monkey

    monkey.patch_all()
    said = verdict(sys.argv[1])
    os.write(answer, said.encode())
    return 1 if said else 0


if __name__ == "__main__":
    sys.exit(main())
