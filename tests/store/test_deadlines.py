"""S3: three outcomes. A hand-over is stored, refused or unknown; one that runs late does nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import gevent
import pytest

from mta_front.store import scripts
from mta_front.store.client import Call
from mta_front.store.errors import StoreError, StoreRefused, StoreUnknown
from mta_front.store.queue import Queue
from mta_front.store.spool import Spool
from tests.store.middle import Middle
from tests.store.parts import Recorder, a_body, put, taken, until
from tests.stores import Store

QUEUE = "mta:{0}:queue"


def outcome(work: Callable[..., Any], *args: Any) -> Any:
    """What it returns, or its `StoreError`."""
    try:
        return work(*args)
    except StoreError as error:
        return error


def frozen_commits(store: Store, spool: Spool, count: int) -> list[Any]:
    """Hand messages to a frozen store, until all have their outcome; the store stays frozen."""
    store.stop()
    greenlets = [gevent.spawn(outcome, put, spool) for _ in range(count)]
    gevent.joinall(greenlets, timeout=5)
    return [each.value for each in greenlets]


def test_what_a_frozen_store_was_sent_does_nothing_when_it_wakes_late(
    store: Store, make_spool: Callable[..., Spool]
) -> None:
    spool = make_spool(store, timeout_ms=300)
    outcomes = frozen_commits(store, spool, 10)
    assert {type(each) for each in outcomes} == {StoreUnknown}
    store.go_on()
    until(lambda: spool.fault is None)
    calls = store.ask("INFO", "commandstats").decode()
    assert "cmdstat_evalsha:calls=10," in calls, "the store did execute what was sent, when it woke"
    assert store.ask("XLEN", QUEUE) == 0, "but each script saw that it was late"
    assert store.keys() == {"mta:{0}:layout"}


def test_without_its_deadline_such_a_script_would_store_what_was_answered_451(
    store: Store, make_spool: Callable[..., Spool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The counter-proof: the test above sees the effect it denies."""
    spool = make_spool(store, timeout_ms=300)
    plain = scripts.hand_over

    def undated(*args: Any) -> Call:
        call = plain(*args)
        call.args[call.late] = 2**53 - 1
        call.late = 0
        return call

    monkeypatch.setattr(scripts, "hand_over", undated)
    frozen_commits(store, spool, 10)
    store.go_on()
    until(lambda: spool.fault is None)
    assert store.ask("XLEN", QUEUE) == 10


def test_a_store_that_wakes_in_time_stores(store: Store, make_spool: Callable[..., Spool]) -> None:
    spool = make_spool(store, timeout_ms=3000)
    store.stop()
    greenlets = [gevent.spawn(put, spool) for _ in range(10)]
    gevent.sleep(0.3)
    store.go_on()
    ids = {each.get(timeout=2) for each in greenlets}
    assert len(ids) == store.ask("XLEN", QUEUE) == 10


def test_an_answer_that_is_lost_is_unknown_though_it_was_stored(
    store: Store, make_spool: Callable[..., Spool], make_queue: Callable[..., Queue]
) -> None:
    large = a_body(300_000)
    with Middle(store) as middle:
        spool = make_spool(store, url=middle.url)
        middle.cut_after = lambda piece: b"mta:{0}:queue" in piece
        assert isinstance(outcome(put, spool, b"small"), StoreUnknown)
        assert isinstance(outcome(put, spool, large), StoreUnknown)
        gevent.sleep(0.05)
    queue = make_queue(store)
    claims = taken(queue, 2)
    assert claims[0].body == b"small"
    assert b"".join(queue.body(claims[1])) == large, "its body must stay, since it may have been stored, and was"
    assert store.ask("PTTL", f"mta:{{0}}:body:{claims[1].id}") == -1


def test_a_connection_cut_before_the_request_left_stores_nothing(
    store: Store, make_spool: Callable[..., Spool]
) -> None:
    with Middle(store) as middle:
        spool = make_spool(store, url=middle.url)
        middle.cut_before = lambda piece: b"Subject" in piece
        assert isinstance(outcome(put, spool), StoreUnknown), "we cannot know that"
    assert store.ask("XLEN", QUEUE) == 0


def test_the_deadline_is_on_the_stores_clock(store: Store, make_spool: Callable[..., Spool]) -> None:
    """Our own wall clock may be wrong by hours: only the store's counts, learnt at each connection."""
    spool = make_spool(store)
    link = spool.links(0).commits[0]
    node = until(lambda: link._node)
    assert node is not None
    before_us = _store_clock_us(store)
    deadline = time.monotonic() + 1.0
    on_store_us = int(deadline * 1_000_000) + node.clock_offset_us
    after_us = _store_clock_us(store)
    assert before_us + 900_000 < on_store_us <= after_us + 1_000_000, "never later than our own patience"


def test_a_store_whose_clock_was_set_is_believed_again(
    store: Store, make_spool: Callable[..., Spool], events: Recorder
) -> None:
    spool = make_spool(store)
    for link in spool.links(0).commits:
        node = until(lambda: link._node)  # noqa: B023
        assert node is not None
        node.clock_offset_us -= 3_600_000_000  # as if it had been set forward by an hour since we asked
    assert isinstance(outcome(put, spool), StoreRefused)
    until(lambda: not isinstance(outcome(put, spool), StoreError), 1.0)


def test_a_late_script_says_so_itself(store: Store, spool: Spool) -> None:
    link = spool.links(0).commits[0]
    keys = spool.keys[0]
    call = scripts.hand_over(keys, "ID", b"{}", b"body")
    late, call.late = call.late, 0
    call.args[late] = _store_clock_us(store) - 1
    assert link.call(call) == scripts.TOO_LATE
    call = scripts.open_body(keys.body("ID"), 1000, [b"x"], lambda call: None)
    late, call.late = call.late, 0
    call.args[late] = _store_clock_us(store) - 1
    assert spool.links(0).bodies.call(call) == scripts.TOO_LATE
    assert store.keys() == {"mta:{0}:layout"}


def _store_clock_us(store: Store) -> int:
    seconds, microseconds = store.ask("TIME")
    return int(seconds) * 1_000_000 + int(microseconds)


def test_hand_overs_go_round_a_connection_that_is_slow_or_gone(
    store: Store, make_spool: Callable[..., Spool], events: Recorder
) -> None:
    with Middle(store) as middle:
        spool = make_spool(store, url=middle.url)
        first, second = spool.links(0).commits
        middle.hold_after = lambda piece: b"slow" in piece
        waiting = gevent.spawn(outcome, put, spool, b"slow")
        until(lambda: first.busy_since)
        gevent.sleep(0.02)
        put(spool, b"quick")
        assert not waiting.ready()
        first.close()
        assert isinstance(waiting.get(timeout=1), StoreUnknown)
        put(spool, b"after")
        assert second.up_since
    assert store.ask("XLEN", QUEUE) == 3
