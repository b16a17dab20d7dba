"""What an operator sees of a queue and does to it, and what the doctor finds and mends."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest

from mta_front.store.doctor import Finding, examine
from mta_front.store.inspection import Letter, QueueInspector, Wanted
from mta_front.store.options import StoreOptions
from mta_front.store.queue import Queue
from mta_front.store.spool import Spool
from tests.store.parts import DEFERRED, DELIVERED, FAILED, RECIPIENT, a_body, claims_of, put, taken, until
from tests.stores import Store

QUEUE, LATER, LEASE, DEAD = (f"mta:{{0}}:{name}" for name in ("queue", "later", "lease", "dead"))
LARGE = a_body(200_000)


@pytest.fixture
def make_inspector() -> Iterator[Callable[..., QueueInspector]]:
    made: list[QueueInspector] = []

    def make(store: Store, **options: Any) -> QueueInspector:
        made.append(QueueInspector(StoreOptions(url=store.url, **options)))
        return made[-1]

    yield make
    for inspector in made:
        inspector.close()


@pytest.fixture
def inspector(store: Store, queue: Queue, make_inspector: Callable[..., QueueInspector]) -> QueueInspector:
    return make_inspector(store)


def only(letters: list[Letter]) -> Letter:
    (letter,) = letters
    return letter


# -- looking -----------------------------------------------------------------------------------------------------------


def test_a_message_in_each_state(spool: Spool, queue: Queue, inspector: QueueInspector) -> None:
    ids = [put(spool, rcpt_to=["a@x", "b@x"]), put(spool, LARGE)]
    first, _ = taken(queue, 2)
    due_at = time.time() + 60
    outcomes: Any = {"a@x": {"outcome": "delivered"}, "b@x": {"outcome": "deferred", "text": "4.2.0 later"}}
    assert queue.settle(first, outcomes, due_at)
    ids.append(put(spool))
    page = inspector.page()
    assert [(letter.id, letter.state) for letter in page.letters] == list(
        zip(ids, ["deferred", "in hand", "waiting"], strict=True)
    )
    assert page.cursor == ""
    deferred = page.letters[0]
    assert (deferred.attempts, deferred.reason, deferred.settled) == (1, "4.2.0 later", {"a@x": "delivered"})
    assert abs(deferred.until - due_at) < 0.01
    assert page.letters[1].size_bytes == 200_000
    assert json.loads(json.dumps(deferred.as_json()))["envelope"]["rcpt_to"] == ["a@x", "b@x"]
    for message_id, letter in zip(ids, page.letters, strict=True):
        assert inspector.find(message_id) == letter
    assert inspector.find("nobody") is None
    assert inspector.header(page.letters[2]) == "Subject: hello\r\n"


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (Wanted(sender="ALICE"), [0]),
        (Wanted(recipient="carol@"), [1, 2]),
        (Wanted(state="deferred"), [2]),
        (Wanted(state="deferred", recipient="nobody"), []),
        (Wanted(older_s=50), [1]),
        (Wanted(next_hop="mx2"), [2]),
    ],
)
def test_filters(wanted: Wanted, expected: list[int], spool: Spool, queue: Queue, inspector: QueueInspector) -> None:
    ids = [
        put(spool, mail_from="alice@x"),
        put(spool, rcpt_to=["b@x", "carol@x"], received_at=time.time() - 100),
        put(spool, rcpt_to=["carol@x"]),
    ]
    last = taken(queue, 3)[2]
    assert queue.settle(last, {"carol@x": {"outcome": "deferred", "next_hop": "mx2:25"}}, time.time() + 60)
    assert [letter.id for letter in inspector.page(wanted).letters] == [ids[number] for number in expected]


def test_pages_go_over_all_shards_and_each_is_met_once(
    store: Store, make_spool: Callable[..., Spool], make_inspector: Callable[..., QueueInspector]
) -> None:
    spool = make_spool(store, shards=3)
    ids = {put(spool, rcpt_to=[f"{number}@x"]) for number in range(50)}
    inspector = make_inspector(store, shards=3)
    for wanted in (Wanted(), Wanted(recipient="@x")):
        met: list[str] = []
        cursor, pages = "", 0
        while pages == 0 or cursor:
            page = inspector.page(wanted, cursor, 7)
            assert len(page.letters) <= 7
            met += [letter.id for letter in page.letters]
            cursor, pages = page.cursor, pages + 1
        assert sorted(met) == sorted(ids)
    assert sum(counts["length"] for counts in inspector.stats()) == 50


@pytest.mark.parametrize("cursor", ["x", "1/-", "0/", "0/5", "0/(5", "-1/-", "0/-; DEL"])
def test_what_is_no_cursor_is_said(cursor: str, inspector: QueueInspector) -> None:
    with pytest.raises(ValueError, match="cursor"):
        inspector.page(cursor=cursor)


def test_an_entry_that_cannot_be_read_is_shown_all_the_same(store: Store, inspector: QueueInspector) -> None:
    store.ask("XADD", QUEUE, "*", "id", "X", "envelope", "{not json", "body", "12345")
    letter = only(inspector.page().letters)
    assert (letter.envelope, letter.size_bytes, letter.id) == (None, 5, "X")


# -- changing ----------------------------------------------------------------------------------------------------------


def test_retry_makes_what_is_deferred_due(spool: Spool, queue: Queue, inspector: QueueInspector) -> None:
    for _ in range(2):
        put(spool)
    for claim in taken(queue, 2):
        assert queue.settle(claim, DEFERRED, time.time() + 3600)
    put(spool)
    assert inspector.retry(inspector.page().letters) == 2
    assert len(claims_of(queue.due, 2)) == 2


@pytest.mark.parametrize("body", [b"small", LARGE], ids=["small", "large"])
@pytest.mark.parametrize("before", ["waiting", "deferred"])
def test_bury_replay_and_drop(
    body: bytes, before: str, store: Store, spool: Spool, queue: Queue, inspector: QueueInspector
) -> None:
    message_id = put(spool, body, rcpt_to=["a@x", "b@x"])
    if before == "deferred":
        outcomes: Any = {"a@x": {"outcome": "delivered"}, "b@x": {"outcome": "deferred"}}
        assert queue.settle(taken(queue)[0], outcomes, time.time() + 60)
    assert inspector.bury(only(inspector.page().letters), "by hand")
    assert inspector.page().letters == []
    letter = only(inspector.page(dead=True).letters)
    assert (letter.id, letter.state, letter.reason) == (message_id, "dead", "by hand")
    assert inspector.find(message_id, dead=True) == letter
    assert inspector.replay(letter)
    assert not inspector.replay(letter), "it is gone"
    claim = taken(queue)[0]
    assert claim.envelope.rcpt_to == (["b@x"] if before == "deferred" else ["a@x", "b@x"])
    assert b"".join(queue.body(claim)) == body
    assert queue.settle(claim, FAILED, None, [{"recipient": "b@x", "text": "no"}])
    assert inspector.drop(only(inspector.page(dead=True).letters))
    assert store.keys() == {"mta:{0}:layout", QUEUE, DEAD}
    assert inspector.stats()[0] | {"oldest_age_s": 0} == {
        "length": 0, "later": 0, "leased": 0, "dead": 0, "oldest_age_s": 0,
    }  # fmt: skip


def test_what_a_relay_has_in_hand_is_left_alone(spool: Spool, queue: Queue, inspector: QueueInspector) -> None:
    put(spool)
    claim = taken(queue)[0]
    letter = only(inspector.page().letters)
    assert not inspector.bury(letter, "by hand")
    assert not inspector.drop(letter)
    assert queue.settle(claim, DELIVERED, None)
    assert not inspector.drop(letter), "it is gone"


@pytest.mark.parametrize("body", [b"small", LARGE], ids=["small", "large"])
def test_drop_leaves_nothing(body: bytes, store: Store, spool: Spool, queue: Queue, inspector: QueueInspector) -> None:
    put(spool, body)
    assert inspector.drop(only(inspector.page().letters))
    assert store.keys() == {"mta:{0}:layout", QUEUE}
    assert queue.take(10, 10) == []


# -- the doctor --------------------------------------------------------------------------------------------------------


def findings(inspector: QueueInspector, mending: bool = False) -> list[tuple[str, str]]:
    return sorted((found.kind, found.what) for found in examine(inspector, mending, stuck_s=0.2))


def test_a_queue_in_use_is_well(spool: Spool, queue: Queue, inspector: QueueInspector) -> None:
    for body in (b"small", LARGE, b"small", LARGE):
        put(spool, body)
    claims = taken(queue, 4)
    assert queue.settle(claims[0], DEFERRED, time.time() + 60)
    assert queue.settle(claims[1], FAILED, None, [{"recipient": RECIPIENT, "text": "no"}])
    put(spool, LARGE)
    unfinished = spool.open("a@x", ["b@x"])
    unfinished.write(LARGE)
    looked_at: list[int] = []
    assert list(examine(inspector, True, progress=looked_at.append)) == []
    assert looked_at[-1] == 4


def test_each_fault_is_found_and_mended(store: Store, spool: Spool, queue: Queue, inspector: QueueInspector) -> None:
    ids = [put(spool) for _ in range(4)]
    lost_id, kept_id = put(spool, LARGE), put(spool, LARGE)
    claims = {claim.id: claim for claim in taken(queue, 6)}
    stranded, stuck, deferred, erased = (claims[one] for one in ids)
    assert queue.settle(deferred, DEFERRED, time.time() + 60)
    # by hand, or by a program that does not know the layout:
    store.ask("XACK", QUEUE, "relay", stranded.entry_id)  # settled, and not deleted
    store.ask("ZREM", LEASE, stranded.entry_id)
    store.ask("ZREM", LEASE, stuck.entry_id)
    store.ask("XDEL", QUEUE, erased.entry_id)
    store.ask("HSET", "mta:{0}:deaths", "1-1", 2)
    store.ask("ZADD", LATER, 1, "1-1")
    store.ask("DEL", f"mta:{{0}}:body:{lost_id}")
    store.ask("RPUSH", "mta:{0}:body:0123456789abcdef", "x")
    store.ask("HSET", "mta:{0}:msg:0123456789abcdef", "attempts", 1)
    gevent.sleep(0.3)
    expected = sorted(
        [
            ("stranded", stranded.entry_id),
            ("stuck", stuck.entry_id),
            ("ghost", erased.entry_id),
            ("ghost", "1-1"),
            ("ghost", "1-1"),
            ("bodiless", lost_id),
            ("orphan", "mta:{0}:body:0123456789abcdef"),
            ("orphan", "mta:{0}:msg:0123456789abcdef"),
        ]
    )
    assert findings(inspector) == expected
    assert findings(inspector) == expected, "looking changes nothing"
    mended = findings(inspector, mending=True)
    assert sorted(set(mended)) == sorted(set(expected))
    assert findings(inspector) == [("bodiless", lost_id)]
    assert [claim.id for claim in claims_of(queue.due)] == [stranded.id]
    assert f"mta:{{0}}:body:{kept_id}" in store.keys()  # noqa: SIM118
    store.ask("SET", "mta:{0}:layout", 99)
    assert Finding(0, "layout", "mta:{0}:layout", False) in list(examine(inspector))


def test_what_was_stuck_is_taken_over(
    store: Store, spool: Spool, make_queue: Callable[..., Queue], make_inspector: Callable[..., QueueInspector]
) -> None:
    make_queue(store)
    put(spool)
    gone = make_queue(store, "gone")
    claim = taken(gone)[0]
    store.ask("ZREM", LEASE, claim.entry_id)
    gevent.sleep(0.3)
    assert findings(make_inspector(store), mending=True) == [("stuck", claim.entry_id)]
    other = make_queue(store, "other", lease_s=0.2)
    until(lambda: time.monotonic() - other._relay.up_since > 0.2)
    assert [one.id for one in claims_of(other.reclaim)] == [claim.id]


def test_the_inspector_leaves_no_consumer(
    store: Store, spool: Spool, queue: Queue, make_inspector: Callable[..., QueueInspector]
) -> None:
    put(spool)
    inspector = make_inspector(store)
    assert inspector.bury(only(inspector.page().letters), "by hand")
    inspector.close()
    consumers = [fields_of_consumer(flat) for flat in store.ask("XINFO", "CONSUMERS", QUEUE, "relay")]
    assert not [name for name in consumers if name.startswith(b"inspector")]


def fields_of_consumer(flat: list[Any]) -> bytes:
    return bytes(dict(zip(flat[::2], flat[1::2], strict=True))[b"name"])


def test_ten_thousand_messages(
    store: Store, spool: Spool, inspector: QueueInspector, figures: Callable[[str], None]
) -> None:
    with store.client() as client:
        pipe = client.pipeline(transaction=False)
        for number in range(10_000):
            envelope = {
                "id": f"{number:016d}",
                "received_at": time.time(),
                "mail_from": "a@x",
                "rcpt_to": [f"{number}@x"],
            }
            pipe.execute_command(
                "XADD", QUEUE, "*", "id", envelope["id"], "envelope", json.dumps(envelope), "body", b"x" * 4096
            )
        pipe.execute()
    began_at = time.monotonic()
    assert len(inspector.page().letters) == 100
    unfiltered_s = time.monotonic() - began_at
    began_at = time.monotonic()
    page = inspector.page(Wanted(recipient="9999@"))
    filtered_s = time.monotonic() - began_at
    assert [letter.id for letter in page.letters] == ["0000000000009999"]
    began_at = time.monotonic()
    inspector.stats()
    stats_s = time.monotonic() - began_at
    figures(f"{store.kind}, 10,000 messages: page {unfiltered_s * 1e3:.0f} ms, "
            f"filtered over all {filtered_s * 1e3:.0f} ms, stats {stats_s * 1e3:.1f} ms")  # fmt: skip
    assert unfiltered_s < 1.0
