"""The relay's side of one shard: take messages under a lease, settle or defer them, take over from dead relays.

A message in hand is pending for its consumer in the group `relay` and has a lease. Whoever takes it over, by `due` or
`reclaim`, sets its delivery count to the store's time in µs: that is the fence, which every later script checks, so an
older claim can change nothing. docs/queue.md goes through what happens at each point where something can die.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mta_front.observe.events import NOBODY, Events
from mta_front.store import scripts
from mta_front.store.claim import Claim, final_outcomes
from mta_front.store.client import Call, Greeting, Link, StoreOptions
from mta_front.store.entry import Entry, Outcome
from mta_front.store.errors import StoreBodyGone, StoreDown, StoreError, StoreRefused, StoreUnknown
from mta_front.store.keys import GROUP, ShardKeys
from mta_front.store.layout import layout_greetings
from mta_front.store.settling import Report, settling_call
from mta_front.store.topology import Topology, topology_of
from mta_front.store.wire import Command, ReplyError

__all__ = ["Claim", "Queue", "QueueLinks"]

READ_SEGMENTS = 4  # of a body per trip to the store
GONE_AFTER_LEASES = 10  # a consumer that was silent for so long, and holds nothing, is forgotten


class ShardLinks:
    """Connections for some shards that are on one server: one for scripts, one for bodies."""

    __slots__ = ("bodies", "relay")

    def __init__(self, options: StoreOptions, topology: Topology, shards: range, events: Events) -> None:
        keys = [ShardKeys(options.prefix, shard) for shard in shards]
        greetings = [*layout_greetings(keys, writes=False), *_group_greetings(keys)]
        tag, named = str(shards[0]), topology.purpose
        self.relay = Link(
            options,
            named("relay", shards[0]),
            events,
            tag=tag,
            topology=topology,
            scripts=scripts.FOR_RELAY,
            greetings=greetings,
        )
        self.bodies = Link(options, named("relay-bodies", shards[0]), events, tag=tag, topology=topology)


class QueueLinks:
    """Connections that the queues of a relay share; in a Cluster each shard has its own."""

    def __init__(self, options: StoreOptions, events: Events = NOBODY) -> None:
        self.topology = topology_of(options)
        groups = [
            (shards, ShardLinks(options, self.topology, shards, events))
            for shards in self.topology.groups(options.shards)
        ]
        self._by_shard = [links for shards, links in groups for _ in shards]
        self._all = [link for _, links in groups for link in (links.relay, links.bodies)]

    def of(self, shard: int) -> ShardLinks:
        """Those of a shard."""
        return self._by_shard[shard]

    @property
    def fault(self) -> StoreError | None:
        """Why no shard can be reached now; None while one can."""
        faults = [links.relay.fault for links in self._by_shard]
        return None if None in faults else faults[0]

    def start(self) -> None:
        """Connect in the background; returns at once."""
        for link in self._all:
            link.start()

    def close(self) -> None:
        """Close the connections; calls that wait fail."""
        for link in self._all:
            link.close()


class Queue:
    """One shard of the queue, as one relay sees it. Every method may raise `StoreError`."""

    def __init__(
        self,
        options: StoreOptions,
        shard: int,
        consumer: str,
        lease_s: float = 60.0,
        events: Events = NOBODY,
        *,
        links: QueueLinks | None = None,
    ) -> None:
        """`consumer`: unique among all living relays. `links`: shared with the queues of other shards."""
        self.keys = ShardKeys(options.prefix, shard)
        self.consumer = consumer
        self.lease_s = lease_s
        self._lease_ms = int(lease_s * 1000)
        self._timeout_s = options.timeout_ms / 1000
        self._own_links = links is None
        self._links = links or QueueLinks(options, events)
        self._relay = self._links.of(shard).relay
        self._bodies = self._links.of(shard).bodies
        self._arrivals = Link(
            options,
            self._links.topology.purpose("arrivals", shard),
            events,
            tag=str(shard),
            topology=self._links.topology,
        )
        self._unleased: list[Any] = []  # read, and the answer to their lease was lost
        self._recovering = False  # the answer to a read was lost
        self._cursor = b"-"
        self._consumers_looked_at = 0.0

    def start(self) -> None:
        """Connect in the background; each new connection makes the group `relay` at 0 where it is missing."""
        if self._own_links:
            self._links.start()
        self._arrivals.start()

    def close(self) -> None:
        """Close the connections; calls that wait fail. Nothing is given back: the leases expire."""
        self._arrivals.close()
        if self._own_links:
            self._links.close()

    @property
    def answered(self) -> bool:
        """Whether the store has answered once since the start."""
        return self._relay.answered

    # -- taking in hand -------------------------------------------------------------------------------------------

    def take(self, count: int, block_ms: int) -> list[Claim]:
        """Up to `count` new messages; waits up to `block_ms` for the first. [] when there is none."""
        if self._recovering:
            expires_at = time.monotonic() + self.lease_s
            found = self._ask(scripts.recover(self.keys, self.consumer, self._lease_ms, count))
            self._recovering = False
            if found:
                return self._read_claimed(found, 1, expires_at)
        entries, self._unleased = self._unleased, []
        if not entries:
            entries = self._read_new(count, block_ms)
        if not entries:
            return []
        expires_at = time.monotonic() + self.lease_s
        try:
            held = set(
                self._relay.call(scripts.lease(self.keys, self.consumer, self._lease_ms, [one[0] for one in entries]))
            )
        except StoreError:
            self._unleased = entries  # pending for us: asked for again, or reclaimed once they are idle for a lease
            raise
        claims = []
        for entry_id, flat in entries:
            if entry_id in held:
                claim = self._read_entry(entry_id, 1, flat, expires_at)
                if claim is not None:
                    claims.append(claim)
        return claims

    def _read_new(self, count: int, block_ms: int) -> list[Any]:
        words: list[Any] = ["XREADGROUP", "GROUP", GROUP, self.consumer, "COUNT", count]
        if block_ms > 0:  # 0 would wait for ever
            words += ["BLOCK", block_ms]
        call = Call([*words, "STREAMS", self.keys.queue, ">"])
        call.deadline = time.monotonic() + block_ms / 1000 + self._timeout_s
        try:
            found = self._arrivals.call(call)
        except StoreUnknown:
            self._recovering = True
            raise
        except StoreRefused as error:
            if not error.reason.startswith("NOGROUP"):
                raise
            self._make_group()  # the store was emptied
            return []
        return list(found[0][1]) if found else []

    def due(self, count: int) -> list[Claim]:
        """Up to `count` deferred messages whose time has come."""
        expires_at = time.monotonic() + self.lease_s
        found = self._ask(scripts.due(self.keys, self.consumer, self._lease_ms, count))
        return self._read_claimed(found[1:], int(found[0]), expires_at) if found else []

    def reclaim(self, count: int) -> list[Claim]:
        """Up to `count` messages whose holder is gone; nothing until the store has answered for a whole lease.

        So an outage makes nobody look dead: their holders had as long as a lease to renew them since it ended.
        """
        if not self._relay.up_since or time.monotonic() - self._relay.up_since < self.lease_s:
            return []
        self._forget_consumers()
        expires_at = time.monotonic() + self.lease_s
        found = self._ask(scripts.reclaim(self.keys, self.consumer, self._lease_ms, count, self._cursor))
        if not found:
            return []
        self._cursor = found[1]
        deaths = dict(zip(found[2::2], found[3::2], strict=True))
        claims = self._read_claimed(list(deaths), int(found[0]), expires_at)
        for claim in claims:
            claim.deaths = deaths[claim.entry_id.encode()]
        return claims

    def claim(self, entry_id: str) -> Claim | None:
        """One message that no relay has in hand now; None when one has, or it is gone."""
        expires_at = time.monotonic() + self.lease_s
        fence = self._ask(scripts.claim(self.keys, self.consumer, self._lease_ms, entry_id), b"")
        claims = self._read_claimed([entry_id.encode()], int(fence), expires_at) if fence else []
        return claims[0] if claims else None

    def _read_claimed(self, entry_ids: list[bytes], fence: int, expires_at: float) -> list[Claim]:
        """Entries that are ours already. What fails here stays under its lease and is reclaimed when that expires."""
        claims = []
        for entry_id, found in zip(
            entry_ids, self._ask_all([["XRANGE", self.keys.queue, e, e] for e in entry_ids]), strict=True
        ):
            if found:
                claim = self._read_entry(entry_id, fence, found[0][1], expires_at)
                if claim is not None:
                    claims.append(claim)
        known = self._ask_all([["HGETALL", self.keys.message(claim.id)] for claim in claims])
        return [claim for claim, flat in zip(claims, known, strict=True) if self._read_known(claim, flat)]

    def _read_entry(self, entry_id: bytes, fence: int, flat: list[bytes] | None, expires_at: float) -> Claim | None:
        """A claim; None when the entry cannot be read, and is put with the dead letters."""
        fields = dict(zip((flat or [])[::2], (flat or [])[1::2], strict=True))
        try:
            envelope = Entry.from_json(fields[b"envelope"])
            if not envelope.segments and b"body" not in fields:
                raise ValueError("the entry has no body")
        except (KeyError, ValueError) as error:
            reason = f"unreadable entry: {error if isinstance(error, ValueError) else 'it has no envelope'}"
            self._bury_unread(entry_id.decode(), fence, reason)
            return None
        return Claim(
            entry_id=entry_id.decode(),
            id=envelope.id,
            fence=fence,
            envelope=envelope,
            body=None if envelope.segments else fields[b"body"],
            expires_at=expires_at,
        )

    def _read_known(self, claim: Claim, flat: list[bytes]) -> bool:
        """Fill in what msg:ID holds; False when it cannot be read, and the message was put with the dead letters."""
        if not flat:
            return True
        fields = {name.decode(): value for name, value in zip(flat[::2], flat[1::2], strict=True)}
        try:
            claim.known_from(fields)
        except (ValueError, TypeError) as error:
            # Who has it already is not known any more: to deliver it again could double it.
            self._bury_unread(claim.entry_id, claim.fence, f"unreadable state: {error}", self.keys.message(claim.id))
            return False
        return True

    def _bury_unread(self, entry_id: str, fence: int, reason: str, *freed: str) -> None:
        letter = {"reason": reason, "died_at": round(time.time(), 3)}
        with contextlib.suppress(StoreError):  # then once its lease has expired
            self._relay.call(scripts.bury(self.keys, freed, (entry_id, self.consumer, fence), letter, ()))

    # -- holding and letting go -----------------------------------------------------------------------------------

    def renew(self, claims: Sequence[Claim]) -> list[Claim]:
        """Extend the leases (and `expires_at`); returns those that are no longer ours."""
        if not claims:
            return []
        expires_at = time.monotonic() + self.lease_s
        held = [(claim.entry_id, claim.fence) for claim in claims]
        call = scripts.renew(self.keys, self.consumer, self._lease_ms, held)
        lost = {entry.decode() for entry in self._ask(call, [claim.entry_id.encode() for claim in claims])}
        for claim in claims:
            if claim.entry_id not in lost:
                claim.expires_at = expires_at
        return [claim for claim in claims if claim.entry_id in lost]

    def body(self, claim: Claim) -> Iterator[bytes]:
        """The body, one segment (at most 64 KiB) at a time. `StoreBodyGone`: it is lost; settle the message as dead."""
        if claim.body is not None:
            yield claim.body
            return
        key = self.keys.body(claim.id)
        size_bytes = 0
        for start in range(0, claim.envelope.segments, READ_SEGMENTS):
            wanted = min(READ_SEGMENTS, claim.envelope.segments - start)
            segments = self._bodies.call(Call(["LRANGE", key, start, start + wanted - 1]))
            if len(segments) != wanted:
                raise StoreBodyGone(f"the body is gone from the store: segment {start + len(segments)} is missing")
            for segment in segments:
                size_bytes += len(segment)
                yield segment
        if size_bytes != claim.envelope.size_bytes:
            raise StoreBodyGone(
                f"the body in the store has {size_bytes} bytes, {claim.envelope.size_bytes} were written"
            )

    def progress(self, claim: Claim, outcomes: Mapping[str, Outcome]) -> bool:
        """Record outcomes of some recipients while others still run. False: the claim is lost, nothing was done."""
        settled = claim.settled | final_outcomes(outcomes)
        known = {"entry": claim.entry_id, "settled": json.dumps(settled)}
        claim.kept = True  # also if we never hear whether it was
        if not self._tell(scripts.progress(self.keys, claim.id, claim.entry_id, self.consumer, claim.fence, known)):
            return False
        claim.settled = settled
        return True

    def settle(
        self,
        claim: Claim,
        outcomes: Mapping[str, Outcome],
        due_at: float | None,
        dead: Sequence[Mapping[str, Any]] = (),
        *,
        reports: Sequence[Report] = (),
        dealt_with: Sequence[str] = (),
        warned: bool = False,
    ) -> bool:
        """Record the outcomes of an attempt and let go of the message, in one step.

        `due_at` None: every recipient is settled, the message leaves the queue; else it is deferred until then (unix
        seconds). Those in `dead` (each with its recipient and reason) become a dead letter with its body, now.
        `reports` enter the queue. `dealt_with`: whose end was reported or buried so far; `warned`: the sender was told
        of a delay. False: the claim is lost, nothing was done. After `StoreUnknown` it may be called again, with the
        same arguments; then False may also mean that it had been done. Nothing of it is ever done twice.
        """
        return self._tell(
            settling_call(self.keys, self.consumer, claim, outcomes, due_at, dead, reports, dealt_with, warned)
        )

    def give_back(self, claims: Sequence[Claim]) -> None:
        """Let go of messages that were not attempted, e.g. before we stop: they are due at once, for any relay."""
        if claims:
            held = [(claim.entry_id, claim.fence) for claim in claims]
            self._ask(scripts.give_back(self.keys, self.consumer, held))

    # -- the shard ------------------------------------------------------------------------------------------------

    def counts(self) -> dict[str, float]:
        """length, later, leased, dead, oldest_age_s."""
        length, later, leased, dead, age_ms = self._ask(scripts.counts(self.keys))
        return {"length": length, "later": later, "leased": leased, "dead": dead, "oldest_age_s": age_ms / 1000}

    def keep_house(self) -> bool:
        """Whether this consumer, of all, is the one that reports on the shard; for a lease from now."""
        return self._tell(scripts.keep_house(self.keys, self.consumer, self._lease_ms))

    def leave(self) -> None:
        """Before `close`: this consumer is not coming back. It is forgotten at once if it holds nothing."""
        with contextlib.suppress(StoreError):
            self._relay.call(scripts.keep_house(self.keys, self.consumer, 0))
            self._relay.call(scripts.forget_consumers(self.keys, 2**53, self.consumer))

    def _forget_consumers(self) -> None:
        now = time.monotonic()
        if now - self._consumers_looked_at >= self.lease_s:
            self._consumers_looked_at = now
            self._ask(scripts.forget_consumers(self.keys, self._lease_ms * GONE_AFTER_LEASES))

    def _ask(self, call: Call, groupless: Sequence[Any] = ()) -> Any:
        """Reply of a script; `groupless` when the group is missing: the store was emptied."""
        try:
            return self._relay.call(call)
        except StoreRefused as error:
            if "NOGROUP" not in error.reason:
                raise
            self._make_group()
            return groupless

    def _tell(self, call: Call) -> bool:
        return bool(self._ask(call))

    def _ask_all(self, commands: Sequence[Command]) -> list[Any]:
        calls = [Call(list(command)) for command in commands]
        for call in calls:
            self._relay.post(call)
        return [self._relay.wait(call) for call in calls]

    def _make_group(self) -> None:
        self._relay.call(Call(["XGROUP", "CREATE", self.keys.queue, GROUP, "0", "MKSTREAM"]))


def _group_greetings(shards: Sequence[ShardKeys]) -> list[Greeting]:
    return [(("XGROUP", "CREATE", keys.queue, GROUP, "0", "MKSTREAM"), _group_made) for keys in shards]


def _group_made(reply: Any) -> None:
    """At 0, never `$`: what came before the first relay must be delivered too. OOM: it is made when it is missed."""
    if isinstance(reply, ReplyError) and reply.code not in ("BUSYGROUP", "OOM"):
        raise StoreDown(f"cannot make the group {GROUP}: {reply.text}")
