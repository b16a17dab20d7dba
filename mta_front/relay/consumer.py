"""One shard of the queue, drained: taken, delivered, settled; deferred mail when it is due, dead relays' mail, leases.

    taker ──────┐                                              ┌─> settlers ─> one script per message, many per fsync
    minder ─────┼─> in hand: a message, split by route ─> transports
    rescuer ────┤   (bounded; a place is free when the outcome is written)
    renewer ────┘

What a crash leaves, at each point:
- taken, not yet leased, or in delivery: the claim stays pending and its lease expires; another relay begins anew. What
  had been recorded as delivered (`progress`) is not repeated.
- the next hop has said 250, the outcome is not written: the next relay delivers again. This is the only window in which
  a message is doubled, and it is as long as one trip to the store.
- settled: the script was executed whole, or not at all.

While the store is away, outcomes are kept and written as soon as it is back, before anything new is taken (S7). A claim
that is lost (another relay has it) changes nothing any more: its delivery stops before the final dot, its outcome is
dropped. When we take over a message that we still have in hand, its delivery goes on under the new claim.
"""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import gevent
from gevent.event import Event

from mta_front.observe.events import Events
from mta_front.relay.attempt import Attempt
from mta_front.relay.delivery import Result, Settlement, poisoned, recorded, unsettled
from mta_front.relay.nexthop import domain_of
from mta_front.relay.reports import Reports
from mta_front.relay.routing import Routing
from mta_front.smtp.transaction import Outcome
from mta_front.store.claim import Claim
from mta_front.store.errors import StoreError, StoreUnknown
from mta_front.store.queue import Queue
from mta_front.store.settling import Report

BLOCK_MS = 1000
"""How long a read waits for the first message; so long draining may have to wait for the taker."""
TAKE_MAX = 64
SETTLERS = 64
DUE_S = 0.5
"""How often deferred messages are looked for."""
COUNT_S = 5.0
POISON_DEATHS = 3
"""So many relays in a row that died holding a message make it poison."""
SUSPECT_S = 10.0
"""A message that a relay died with is delivered with no other such one beside it, unless it takes longer than this."""
NOTHING = dict.fromkeys(("length", "later", "leased", "dead", "oldest_age_s"), 0.0)
GATHER_S = 0.02
"""With few places free, so long the taker waits for more: each read is a trip to the store, and an fsync."""
PAUSE_FIRST_S, PAUSE_LAST_S = 0.05, 0.5
"""Between two tries while the store is away."""


@dataclass(slots=True)
class InHand:
    """A message in hand: its claim, and what is known so far."""

    claim: Claim
    results: dict[str, Result] = field(default_factory=dict)
    pending: int = 1
    """Attempts, and writes of progress, that have not come back; 1 is ours, until all attempts are under way."""
    lost: bool = False
    """Another relay has it."""
    ended: Event | None = None
    """Set when it leaves our hands, where somebody waits for that."""


class Consumer:
    """One shard's consumer.

    `limit`: messages in hand; and a quarter more for those that are due or taken over, so that new mail never keeps
    them waiting.
    """

    def __init__(
        self,
        queue: Queue,
        shard: int,
        routing: Routing,
        reports: Reports,
        limit: int,
        events: Events,
        dice: Callable[[], float] = random.random,
    ) -> None:
        self._queue = queue
        self._shard = shard
        self._routing = routing
        self._reports = reports
        self._limit = limit
        self._enough = max(limit // 4, 1)  # free places worth a trip to the store
        self._events = events
        self._dice = dice
        self._in_hand: dict[str, InHand] = {}
        self._work: deque[Callable[[], None]] = deque()
        self._settlers = 0
        self._unwritten = 0  # settlers that hold an outcome which the store did not take
        self._draining = False
        self._freed = Event()
        self._margin_s = min(routing.patience_s, queue.lease_s / 3)
        """With less than this left of its lease, a message is not sent off (S7)."""
        self._look_s = min(max(queue.lease_s / 10, 0.1), 5.0)
        """How often leases are looked at: ours, whether they need to be renewed; others', whether they have expired."""
        self._count_at = 0.0
        self._keeps_house = False
        self._greenlets: list[Any] = []

    def __len__(self) -> int:
        """Messages in hand."""
        return len(self._in_hand)

    def start(self) -> None:
        """Begin to take."""
        self._greenlets = [
            gevent.spawn(self._forever, step) for step in (self._take, self._mind, self._rescue, self._renew)
        ]

    def drain(self, timeout_s: float) -> bool:
        """Take no more; wait until what is in hand is done and written. False: not all was, in `timeout_s`."""
        deadline_at = time.monotonic() + timeout_s
        self._draining = True
        self._freed.set()
        gevent.joinall(self._greenlets[:3], timeout_s)
        while self._in_hand and time.monotonic() < deadline_at:
            gevent.sleep(0.02)
        gevent.killall(self._greenlets)
        return not self._in_hand

    def abandon(self) -> None:
        """We end with messages in hand: give back those that nobody has yet, so that nobody takes us for dead of them.

        Their deliveries stop before the final dot. StoreError when the store is away: then their leases expire.
        """
        gevent.killall(self._greenlets)
        nobody = [
            hand
            for hand in self._in_hand.values()
            if hand.pending and not any(result.outcome.kind == "delivered" for result in hand.results.values())
        ]
        for hand in nobody:
            hand.lost = True
        self._queue.give_back([hand.claim for hand in nobody])

    def _forever(self, step: Callable[[], None]) -> None:
        """Repeat a step. A store that is away, or a bug, ends the step and not the greenlet."""
        pause_s = PAUSE_FIRST_S
        while not self._draining or step == self._renew:
            try:
                step()
                pause_s = PAUSE_FIRST_S
            except StoreError:
                gevent.sleep(pause_s)
                pause_s = min(2 * pause_s, PAUSE_LAST_S)
            except Exception as error:  # noqa: BLE001
                self._events.fault(error, "relay")
                gevent.sleep(PAUSE_LAST_S)

    # -- taking --------------------------------------------------------------------------------------------------------

    def _take(self) -> None:
        """New messages."""
        room = self._limit - len(self._in_hand)
        if room < self._enough or self._unwritten:
            self._freed.clear()
            if self._freed.wait(GATHER_S) or self._unwritten or room <= 0:
                return
        claims = self._queue.take(min(room, TAKE_MAX), BLOCK_MS)
        if self._draining:
            self._queue.give_back(claims)
        else:
            self._accept(claims)

    def _mind(self) -> None:
        """Deferred messages that are due; and, as the shard's housekeeper, the count of it all."""
        now = time.monotonic()
        while not self._unwritten and self._accept_some(self._queue.due):
            pass
        if now >= self._count_at:
            self._count_at = now + min(COUNT_S, self._queue.lease_s / 3)
            self._report()
        gevent.sleep(min(DUE_S, self._look_s))

    def _report(self) -> None:
        """How the shard stands: said by one relay of all, so that the sum over the fleet is right."""
        kept_house, self._keeps_house = self._keeps_house, self._queue.keep_house()
        if self._keeps_house:
            self._events.queue_state(self._shard, self._queue.counts())
        elif kept_house:
            self._events.queue_state(self._shard, dict(NOTHING))

    def _rescue(self) -> None:
        """Messages of relays that are gone, one at a time: one of them may be what they died of (S12)."""
        room = self._limit + self._enough - len(self._in_hand)
        claims = self._queue.reclaim(1) if room > 0 and not self._unwritten else []
        if self._draining:
            self._queue.give_back(claims)
        elif not claims:
            gevent.sleep(self._look_s)
        for claim in claims if not self._draining else []:
            held = self._in_hand.get(claim.entry_id)
            if claim.deaths >= POISON_DEATHS and held is None:
                hand = self._in_hand[claim.entry_id] = InHand(claim)
                self._write(partial(self._settle, hand, poisoned(claim, time.time())))
            else:
                self._accept([claim])
                hand = self._in_hand.get(claim.entry_id, InHand(claim))
            if claim.deaths and claim.entry_id in self._in_hand:
                hand.ended = Event()
                hand.ended.wait(SUSPECT_S)

    def _accept_some(self, source: Callable[[int], list[Claim]]) -> bool:
        """Fill the free places from `source`; whether there may be more, and room for it."""
        count = min(self._limit + self._enough - len(self._in_hand), TAKE_MAX)
        if count <= 0 or self._draining:
            return False
        claims = source(count)
        self._accept(claims)
        return len(claims) == count

    def _accept(self, claims: Sequence[Claim]) -> None:
        for claim in claims:
            held = self._in_hand.get(claim.entry_id)
            if held is None:
                self._deliver(claim)
            else:
                held.claim = claim
                held.lost = False

    # -- delivering ----------------------------------------------------------------------------------------------------

    def _deliver(self, claim: Claim) -> None:
        hand = InHand(claim)
        self._in_hand[claim.entry_id] = hand
        whom = unsettled(claim.envelope.rcpt_to, claim.settled)
        for transport, recipients in self._routing.split(claim.envelope, whom):
            if transport is None:
                for recipient in recipients:
                    text = f"4.3.5 No route for {domain_of(recipient) or recipient}"
                    hand.results[recipient] = Result(Outcome("deferred", 451, text), "")
                continue
            hand.pending += 1
            body = partial(self._body, hand)
            may_finish = partial(self._may_finish, hand)
            report, divided = partial(self._reported, hand, transport.name), partial(self._divided, hand)
            transport.deliver(Attempt(claim.envelope, recipients, body, may_finish, report, divided))
        self._back(hand)

    def _body(self, hand: InHand) -> Iterable[bytes]:
        return self._queue.body(hand.claim)

    def _may_finish(self, hand: InHand) -> bool:
        """Whether the message is surely ours, and for long enough to send it off."""
        return not hand.lost and hand.claim.expires_at - time.monotonic() > self._margin_s

    def _divided(self, hand: InHand) -> None:
        """A transport makes two attempts of one."""
        hand.pending += 1

    def _reported(
        self, hand: InHand, transport: str, attempt: Attempt, outcomes: Sequence[Outcome] | None, next_hop: str
    ) -> None:
        """A transport is done with its part."""
        if outcomes is None:
            outcomes = [Outcome("deferred", 451, "4.3.0 Not sent: the claim on the message was in doubt")]
            outcomes *= len(attempt.recipients)
        for recipient, outcome in zip(attempt.recipients, outcomes, strict=True):
            hand.results[recipient] = Result(outcome, next_hop, transport)
        if hand.pending > 1 and any(outcome.kind == "delivered" for outcome in outcomes):
            hand.pending += 1
            self._write(partial(self._record, hand))
        self._back(hand)

    def _back(self, hand: InHand) -> None:
        hand.pending -= 1
        if hand.pending:
            return
        if hand.lost:
            self._forget(hand)
        else:
            self._write(partial(self._settle, hand))

    # -- writing -------------------------------------------------------------------------------------------------------

    def _write(self, work: Callable[[], None]) -> None:
        """Let a settler do it. They wait for the store together, so what they write travels together."""
        self._work.append(work)
        if self._settlers < SETTLERS:
            self._settlers += 1
            gevent.spawn(self._write_all)

    def _write_all(self) -> None:
        while self._work:
            try:
                self._work.popleft()()
            except Exception as error:  # noqa: BLE001 - the claim stays ours, which doubles nothing; somebody has to look
                self._events.fault(error, "relay")
        self._settlers -= 1

    def _record(self, hand: InHand) -> None:
        """While other attempts go on: who has the message already, should we die.

        All who have it, each time: several of these may be on their way at once, and the last one stays.
        """
        at = round(time.time(), 3)
        done = {who: recorded(result, at) for who, result in hand.results.items() if result.outcome.kind == "delivered"}
        try:
            if not self._queue.progress(hand.claim, done):
                hand.lost = True
        except StoreError:
            pass  # settling says it all again
        finally:
            self._back(hand)

    def _settle(self, hand: InHand, settlement: Settlement | None = None) -> None:
        """Write what came of an attempt; `settlement`: what was decided without one."""
        now = time.time()
        if settlement is None:
            settlement = self._reports.conclude(hand.claim, hand.results, now, self._dice)
        written: list[Report] | None = None
        unknown = False
        pause_s = 0.0
        while True:
            try:
                if written is None:
                    written = self._reports.write(hand.claim, settlement, now, partial(self._body, hand))
                done = self._queue.settle(
                    hand.claim,
                    settlement.outcomes,
                    settlement.due_at,
                    settlement.dead,
                    reports=written,
                    dealt_with=settlement.dealt_with,
                    warned=settlement.warned,
                )
                break
            except StoreError as error:
                unknown = unknown or isinstance(error, StoreUnknown)
                self._unwritten += 0 if pause_s else 1
                pause_s = min(max(2 * pause_s, PAUSE_FIRST_S), PAUSE_LAST_S)
                gevent.sleep(pause_s)
        self._unwritten -= 1 if pause_s else 0
        self._forget(hand)
        if done or unknown:
            self._events.settled(_summary(hand, settlement))

    def _forget(self, hand: InHand) -> None:
        del self._in_hand[hand.claim.entry_id]
        if hand.ended is not None:
            hand.ended.set()
        if self._limit - len(self._in_hand) >= self._enough:
            self._freed.set()

    # -- holding -------------------------------------------------------------------------------------------------------

    def _renew(self) -> None:
        """Keep what takes long. While the store is away nothing is renewed, and `_may_finish` sees leases get old."""
        gevent.sleep(self._look_s)
        soon_at = time.monotonic() + self._queue.lease_s * 2 / 3
        aging = [hand for hand in self._in_hand.values() if hand.claim.expires_at < soon_at and not hand.lost]
        for start in range(0, len(aging), TAKE_MAX):
            hands = aging[start : start + TAKE_MAX]
            lost = {id(claim) for claim in self._queue.renew([hand.claim for hand in hands])}
            for hand in hands:
                hand.lost = hand.lost or id(hand.claim) in lost


def _summary(hand: InHand, settlement: Settlement) -> dict[str, Any]:
    """The fields of the log line: one for a message and attempt."""
    claim = hand.claim
    envelope = claim.envelope
    summary: dict[str, Any] = {
        "id": claim.id,
        "outcome": settlement.fate,
        "mail_from": envelope.mail_from,
        "recipients": list(settlement.outcomes),
        "next_hop": ",".join(dict.fromkeys(result.next_hop for result in hand.results.values())),
        "attempt": claim.attempts + 1,
        "age_s": round(time.time() - envelope.received_at, 3),
        "reply": "",
    }
    for kept in settlement.outcomes.values():
        if kept["outcome"] != "delivered" or not summary["reply"]:
            summary["reply"] = f"{kept['code']} {kept['text']}"
    if settlement.told:
        summary["reports"] = list(settlement.told)
    if settlement.due_at is not None:
        summary["due_in_s"] = round(settlement.due_at - time.time(), 1)
    return summary
