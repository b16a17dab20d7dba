"""The live sessions of a process: how many there may be, who waited too long, and their end at a drain.

One sweep over all sessions each `SWEEP_S` stands in for a timer per wait: a session notes when its wait ends, which
costs a float, and the sweep cuts those whose time has passed. Time-outs are therefore late by up to one sweep.
"""

from __future__ import annotations

from time import monotonic
from typing import Protocol

import gevent

SWEEP_S = 0.5


class Member(Protocol):
    """What the roster knows of a session."""

    deadline: float
    """Monotonic seconds at which the present wait for the client ends; 0.0 while it waits for something else."""

    def expire(self) -> None:
        """The wait took too long: end the session with 421 4.4.2."""

    def wind_up(self) -> None:
        """The process is draining: end at once with 421 4.3.2 if idle, else when the transaction is over."""

    def stop(self) -> None:
        """Time is up: end now, whatever is going on."""


class Roster:
    """`limit`: sessions at once; 0 = no limit."""

    def __init__(self, limit: int = 0) -> None:
        self._limit = limit
        self._members: set[Member] = set()
        self._admitted = 0
        self._sweeper: gevent.Greenlet | None = None
        self.draining = False

    def __len__(self) -> int:
        return len(self._members)

    @property
    def full(self) -> bool:
        """No session more may be admitted."""
        return bool(self._limit) and self._admitted >= self._limit

    def admit(self) -> None:
        """A connection was accepted; its session joins when its greenlet runs, which is later."""
        self._admitted += 1

    def release(self) -> None:
        """An admitted connection is closed."""
        self._admitted -= 1

    def start(self) -> None:
        """Begin to watch over deadlines."""
        self._sweeper = gevent.spawn(self._sweep)

    def end(self) -> None:
        """Watch no longer."""
        if self._sweeper is not None:
            self._sweeper.kill()

    def join(self, member: Member) -> None:
        """A session begins."""
        self._members.add(member)

    def leave(self, member: Member) -> None:
        """A session ended."""
        self._members.discard(member)

    def _sweep(self) -> None:
        while True:
            gevent.sleep(SWEEP_S)
            now = monotonic()
            for member in [m for m in self._members if 0.0 < m.deadline < now]:
                member.expire()

    def drain(self, timeout_s: float) -> bool:
        """Let sessions end; after `timeout_s` make them. True when all ended by themselves."""
        self.draining = True
        for member in list(self._members):
            member.wind_up()
        if self._empty_within(timeout_s):
            return True
        for member in list(self._members):
            member.stop()
        self._empty_within(1.0)
        return False

    def _empty_within(self, timeout_s: float) -> bool:
        deadline = monotonic() + timeout_s
        while self._members and monotonic() < deadline:
            gevent.sleep(0.02)
        return not self._members
