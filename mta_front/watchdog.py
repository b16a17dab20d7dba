"""Sees that the hub stands still: a greenlet computes, or calls what blocks, and everybody else in the process waits.

A greenlet could not see it, so a native thread does. It says which line it is, and for which session, in the log and
to the master, which then gives this worker no new connections and has others accept for it. Code that does not let go
of the GIL (a regular expression in the wrong hands) stops the thread too: for that the master sends SIGUSR2 before it
kills a process that was silent for too long, and `faulthandler`, which needs no GIL, writes the stack to a file
(DECISIONS P8).
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from types import FrameType
from typing import Any

import gevent
from gevent import monkey

from mta_front.hooks import Session
from mta_front.observe.log import logger

STACK_FRAMES = 30

LOOKS = 4
"""How often it is looked, within the time after which a standstill is told."""

_sleep = monkey.get_original("time", "sleep")
_start_thread = monkey.get_original("_thread", "start_new_thread")
_get_ident = monkey.get_original("_thread", "get_ident")


@dataclass(frozen=True, slots=True)
class Standstill:
    """What the hub's thread was found at. `session`: its id, "" when it serves none. `where`: the innermost line."""

    for_ms: int
    session: str
    where: str
    stack: str


class Watchdog:
    """Of the calling thread's hub. `report(standstill)` is called once for each, from another thread, with the hub
    standing: it must not touch gevent.
    """

    def __init__(self, warn_ms: int, report: Callable[[Standstill], object]) -> None:
        self._warn_s = warn_ms / 1000
        self._report = report
        self._thread = 0
        self._moved_at = 0.0

    def start(self, stack_file: str) -> None:
        """Begin to watch. `stack_file`: where the stack is written to at SIGUSR2."""
        dump = os.open(stack_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        faulthandler.register(signal.SIGUSR2, dump, all_threads=True)
        self._thread = _get_ident()
        self._moved_at = monotonic()
        timer: Any = gevent.get_hub().loop.timer(self._warn_s / LOOKS, self._warn_s / LOOKS)
        timer.start(self._move)
        _start_thread(self._watch, ())

    def _move(self) -> None:
        self._moved_at = monotonic()

    def _watch(self) -> None:
        while True:
            moved_at = self._moved_at
            _sleep(self._warn_s / LOOKS)
            stood_s = monotonic() - moved_at
            if moved_at == self._moved_at and stood_s >= self._warn_s:
                self._tell(stood_s)
                while moved_at == self._moved_at:
                    _sleep(self._warn_s / LOOKS)
                logger().warning("hub moves again", stood_ms=round((self._moved_at - moved_at) * 1000))

    def _tell(self, stood_s: float) -> None:
        frame = sys._current_frames().get(self._thread)
        if frame is not None:
            stack = traceback.extract_stack(frame, STACK_FRAMES)
            last = stack[-1]
            where = f"{last.filename}:{last.lineno} in {last.name}"
            text = "".join(traceback.format_list(stack))
            found = Standstill(round(stood_s * 1000), _session_in(frame), where, text)
            logger().error(
                "hub stands still", for_ms=found.for_ms, session=found.session, where=where, stack=text.rstrip()
            )
            self._report(found)


def _session_in(frame: FrameType | None) -> str:
    """The session that the innermost function with one works for."""
    while frame is not None:
        for value in frame.f_locals.values():
            if isinstance(value, Session):
                return value.id
        frame = frame.f_back
    return ""
