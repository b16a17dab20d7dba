"""The front's side of the store: a message goes in as it arrives and is handed over in one atomic, durable step.

Three connections, by purpose: two for hand-overs, of which the second takes over while the first is slow or gone, one
for large bodies, so that a hand-over never stands behind somebody's megabytes.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from typing import Any

import gevent
from gevent.event import Event

from mta_front.observe.events import NOBODY, Events
from mta_front.store import scripts
from mta_front.store.client import Call, Link, StoreOptions
from mta_front.store.errors import StoreDown, StoreError
from mta_front.store.keys import ShardKeys, shard_of
from mta_front.store.layout import layout_greetings
from mta_front.store.message_id import MessageIds
from mta_front.store.upload import Upload

__all__ = ["Spool", "Upload"]

BUDGET_BYTES = 64 * 1024 * 1024
BODY_EXPIRY_S = 300.0
SLOW_S = 0.01  # a batch that was not answered for so long does not hold up the next one


class Spool:
    """All uploads of a worker, over shared connections."""

    def __init__(
        self,
        options: StoreOptions,
        events: Events = NOBODY,
        *,
        budget_bytes: int = BUDGET_BYTES,
        body_expiry_s: float = BODY_EXPIRY_S,
    ) -> None:
        """`budget_bytes`: what all uploads may hold in memory. `body_expiry_s`: how long a large body outlives us."""
        self.options = options
        self.keys = [ShardKeys(options.prefix, shard) for shard in range(options.shards)]
        self.timeout_s = options.timeout_ms / 1000
        self.body_expiry_ms = int(body_expiry_s * 1000)
        self._ids = MessageIds()
        self._budget_bytes = budget_bytes
        self._held_bytes = 0
        self._freed = Event()
        self._uploads: dict[str, Upload] = {}  # those that hold bytes or a key
        greetings = layout_greetings(self.keys, writes=True)
        self._commits = [
            Link(
                options,
                purpose,
                events,
                scripts=scripts.FOR_COMMITS,
                greetings=greetings,
                whole=True,
                together=True,
                commits=True,
            )
            for purpose in ("commit-1", "commit-2")
        ]
        self.bodies = Link(
            options, "bodies", events, scripts=scripts.FOR_BODIES, greetings=greetings, whole=True, together=True
        )
        self._renewer: Any = None

    def start(self) -> None:
        """Connect in the background; returns at once."""
        for link in (*self._commits, self.bodies):
            link.start()
        self._renewer = gevent.spawn(self._renew_bodies)

    def close(self) -> None:
        """Close the connections; calls that wait fail."""
        if self._renewer is not None:
            self._renewer.kill()
        for link in (*self._commits, self.bodies):
            link.close()

    @property
    def answered(self) -> bool:
        """Whether the store has answered, and was found fit, once since the start."""
        return self.bodies.answered and any(link.answered for link in self._commits)

    @property
    def fault(self) -> StoreError | None:
        """Why the store cannot be used now; None while it can, or is being tried for the first time."""
        faults = [link.fault for link in self._commits]
        return self.bodies.fault if None in faults else faults[0]

    def open(self, mail_from: str, rcpt_to: Sequence[str]) -> Upload:
        """Begin a message; no I/O. The shard follows from the addresses: a retry of a message meets its first copy."""
        return Upload(self, self._ids.next(), shard_of(mail_from, rcpt_to, len(self.keys)))

    # -- for uploads ----------------------------------------------------------------------------------------------

    def hand_over(self, call: Call, deadline: float = 0.0) -> Any:
        """Send it by the first link, behind its batch that is on its way: the store would come to it no sooner on the
        other one, and those who wait share the next fsync. By the other one if the first is slow or not there.
        """
        link, other = self._commits
        slow = 0 < link.busy_since < time.monotonic() - SLOW_S and other.busy_since <= link.busy_since
        if other.up_since and (slow or not link.up_since):
            link = other
        reply = link.call(call, deadline)
        if reply == scripts.TOO_LATE and time.monotonic() < call.deadline:
            link.distrust_clock()
        return reply

    def reserve(self, upload: Upload, size_bytes: int) -> None:
        """Room for bytes in the worker's memory. When there is none, what others have gathered goes to the store, and
        we wait until it has taken it. `StoreDown`: not within `timeout_ms`.
        """
        self._uploads.setdefault(upload.id, upload)
        if self._held_bytes + size_bytes > self._budget_bytes:
            self._wait_for_room(size_bytes)
        self._held_bytes += size_bytes

    def _wait_for_room(self, size_bytes: int) -> None:
        deadline = time.monotonic() + self.timeout_s
        while self._held_bytes and self._held_bytes + size_bytes > self._budget_bytes:
            for upload in list(self._uploads.values()):
                upload.spill()
            self._freed.clear()
            if not self._freed.wait(max(0.0, deadline - time.monotonic())):
                raise StoreDown("the memory for messages on their way is used up")

    def release(self, size_bytes: int) -> None:
        """These bytes are in memory no more."""
        self._held_bytes -= size_bytes
        if not self._freed.is_set():
            self._freed.set()

    def forget(self, upload: Upload, size_bytes: int) -> None:
        """The upload has ended; `size_bytes` were gathered in it."""
        self._uploads.pop(upload.id, None)
        if size_bytes:
            self.release(size_bytes)

    def unlink(self, key: str) -> None:
        """Free a body that nobody will hand over, if the store is there; else it expires."""
        with contextlib.suppress(StoreError):
            self.bodies.post(Call(["UNLINK", key]))

    @property
    def held_bytes(self) -> int:
        """What all uploads hold in memory."""
        return self._held_bytes

    def _renew_bodies(self) -> None:
        while True:
            gevent.sleep(self.body_expiry_ms / 5000)
            for upload in list(self._uploads.values()):
                if upload.key:
                    with contextlib.suppress(StoreError):
                        self.bodies.post(
                            Call(["PEXPIRE", upload.key, self.body_expiry_ms, "XX"], then=upload.on_renewed)
                        )
