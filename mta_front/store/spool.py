"""The front's side of the store: a message goes in as it arrives and is handed over in one atomic, durable step.

Three connections, by purpose: two for hand-overs, of which the second takes over while the first is slow or gone, one
for large bodies, so that a hand-over never stands behind somebody's megabytes. In a Cluster each shard has its three,
since it may live on a node of its own.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from typing import Any

import gevent
from gevent.event import Event

from mta_front.observe.events import NOBODY, Events
from mta_front.store import scripts
from mta_front.store.client import Call, Link, StoreOptions
from mta_front.store.duplicates import Records
from mta_front.store.errors import StoreDown, StoreError
from mta_front.store.keys import ShardKeys, shard_of
from mta_front.store.layout import layout_greetings
from mta_front.store.message_id import MessageIds
from mta_front.store.pressure import Marks, Pressure
from mta_front.store.topology import Topology, topology_of
from mta_front.store.upload import Upload

__all__ = ["Spool", "Upload"]

BUDGET_BYTES = 64 * 1024 * 1024
BODY_EXPIRY_S = 300.0
SLOW_S = 0.01  # a batch that was not answered for so long does not hold up the next one


class SpoolLinks:
    """The connections for some shards that are on one server."""

    __slots__ = ("bodies", "commits")

    def __init__(self, options: StoreOptions, topology: Topology, shards: range, events: Events) -> None:
        greetings = layout_greetings([ShardKeys(options.prefix, shard) for shard in shards], writes=True)

        def link(purpose: str, texts: Sequence[str], commits: bool) -> Link:
            return Link(
                options,
                topology.purpose(purpose, shards[0]),
                events,
                tag=str(shards[0]),
                topology=topology,
                scripts=texts,
                greetings=greetings,
                whole=True,
                together=True,
                commits=commits,
            )

        self.commits = [link(purpose, scripts.FOR_COMMITS, True) for purpose in ("commit-1", "commit-2")]
        self.bodies = link("bodies", scripts.FOR_BODIES, False)

    def __iter__(self) -> Iterator[Link]:
        return iter((*self.commits, self.bodies))

    @property
    def answered(self) -> bool:
        """Whether the server has answered, and was found fit, once since the start."""
        return self.bodies.answered and any(link.answered for link in self.commits)

    @property
    def fault(self) -> StoreError | None:
        """Why the server cannot be used now."""
        faults = [link.fault for link in self.commits]
        return self.bodies.fault if None in faults else faults[0]


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
        topology = topology_of(options)
        groups = [(shards, SpoolLinks(options, topology, shards, events)) for shards in topology.groups(options.shards)]
        self._links = [links for shards, links in groups for _ in shards]  # by shard
        self._all_links = [link for _, links in groups for link in links]
        self.records = Records(options, [links.bodies.post for links in self._links])
        self.pressure = Pressure(
            [(links.bodies.call, [self.keys[shard] for shard in shards]) for shards, links in groups],
            Marks(options.high_water, options.queue_max_messages, options.queue_max_age_s),
            events,
        )
        self._renewer: Any = None

    def start(self) -> None:
        """Connect in the background; returns at once."""
        for link in self._all_links:
            link.start()
        self.pressure.start()
        self.records.start()
        self._renewer = gevent.spawn(self._renew_bodies)

    def close(self) -> None:
        """Close the connections; calls that wait fail."""
        self.pressure.close()
        self.records.close()
        if self._renewer is not None:
            self._renewer.kill()
        for link in self._all_links:
            link.close()

    @property
    def answered(self) -> bool:
        """Whether the store, each part of it, has answered, and was found fit, once since the start."""
        return all(links.answered for links in self._links)

    @property
    def fault(self) -> StoreError | None:
        """Why the store cannot be used now; None while it can, or is being tried for the first time. Of a Cluster: why
        none of it can be, since which part a message needs is only known when it has all its recipients.
        """
        faults = [links.fault for links in self._links]
        return None if None in faults else faults[0]

    def open(self, mail_from: str, rcpt_to: Sequence[str]) -> Upload:
        """Begin a message; no I/O. The shard follows from the addresses: a retry of a message meets its first copy."""
        return Upload(self, self._ids.next(), shard_of(mail_from, rcpt_to, len(self.keys)))

    # -- for uploads ----------------------------------------------------------------------------------------------

    def links(self, shard: int) -> SpoolLinks:
        """The connections of a shard."""
        return self._links[shard]

    def hand_over(self, shard: int, call: Call, deadline: float = 0.0) -> Any:
        """Send it by the first link, behind its batch that is on its way: the store would come to it no sooner on the
        other one, and those who wait share the next fsync. By the other one if the first is slow or not there.
        """
        link, other = self._links[shard].commits
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

    def unlink(self, shard: int, key: str) -> None:
        """Free a body that nobody will hand over, if the store is there; else it expires."""
        with contextlib.suppress(StoreError):
            self._links[shard].bodies.post(Call(["UNLINK", key]))

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
                        self._links[upload.shard].bodies.post(
                            Call(["PEXPIRE", upload.key, self.body_expiry_ms, "XX"], then=upload.on_renewed)
                        )
