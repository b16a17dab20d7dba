"""The relay's side: a message is in one hand at a time, and leaves the queue only when every recipient is settled."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import gevent
import pytest

from mta_front.store import claim as claim_module
from mta_front.store.errors import StoreBodyGone
from mta_front.store.queue import Queue
from mta_front.store.spool import Spool
from tests.store.parts import (
    DEFERRED,
    DELIVERED,
    FAILED,
    RECIPIENT,
    a_body,
    claims_of,
    fields_of,
    put,
    taken,
    until,
)
from tests.stores import Store

EMPTY = {"mta:{0}:layout", "mta:{0}:queue"}
BODIES = [b"small", a_body(200_000)]


@pytest.mark.parametrize("body", BODIES, ids=["small", "large"])
def test_a_delivered_message_leaves_nothing(body: bytes, store: Store, spool: Spool, queue: Queue) -> None:
    message_id = put(spool, body)
    claim = taken(queue)[0]
    assert claim.id == message_id
    assert claim.envelope.mail_from == "sender@example.org"
    assert (claim.attempts, claim.settled, claim.history, claim.first_at) == (0, {}, [], 0.0)
    assert queue.counts() | {"oldest_age_s": 0} == {
        "length": 1, "later": 0, "leased": 1, "dead": 0, "oldest_age_s": 0,
    }  # fmt: skip
    assert queue.settle(claim, DELIVERED, None)
    assert store.keys() == EMPTY
    assert queue.counts() == {"length": 0, "later": 0, "leased": 0, "dead": 0, "oldest_age_s": 0.0}
    assert store.ask("XINFO", "GROUPS", "mta:{0}:queue")[0][5] == 0, "nothing is pending"


def test_new_messages_come_in_order_and_once(
    spool: Spool, queue: Queue, make_queue: Callable[..., Queue], store: Store
) -> None:
    ids = [put(spool) for _ in range(7)]
    first = queue.take(3, 100)
    other = make_queue(store, "relay-2").take(100, 100)
    assert [claim.id for claim in (*first, *other)] == ids
    assert queue.take(10, 1) == []


def test_take_waits_for_the_first_message(spool: Spool, queue: Queue) -> None:
    began = time.monotonic()
    assert queue.take(10, 100) == []
    assert 0.09 < time.monotonic() - began < 0.5
    asked = gevent.spawn(queue.take, 10, 5000)
    gevent.sleep(0.05)
    put(spool)
    assert len(asked.get(timeout=0.5)) == 1
    assert queue.take(10, 0) == [], "0 does not wait for ever"


def test_what_came_before_the_first_relay_is_delivered(
    store: Store, spool: Spool, make_queue: Callable[..., Queue]
) -> None:
    ids = [put(spool) for _ in range(3)]
    assert [claim.id for claim in taken(make_queue(store), 3)] == ids


@pytest.mark.parametrize("body", BODIES, ids=["small", "large"])
def test_a_deferred_message_comes_back_when_it_is_due(body: bytes, store: Store, spool: Spool, queue: Queue) -> None:
    put(spool, body)
    claim = taken(queue)[0]
    due_at = time.time() + 0.3
    assert queue.settle(claim, DEFERRED, due_at)
    assert queue.counts()["later"] == 1
    assert queue.counts()["leased"] == 0
    assert queue.due(10) == []
    assert queue.take(10, 1) == []
    again = claims_of(queue.due)[0]
    assert time.time() >= due_at - 0.001
    assert (again.id, again.attempts, again.settled) == (claim.id, 1, {})
    assert again.fence > claim.fence
    assert again.history == [{"recipient": RECIPIENT, **DEFERRED[RECIPIENT]}]
    assert b"".join(queue.body(again)) == body
    assert queue.due(10) == []
    assert queue.settle(again, DEFERRED, time.time())
    third = claims_of(queue.due)[0]
    assert (third.attempts, len(third.history), third.first_at) == (2, 2, again.first_at)
    assert third.fence > again.fence
    assert queue.settle(third, DELIVERED, None)
    assert store.keys() == EMPTY


def test_recipients_are_settled_one_by_one(store: Store, spool: Spool, queue: Queue) -> None:
    put(spool, rcpt_to=["a@x", "b@x", "c@x"])
    claim = taken(queue)[0]
    assert queue.progress(claim, {"a@x": {"outcome": "delivered"}})
    assert claim.settled == {"a@x": "delivered"}
    assert queue.settle(
        claim, {"b@x": {"outcome": "deferred"}, "c@x": {"outcome": "failed", "text": "no"}}, time.time()
    )
    again = claims_of(queue.due)[0]
    assert again.settled == {"a@x": "delivered", "c@x": "failed"}
    assert queue.settle(again, {"b@x": {"outcome": "delivered"}}, None, [{"recipient": "c@x", "text": "no"}])
    assert store.keys() == EMPTY | {"mta:{0}:dead"}
    letter = fields_of(store.ask("XRANGE", "mta:{0}:dead", "-", "+")[0][1])
    assert json.loads(letter["settled"]) == {"a@x": "delivered", "c@x": "failed", "b@x": "delivered"}
    assert [one["recipient"] for one in json.loads(letter["history"])] == ["b@x", "c@x", "b@x"]


@pytest.mark.parametrize("body", BODIES, ids=["small", "large"])
def test_a_failed_message_is_buried_with_its_body_reason_and_history(
    body: bytes, store: Store, spool: Spool, queue: Queue
) -> None:
    message_id = put(spool, body)
    claim = taken(queue)[0]
    assert queue.settle(claim, DEFERRED, time.time())
    claim = claims_of(queue.due)[0]
    dead = [{"recipient": RECIPIENT, **FAILED[RECIPIENT]}]
    assert queue.settle(claim, FAILED, None, dead)
    assert queue.counts() == {"length": 0, "later": 0, "leased": 0, "dead": 1, "oldest_age_s": 0.0}
    letter = fields_of(store.ask("XRANGE", "mta:{0}:dead", "-", "+")[0][1])
    assert letter["id"].decode() == message_id
    assert json.loads(letter["envelope"])["rcpt_to"] == [RECIPIENT]
    assert letter["reason"] == b"5.1.1 unknown"
    assert json.loads(letter["failed"]) == dead
    assert [one["outcome"] for one in json.loads(letter["history"])] == ["deferred", "failed"]
    assert abs(float(letter["died_at"]) - time.time()) < 5
    if len(body) > 100:
        key = f"mta:{{0}}:body:{message_id}"
        assert b"".join(store.ask("LRANGE", key, 0, -1)) == body, "a large body is the dead letter's now"
        assert store.keys() == EMPTY | {"mta:{0}:dead", key}
    else:
        assert letter["body"] == body
        assert store.keys() == EMPTY | {"mta:{0}:dead"}


def test_what_was_recorded_in_between_leaves_with_the_message(store: Store, spool: Spool, queue: Queue) -> None:
    put(spool, rcpt_to=["a@x", "b@x"])
    claim = taken(queue)[0]
    assert queue.progress(claim, {"a@x": {"outcome": "delivered"}})
    assert queue.settle(claim, {"b@x": {"outcome": "delivered"}}, None)
    assert store.keys() == EMPTY


def test_the_history_is_bounded_and_keeps_last_words(
    store: Store, spool: Spool, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claim_module, "HISTORY_BYTES", 1000)
    put(spool, rcpt_to=["a@x", "b@x"])
    claim = taken(queue)[0]
    outcomes: dict[str, Any] = {"a@x": {"outcome": "failed", "text": "first words"}, "b@x": {"outcome": "deferred"}}
    for number in range(30):
        outcomes["b@x"] = {"outcome": "deferred", "text": f"try {number} " + "x" * 80}
        assert queue.settle(claim, outcomes, time.time())
        outcomes.pop("a@x", None)
        claim = claims_of(queue.due)[0]
    assert claim.attempts == 30
    assert claim.history[0]["text"] == "first words"
    assert claim.history[-1]["text"].startswith("try 29 ")
    assert len(json.dumps(claim.history)) < 1200


def test_messages_given_back_are_for_whoever_asks_first(
    store: Store, spool: Spool, queue: Queue, make_queue: Callable[..., Queue]
) -> None:
    put(spool)
    claims = taken(queue)
    queue.give_back(claims)
    other = make_queue(store, "relay-2")
    again = claims_of(other.due)[0]
    assert (again.id, again.attempts, again.history) == (claims[0].id, 0, [])
    queue.give_back(claims)  # no longer ours: changes nothing
    assert queue.due(10) == []
    assert other.settle(again, DELIVERED, None)
    assert store.keys() == EMPTY


def test_counts_tell_the_age_of_the_oldest(spool: Spool, queue: Queue) -> None:
    put(spool)
    gevent.sleep(0.2)
    put(spool)
    counts = queue.counts()
    assert counts["length"] == 2
    assert 0.19 < counts["oldest_age_s"] < 2


# -- two relays -------------------------------------------------------------------------------------------------------


def test_two_relays_race_and_each_message_is_in_one_hand(
    store: Store, spool: Spool, make_queue: Callable[..., Queue]
) -> None:
    ids = {put(spool) for _ in range(60)}
    queues = [make_queue(store, f"relay-{number}") for number in range(3)]
    delivered: list[str] = []
    deferred: set[str] = set()

    def work(queue: Queue) -> None:
        while len(delivered) < len(ids):
            for claim in [*queue.take(5, 10), *queue.due(5)]:
                gevent.sleep(0)
                if claim.id not in deferred:
                    deferred.add(claim.id)
                    assert queue.settle(claim, DEFERRED, time.time())
                else:
                    assert queue.settle(claim, DELIVERED, None)
                    delivered.append(claim.id)

    gevent.joinall([gevent.spawn(work, queue) for queue in queues], timeout=10, raise_error=True)
    assert sorted(delivered) == sorted(ids)
    assert store.keys() == EMPTY


def test_what_was_taken_over_cannot_be_changed_by_its_former_holder(
    store: Store, spool: Spool, make_queue: Callable[..., Queue]
) -> None:
    former, heir = make_queue(store, "relay-1", lease_s=0.2), make_queue(store, "relay-2", lease_s=0.2)
    message_id = put(spool, a_body(100_000))
    old = taken(former)[0]
    new = claims_of(heir.reclaim)[0]
    before = (
        store.ask("XINFO", "STREAM", "mta:{0}:queue", "FULL"),
        store.ask("ZRANGE", "mta:{0}:lease", 0, -1, "WITHSCORES"),
    )
    assert former.renew([old]) == [old]
    assert not former.progress(old, DELIVERED)
    assert not former.settle(old, DELIVERED, None)
    assert not former.settle(old, DEFERRED, time.time())
    assert not former.settle(old, FAILED, None, [{"recipient": RECIPIENT, "text": "no"}])
    former.give_back([old])
    after = (
        store.ask("XINFO", "STREAM", "mta:{0}:queue", "FULL"),
        store.ask("ZRANGE", "mta:{0}:lease", 0, -1, "WITHSCORES"),
    )
    assert before == after
    assert store.keys() == EMPTY | {f"mta:{{0}}:body:{message_id}", "mta:{0}:lease", "mta:{0}:deaths"}
    assert new.deaths == 1
    assert heir.settle(new, DELIVERED, None)
    assert store.keys() == EMPTY


def test_the_fence_holds_against_oneself_too(spool: Spool, queue: Queue) -> None:
    """A settlement whose answer was lost is repeated when the message is in the same relay's hand again."""
    put(spool)
    first = taken(queue)[0]
    assert queue.settle(first, DEFERRED, time.time())
    assert queue.settle(first, DEFERRED, time.time() + 60), "it was done: says so"
    second = claims_of(queue.due)[0]
    assert second.attempts == 1
    assert queue.settle(second, DEFERRED, time.time())
    third = claims_of(queue.due)[0]
    assert not queue.settle(second, DELIVERED, None)
    assert not queue.settle(first, DEFERRED, time.time())
    assert queue.settle(third, DELIVERED, None)
    assert not queue.settle(third, DELIVERED, None), "it is gone"


# -- what cannot be read ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        (["id", "X", "envelope", "{not json", "body", "b"], "Expecting"),
        (["id", "X", "envelope", '{"id":"X"}', "body", "b"], "received_at"),
        (["id", "X", "body", "b"], "no envelope"),
        (["id", "X", "envelope", '{"id":"X","received_at":1,"mail_from":"","rcpt_to":["a@b"]}'], "no body"),
        (["something", "else"], "no envelope"),
    ],
)
def test_an_entry_that_cannot_be_read_is_buried_not_met_again(
    fields: list[str], why: str, store: Store, spool: Spool, queue: Queue
) -> None:
    store.ask("XADD", "mta:{0}:queue", "*", *fields)
    good = put(spool)
    claims = queue.take(10, 100)
    assert [claim.id for claim in claims] == [good]
    assert queue.counts()["dead"] == 1
    letter = fields_of(store.ask("XRANGE", "mta:{0}:dead", "-", "+")[0][1])
    assert why.encode() in letter["reason"]
    assert {name: letter[name] for name in fields[::2]} == {
        name: value.encode() for name, value in zip(fields[::2], fields[1::2], strict=True)
    }
    assert queue.counts()["length"] == 1


@pytest.mark.parametrize("field", ["settled", "history", "attempts"])
def test_a_state_that_cannot_be_read_is_buried(field: str, store: Store, spool: Spool, queue: Queue) -> None:
    message_id = put(spool)
    assert queue.settle(taken(queue)[0], DEFERRED, time.time())
    store.ask("HSET", f"mta:{{0}}:msg:{message_id}", field, "[1")
    until(lambda: queue.due(10) == [] and queue.counts()["dead"])
    assert store.keys() == EMPTY | {"mta:{0}:dead"}


@pytest.mark.parametrize("harm", [("DEL",), ("LTRIM", 0, 1), ("LPOP",), ("LSET", 0, "short")])
def test_a_body_that_is_missing_is_said_and_the_message_can_be_buried(
    harm: tuple[Any, ...], store: Store, spool: Spool, queue: Queue
) -> None:
    message_id = put(spool, a_body(1_000_000))
    store.ask(harm[0], f"mta:{{0}}:body:{message_id}", *harm[1:])
    claim = taken(queue)[0]
    with pytest.raises(StoreBodyGone) as caught:
        list(queue.body(claim))
    assert "gone from the store" in caught.value.reason or harm[0] == "LSET"
    dead = [{"recipient": RECIPIENT, "outcome": "failed", "text": caught.value.reason}]
    assert queue.settle(claim, FAILED, None, dead)
    assert queue.counts()["length"] == 0


def test_an_entry_deleted_by_hand_is_let_go(store: Store, spool: Spool, make_queue: Callable[..., Queue]) -> None:
    queue = make_queue(store, lease_s=0.2)
    for _ in range(2):
        put(spool)
    claims = taken(queue, 2)
    assert queue.settle(claims[0], DEFERRED, time.time())
    for claim in claims:
        store.ask("XDEL", "mta:{0}:queue", claim.entry_id)
    gevent.sleep(0.25)
    assert queue.due(10) == []
    assert queue.reclaim(10) == []
    assert queue.counts() == {"length": 0, "later": 0, "leased": 0, "dead": 0, "oldest_age_s": 0.0}


def test_an_emptied_store_is_taken_as_empty(store: Store, spool: Spool, queue: Queue) -> None:
    put(spool)
    claims = taken(queue)
    store.ask("FLUSHALL")
    assert queue.renew(claims) == claims
    assert not queue.settle(claims[0], DELIVERED, None)
    assert queue.due(10) == []
    store.ask("FLUSHALL")
    assert queue.take(10, 10) == []
    assert put(spool) == taken(queue)[0].id


# -- a full store -----------------------------------------------------------------------------------------------------


def test_the_relay_drains_a_full_store(store: Store, spool: Spool, queue: Queue) -> None:
    for body in (*BODIES, *BODIES, *BODIES):
        put(spool, body)
    waiting = taken(queue, 6)
    assert queue.settle(waiting.pop(), DEFERRED, time.time())
    store.ask("CONFIG", "SET", "maxmemory", "100kb")
    waiting += claims_of(queue.due)
    assert queue.renew(waiting) == []
    assert queue.progress(waiting[0], DELIVERED)
    assert queue.settle(waiting[0], DELIVERED, None)
    assert queue.settle(waiting[1], DEFERRED, time.time() + 60)
    assert queue.settle(waiting[2], FAILED, None, [{"recipient": RECIPIENT, "text": "no"}])
    queue.give_back(waiting[3:4])
    assert queue.settle(waiting[5], DELIVERED, None)
    counts = queue.counts()
    assert (counts["length"], counts["later"], counts["dead"]) == (3, 2, 1)
    store.ask("CONFIG", "SET", "maxmemory", "512mb")
