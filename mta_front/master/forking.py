"""The fork: a clean child of the master, whatever the child then becomes.

The child has none of the master's signal handlers, wake-up descriptor, or sockets but its own; it dies with the master
(the kernel sees to it, and the lifeline where the kernel does not); and it leaves through `os._exit`, so that no
`finally` and no exit handler of the master ever runs in it.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn

from mta_front.master.child import ChildContext, Main
from mta_front.master.control import Control
from mta_front.master.kernel import die_with
from mta_front.observe import log

FROM_THE_TERMINAL = (
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGTTIN,
    signal.SIGTTOU,
)
"""Signals to the process group, or meant for the master: a child ignores them."""


def fork(run: Callable[[], int]) -> int:
    """Fork; the child runs `run` and exits with what it returns. Returns the child's pid. Raises OSError."""
    parent_pid = os.getpid()
    sys.stdout.flush()
    sys.stderr.flush()
    # A signal that comes between the fork and the child's own dispositions waits, and meets those.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    pid = os.fork()
    if pid == 0:
        _be_child(parent_pid, before, run)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return pid


def _be_child(parent_pid: int, mask: set[signal.Signals | int], run: Callable[[], int]) -> NoReturn:
    code = os.EX_SOFTWARE
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        for number in FROM_THE_TERMINAL:
            signal.signal(number, signal.SIG_IGN)
        die_with(parent_pid)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        gc.freeze()  # the collector leaves the master's objects alone, so that their pages stay shared
        code = run()
    except BaseException:  # noqa: BLE001 - nothing may climb into the frames of the master
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def fork_child(
    make: Callable[[socket.socket], ChildContext], main: Main, close_others: Callable[[ChildContext], None]
) -> tuple[int, Control]:
    """Fork a process that runs `main` on the context that `make` builds around its end of the control socket.

    `close_others` runs in the child and closes what of the master's it must not have.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    child = make(theirs)

    def run() -> int:
        ours.close()
        close_others(child)
        log.set_up(child.settings.log.format, child.settings.log.level, process=child.kind, index=child.index)
        return _guarded(main, child)

    try:
        pid = fork(run)
    except OSError:
        ours.close()
        theirs.close()
        raise
    theirs.close()
    return pid, Control(ours)


def _guarded(main: Main, child: ChildContext) -> int:
    """Run a main; what it raises is logged here, and told to the master in a few words."""
    try:
        return main(child)
    except SystemExit as leave:
        return leave.code if isinstance(leave.code, int) else os.EX_SOFTWARE if leave.code else os.EX_OK
    except BaseException as error:  # noqa: BLE001 - the last one who can say what happened
        reason = log.printable(f"{type(error).__name__}: {error}")[:1000]
        log.logger().error("the process ends: nobody expected this", error=reason, exc_info=error)
        _tell(child.control, reason)
        return os.EX_SOFTWARE


def _tell(control: socket.socket, reason: str) -> None:
    try:
        control.setblocking(False)
        control.send(json.dumps({"fault": reason}).encode() + b"\n")
    except OSError:
        pass  # the master is dead, or the main gave the socket away
