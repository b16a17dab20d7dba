"""Whether the store has room for one more message: asked at MAIL, so that nobody sends megabytes in vain (S10).

Reception stops well before the store is full, since what is there must still be settled, deferred and reported on. What
the store says is up to a second old; what this worker has taken since, and what its clients have declared and not sent
yet, is added. Of several servers the fullest counts: which one a message goes to is only known with its recipients.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gevent

from mta_front.observe.events import NOBODY, Events
from mta_front.store import scripts
from mta_front.store.batch import Call
from mta_front.store.errors import StoreError
from mta_front.store.keys import ShardKeys

POLL_S, POLL_SOON_S = 1.0, 0.2
"""How often the store is asked; and how often when half of what may be used is used."""


DECLARED_SHARE = 4
"""Of what may be used, this part may be held by octets that were declared and did not come yet."""


@dataclass(slots=True, frozen=True)
class Marks:
    """Where reception stops; 0 = no such limit. `memory`: a share of the store's maxmemory."""

    memory: float = 0.75
    messages: int = 0
    age_s: float = 0.0


class Pressure:
    """Of one worker. `servers`: for each server, how to send it a call and wait, and the shards that it has."""

    def __init__(
        self,
        servers: Sequence[tuple[Callable[[Call], Any], Sequence[ShardKeys]]],
        marks: Marks,
        events: Events = NOBODY,
    ) -> None:
        self._servers = servers
        self._marks = marks
        self._events = events
        self._used_bytes = 0  # of the fullest server
        self._may_use_bytes = 0  # of it; 0 = no limit
        self._reason = ""  # why nothing is taken, whatever its size
        self._taken_bytes = 0  # since the store was asked
        self._declared: dict[str, int] = {}  # octets on their way, by session
        self._declared_bytes = 0
        self._told = ""
        self._greenlet: Any = None

    def start(self) -> None:
        """Ask in the background."""
        self._greenlet = gevent.spawn(self._ask_forever)

    def close(self) -> None:
        """Ask no more."""
        if self._greenlet is not None:
            self._greenlet.kill()

    def admits(self, session_id: str, size_bytes: int) -> bool:
        """Whether a message of so many octets (0: the client did not say) may be begun. It counts until `ends`."""
        self.ends(session_id)
        reason = self._reason
        if not reason and self._may_use_bytes:
            # Who declares much and sends nothing must not keep everybody else out.
            declared = min(self._declared_bytes, self._may_use_bytes // DECLARED_SHARE)
            wanted = self._used_bytes + self._taken_bytes + declared + size_bytes
            if wanted > self._may_use_bytes:
                reason = "memory"
                if not size_bytes or wanted - size_bytes > self._may_use_bytes:  # else only this one is too large
                    self._tell(reason)
        if reason:
            return False
        if size_bytes:
            self._declared[session_id] = size_bytes
            self._declared_bytes += size_bytes
        return True

    def ends(self, session_id: str, size_bytes: int = 0) -> None:
        """The message of this session is over; `size_bytes` of it were taken."""
        if self._declared:
            self._declared_bytes -= self._declared.pop(session_id, 0)
        self._taken_bytes += size_bytes

    # ------------------------------------------------------------------------------------------------------------

    def _ask_forever(self) -> None:
        while True:
            with contextlib.suppress(StoreError):  # it is away: 451, whatever we know
                self._ask()
            near = self._may_use_bytes and self._used_bytes * 2 > self._may_use_bytes
            gevent.sleep(POLL_SOON_S if near else POLL_S)

    def _ask(self) -> None:
        fullest, messages, age_s = (0.0, 0, 0), 0, 0.0
        taken_bytes = self._taken_bytes
        for call, shards in self._servers:
            if self._marks.memory:
                used, limit = _memory(call(Call(["INFO", "memory"])))
                if limit:
                    fullest = max(fullest, (used / limit, used, limit))
            if self._marks.messages or self._marks.age_s:
                for keys in shards:
                    length, _, _, _, age_ms = call(scripts.counts(keys))
                    messages += length
                    age_s = max(age_s, age_ms / 1000)
        self._taken_bytes -= taken_bytes  # they are in what the store said
        _, self._used_bytes, limit = fullest
        self._may_use_bytes = int(limit * self._marks.memory)
        if 0 < self._marks.messages <= messages:
            self._reason = "messages"
        elif 0 < self._marks.age_s <= age_s:
            self._reason = "age"
        else:
            self._reason = ""
        full = bool(self._may_use_bytes) and self._used_bytes >= self._may_use_bytes
        self._tell(self._reason or ("memory" if full else ""))

    def _tell(self, reason: str) -> None:
        if reason != self._told:
            self._told = reason
            self._events.reception(not reason, reason)


def _memory(info: bytes) -> tuple[int, int]:
    """Used, and maxmemory."""
    found = dict(line.split(b":", 1) for line in info.splitlines() if b":" in line)
    return int(found.get(b"used_memory", 0)), int(found.get(b"maxmemory", 0))
