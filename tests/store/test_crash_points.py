"""S7 and docs/queue.md: at whatever point something dies, freezes or is cut off, no message is lost, none is stuck."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

import gevent
import pytest

from mta_front.store.entry import Entry
from mta_front.store.errors import StoreError, StoreUnknown
from mta_front.store.queue import Claim, Queue
from mta_front.store.settling import Report
from mta_front.store.spool import Spool
from tests.store.middle import Middle
from tests.store.parts import (
    DEFERRED,
    DELIVERED,
    FAILED,
    RECIPIENT,
    a_body,
    claims_of,
    fields_of,
    put,
    repeat,
    taken,
    until,
)
from tests.stores import Store

EMPTY = {"mta:{0}:layout", "mta:{0}:queue"}
QUEUE = "mta:{0}:queue"


def reclaimed(queue: Queue, count: int = 1) -> list[Claim]:
    """What it takes over, when the time has come."""
    return claims_of(queue.reclaim, count)


def test_a_relay_that_died_between_reading_and_leasing(
    store: Store, spool: Spool, make_queue: Callable[..., Queue]
) -> None:
    ids = [put(spool) for _ in range(3)]
    queue = make_queue(store, lease_s=0.3)
    store.ask("XREADGROUP", "GROUP", "relay", "dead-relay", "COUNT", 2, "STREAMS", QUEUE, ">")
    rest = taken(queue)
    assert [claim.id for claim in rest] == ids[2:]
    assert queue.settle(rest[0], DELIVERED, None)
    began = time.monotonic()
    claims = reclaimed(queue, 2)
    assert [claim.id for claim in claims] == ids[:2]
    assert time.monotonic() - began > 0.2, "it might only be slow"
    for claim in claims:
        assert queue.settle(claim, DELIVERED, None)


def test_many_that_were_never_leased_are_found_behind_many_that_are(
    store: Store, spool: Spool, make_queue: Callable[..., Queue]
) -> None:
    for _ in range(150):
        put(spool, b"x")
    living, queue = make_queue(store, "relay-1", lease_s=60), make_queue(store, "relay-2", lease_s=0.3)
    held = living.take(120, 100)
    store.ask("XREADGROUP", "GROUP", "relay", "dead-relay", "COUNT", 30, "STREAMS", QUEUE, ">")
    claims = reclaimed(queue, 30)
    assert {claim.entry_id for claim in claims}.isdisjoint(claim.entry_id for claim in held)
    assert living.renew(held) == []


def test_a_relay_that_died_with_a_lease(store: Store, spool: Spool, make_queue: Callable[..., Queue]) -> None:
    body = a_body(100_000)
    put(spool, body, rcpt_to=["a@x", "b@x"])
    dying, queue = make_queue(store, "relay-1", lease_s=0.3), make_queue(store, "relay-2", lease_s=0.3)
    claim = taken(dying)[0]
    assert dying.progress(claim, {"a@x": {"outcome": "delivered"}})
    dying.close()
    heir = reclaimed(queue)[0]
    assert (heir.id, heir.settled, heir.attempts) == (claim.id, {"a@x": "delivered"}, 0)
    assert b"".join(queue.body(heir)) == body
    assert queue.settle(heir, {"b@x": {"outcome": "delivered"}}, None)
    assert store.keys() == EMPTY


def test_a_lease_that_is_renewed_is_not_taken_over(
    store: Store, spool: Spool, make_queue: Callable[..., Queue]
) -> None:
    put(spool)
    slow, queue = make_queue(store, "relay-1", lease_s=0.3), make_queue(store, "relay-2", lease_s=0.3)
    claim = taken(slow)[0]
    began = time.monotonic()
    while time.monotonic() - began < 1.0:
        before = claim.expires_at
        assert slow.renew([claim]) == []
        assert claim.expires_at >= before
        assert queue.reclaim(10) == []
        gevent.sleep(0.1)
    assert slow.settle(claim, DELIVERED, None)


def test_a_claim_knows_until_when_it_surely_holds(store: Store, spool: Spool, make_queue: Callable[..., Queue]) -> None:
    put(spool)
    holder, queue = make_queue(store, "relay-1", lease_s=0.5), make_queue(store, "relay-2", lease_s=0.5)
    claim = taken(holder)[0]
    reclaimed(queue)
    assert time.monotonic() >= claim.expires_at


@pytest.mark.parametrize("large", [False, True])
def test_a_settlement_whose_answer_was_lost_may_be_repeated(
    large: bool, store: Store, spool: Spool, make_queue: Callable[..., Queue]
) -> None:
    put(spool, a_body(100_000 if large else 100))
    with Middle(store) as middle:
        queue = make_queue(store, url=middle.url)
        claim = taken(queue)[0]
        middle.cut_after = lambda piece: claim.entry_id.encode() in piece
        with pytest.raises(StoreUnknown):
            queue.settle(claim, DEFERRED, time.time() + 0.5)
        middle.cut_after = lambda piece: False
        assert queue.settle(claim, DEFERRED, time.time() + 60), "it was done, as it said first"
        again = claims_of(queue.due)[0]
        assert again.attempts == 1
        middle.cut_after = lambda piece: claim.entry_id.encode() in piece
        with pytest.raises(StoreUnknown):
            queue.settle(again, DELIVERED, None)
        middle.cut_after = lambda piece: False
        until(lambda: queue._relay.up_since)
        assert not queue.settle(again, DELIVERED, None), "no longer ours: it had been done"
    assert store.keys() == EMPTY


def a_report(number: int) -> Report:
    entry = Entry(id=f"report{number}", received_at=time.time(), rcpt_to=["sender@example.org"], size_bytes=2)
    return Report(entry, b"\r\n")


@pytest.mark.parametrize("large", [False, True])
def test_a_report_is_there_once_however_often_its_settlement_is_said(
    large: bool, store: Store, spool: Spool, make_queue: Callable[..., Queue]
) -> None:
    put(spool, a_body(100_000 if large else 100), rcpt_to=["a@x", "b@x"])
    first = {"a@x": FAILED[RECIPIENT], "b@x": DEFERRED[RECIPIENT]}
    dead = [{"recipient": "a@x", "text": "no"}]
    with Middle(store) as middle:
        queue = make_queue(store, url=middle.url)

        def lost(claim: Claim, *args: Any, **added: Any) -> bool:
            middle.cut_after = lambda piece: claim.entry_id.encode() in piece
            with pytest.raises(StoreUnknown):
                queue.settle(claim, *args, **added)
            middle.cut_after = lambda piece: False
            until(lambda: queue._relay.up_since)
            return queue.settle(claim, *args, **added)

        claim = taken(queue)[0]
        now = time.time()
        assert lost(claim, first, now, dead, reports=[a_report(1)], dealt_with=["a@x"], warned=True)
        again = claims_of(queue.due)[0]
        assert (again.dealt_with, again.warned, again.settled) == (["a@x"], True, {"a@x": "failed"})
        assert not lost(again, {"b@x": FAILED[RECIPIENT]}, None, reports=[a_report(2), a_report(3)])
        assert [one.id for one in taken(queue, 3)] == ["report1", "report2", "report3"]
        assert queue.counts()["dead"] == 1
        (letter,) = store.ask("XRANGE", "mta:{0}:dead", "-", "+")
        letter_id = fields_of(letter[1])["id"].decode()
        bodies = {name for name in store.keys() if ":body:" in name}  # noqa: SIM118
        assert bodies == ({f"mta:{{0}}:body:{letter_id}"} if large else set())


def test_an_answer_with_new_messages_that_was_lost_is_recovered_at_once(
    store: Store, spool: Spool, make_queue: Callable[..., Queue]
) -> None:
    with Middle(store) as middle:
        queue = make_queue(store, url=middle.url)  # leases of 60 s: nobody waits for those here
        in_hand = {put(spool)}
        held = taken(queue)
        ids = [put(spool) for _ in range(3)]
        middle.cut_after = lambda piece: b"XREADGROUP" in piece
        with pytest.raises(StoreUnknown):
            queue.take(10, 100)
        middle.cut_after = lambda piece: False
        claims = taken(queue, 3)
        assert [claim.id for claim in claims] == ids
        assert in_hand == {claim.id for claim in held}
        for claim in (*held, *claims):
            assert queue.settle(claim, DELIVERED, None)
    assert store.keys() == EMPTY


def test_messages_whose_lease_was_not_answered_are_asked_for_again(
    store: Store, spool: Spool, make_queue: Callable[..., Queue]
) -> None:
    ids = [put(spool) for _ in range(3)]
    with Middle(store) as middle:
        queue = make_queue(store, url=middle.url)
        middle.cut_before = lambda piece: b"EVALSHA" in piece
        with pytest.raises(StoreError):
            repeat(queue.take, 10, 100)
        middle.cut_before = lambda piece: False
        until(lambda: queue._relay.up_since)
        claims = taken(queue, 3)
        assert [claim.id for claim in claims] == ids
        for claim in claims:
            assert queue.settle(claim, DELIVERED, None)


def test_messages_asked_for_again_are_left_to_who_took_them_over(
    store: Store, spool: Spool, make_queue: Callable[..., Queue]
) -> None:
    """Also if that is this very relay, which then has them under another fence."""
    put(spool)
    queue = make_queue(store, lease_s=0.3)
    read = store.ask("XREADGROUP", "GROUP", "relay", "relay-1", "COUNT", 1, "STREAMS", QUEUE, ">")[0][1]
    claim = reclaimed(queue)[0]
    queue._unleased = read  # as after an answer that was lost
    assert queue.take(10, 10) == []
    assert queue.settle(claim, DELIVERED, None)


def test_an_outage_longer_than_a_lease_makes_nobody_look_dead(
    store: Store, spool: Spool, make_queue: Callable[..., Queue]
) -> None:
    """Both relays live; the store is away for three leases. The holder keeps its message, since it renews in time."""
    put(spool)
    holder, other = make_queue(store, "relay-1", lease_s=0.6), make_queue(store, "relay-2", lease_s=0.6)
    claim = taken(holder)[0]
    store.kill_now()
    stolen: list[Claim] = []
    lost: list[Claim] = []

    def housekeep() -> None:
        while True:
            with contextlib.suppress(StoreError):
                stolen.extend(other.reclaim(10))
            gevent.sleep(0.01)

    def renew() -> None:
        while True:
            with contextlib.suppress(StoreError):
                lost.extend(holder.renew([claim]))
            gevent.sleep(0.1)

    greenlets = [gevent.spawn(housekeep), gevent.spawn(renew)]
    gevent.sleep(1.4)
    store.start()
    until(lambda: other._relay.up_since)
    gevent.sleep(1.0)
    gevent.killall(greenlets)
    assert (stolen, lost) == ([], [])
    assert holder.settle(claim, DELIVERED, None)


def test_a_dead_relays_work_is_taken_over_one_lease_after_an_outage(
    store: Store, spool: Spool, make_queue: Callable[..., Queue]
) -> None:
    put(spool)
    dying, queue = make_queue(store, "relay-1", lease_s=0.5), make_queue(store, "relay-2", lease_s=0.5)
    taken(dying)
    dying.close()
    killed = time.monotonic()
    store.kill_now()
    store.start()
    until(lambda: queue._relay.up_since > killed)
    reclaimed(queue)
    assert time.monotonic() - queue._relay.up_since >= 0.5


def test_a_frozen_store_does_not_take_over_late(store: Store, spool: Spool, make_queue: Callable[..., Queue]) -> None:
    """A reclaim that was sent to a frozen store would find every lease expired when it runs at last."""
    put(spool)
    holder = make_queue(store, "relay-1", lease_s=0.5, timeout_ms=300)
    other = make_queue(store, "relay-2", lease_s=0.5, timeout_ms=300)
    claim = taken(holder)[0]
    began = time.monotonic()
    while time.monotonic() - began < 0.8:
        assert holder.renew([claim]) == []
        assert other.reclaim(10) == []
        gevent.sleep(0.05)
    store.stop()
    with pytest.raises(StoreUnknown):
        other.reclaim(10)
    gevent.sleep(0.6)
    store.go_on()
    until(lambda: holder._relay.up_since)
    assert holder.renew([claim]) == []
    assert holder.settle(claim, DELIVERED, None)


def test_a_store_restarted_from_its_file_has_everything(
    store: Store, spool: Spool, make_queue: Callable[..., Queue]
) -> None:
    queue = make_queue(store, lease_s=0.5)
    for number in range(4):
        put(spool, a_body(100_000 if number % 2 else 100))
    claims = taken(queue, 4)
    assert queue.settle(claims[0], DEFERRED, time.time())
    assert queue.settle(claims[1], DELIVERED, None)
    before = state_of(store)
    for rewritten in (False, True):
        if rewritten:
            store.ask("BGREWRITEAOF")
            until(lambda: b"aof_rewrite_in_progress:0" in store.ask("INFO", "persistence"))
        killed = time.monotonic()
        store.kill_now()
        store.start()
        assert state_of(store) == before
    until(lambda: min(queue._relay.up_since, queue._arrivals.up_since) > killed)
    assert queue.settle(claims[2], DELIVERED, None), "the fence survived"
    for claim in [*reclaimed(queue), *claims_of(queue.due)]:
        assert queue.settle(claim, DELIVERED, None)
    assert store.keys() == EMPTY


def state_of(store: Store) -> list[object]:
    """Entries, who holds them by which fence, leases, what is deferred."""
    pending = store.ask("XPENDING", QUEUE, "relay", "-", "+", 1000)
    return [
        store.ask("XRANGE", QUEUE, "-", "+"),
        [(entry, consumer, fence) for entry, consumer, _, fence in pending],
        store.ask("ZRANGE", "mta:{0}:lease", 0, -1, "WITHSCORES"),
        store.ask("ZRANGE", "mta:{0}:later", 0, -1, "WITHSCORES"),
        sorted(store.keys()),
    ]


def test_an_entry_whose_consumer_was_deleted_by_hand_is_not_stranded(
    store: Store, spool: Spool, make_queue: Callable[..., Queue]
) -> None:
    queue = make_queue(store, lease_s=0.3)
    message_id = put(spool)
    taken(queue)
    store.ask("XGROUP", "DELCONSUMER", QUEUE, "relay", "relay-1")
    claim = reclaimed(queue)[0]
    assert claim.id == message_id
    assert queue.settle(claim, DELIVERED, None)


def test_consumers_that_are_gone_are_forgotten_only_when_they_hold_nothing(
    store: Store, spool: Spool, make_queue: Callable[..., Queue]
) -> None:
    def consumers() -> set[str]:
        return {flat[1].decode() for flat in store.ask("XINFO", "CONSUMERS", QUEUE, "relay")}

    put(spool)
    queue = make_queue(store, lease_s=0.1)
    store.ask("XREADGROUP", "GROUP", "relay", "holds-one", "COUNT", 1, "STREAMS", QUEUE, ">")
    store.ask("XGROUP", "CREATECONSUMER", QUEUE, "relay", "holds-none")
    assert consumers() == {"holds-one", "holds-none"}
    queue.take(10, 10)
    until(lambda: queue.take(10, 10) == [] and queue.reclaim(0) == [] and "holds-none" not in consumers())
    assert "holds-one" in consumers(), "it holds a message"
    claim = reclaimed(queue)[0]
    assert queue.settle(claim, DELIVERED, None)
    until(lambda: queue.take(10, 10) == [] and queue.reclaim(0) == [] and "holds-one" not in consumers())
    queue.leave()
    assert consumers() == set()


def test_nothing_is_ever_trimmed(store: Store, spool: Spool, make_queue: Callable[..., Queue]) -> None:
    for _ in range(300):
        put(spool, b"x")
    queue = make_queue(store)
    for claim in taken(queue, 300)[10:]:
        assert queue.settle(claim, DELIVERED, None)
    assert store.ask("XLEN", QUEUE) == 10
    texts = store.ask("INFO", "commandstats").decode()
    assert "cmdstat_xtrim" not in texts
