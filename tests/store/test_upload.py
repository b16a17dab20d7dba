"""S6, W6: large bodies are one list key, written while they arrive; nothing remains of what was not handed over, and no
session holds more than a little of its body.
"""

from __future__ import annotations

import re
import resource
import tracemalloc
from collections.abc import Callable
from typing import Any

import gevent
import pytest

from mta_front.store.errors import StoreBodyGone, StoreDown, StoreError, StoreFull, StoreRefused
from mta_front.store.queue import Queue
from mta_front.store.spool import Spool
from mta_front.store.upload import SEGMENT_BYTES, WINDOW_BYTES, Upload
from tests.store.middle import Middle
from tests.store.parts import RECIPIENT, SENDER, a_body, an_entry, put, repeat, taken, until
from tests.stores import Store

INLINE = 65_536


def opened(spool: Spool, body: bytes = b"") -> Upload:
    """An upload with this much written."""
    upload = spool.open(SENDER, [RECIPIENT])
    for start in range(0, len(body), 50_000):
        upload.write(body[start : start + 50_000])
    return upload


def body_keys(store: Store) -> list[str]:
    """The bodies in the store."""
    return sorted(filter(re.compile(":body:").search, store.keys()))


def settled_keys(store: Store, spool: Spool) -> set[str]:
    """The keys, once all that was sent was answered."""
    until(lambda: spool.held_bytes == 0)
    gevent.sleep(0.02)
    return store.keys()


@pytest.mark.parametrize("size_bytes", [0, 1, 4096, INLINE])
def test_a_small_body_is_in_the_entry(size_bytes: int, store: Store, spool: Spool, queue: Queue) -> None:
    body = a_body(size_bytes)
    message_id = put(spool, body, piece_bytes=1000, helo="client")
    assert body_keys(store) == []
    claim = taken(queue)[0]
    assert (claim.id, claim.body) == (message_id, body)
    assert (claim.envelope.size_bytes, claim.envelope.segments, claim.envelope.helo) == (size_bytes, 0, "client")
    assert list(queue.body(claim)) == [body]
    assert spool.held_bytes == 0


@pytest.mark.parametrize("piece_bytes", [997, 50_000, SEGMENT_BYTES, SEGMENT_BYTES + 1, 300_000])
@pytest.mark.parametrize("size_bytes", [INLINE + 1, 200_000, 3_000_000])
def test_a_large_body_is_one_key_of_segments(
    size_bytes: int, piece_bytes: int, store: Store, spool: Spool, queue: Queue
) -> None:
    body = a_body(size_bytes)
    message_id = put(spool, body, piece_bytes)
    assert body_keys(store) == [f"mta:{{0}}:body:{message_id}"]
    assert store.ask("PTTL", body_keys(store)[0]) == -1, "the hand-over lifted its expiry"
    claim = taken(queue)[0]
    assert claim.body is None
    segments = list(queue.body(claim))
    assert b"".join(segments) == body
    assert len(segments) == claim.envelope.segments
    assert max(map(len, segments)) <= SEGMENT_BYTES
    assert len(segments) <= 2 * size_bytes / SEGMENT_BYTES + 2, "small writes are put together"
    assert spool.held_bytes == 0


def test_a_setting_says_what_is_large(
    store: Store, make_spool: Callable[..., Spool], make_queue: Callable[..., Queue]
) -> None:
    spool = make_spool(store, inline_max_bytes=0)
    put(spool, b"")
    put(spool, b"x")
    spool = make_spool(store, inline_max_bytes=1_048_576)
    put(spool, a_body(1_048_576))
    put(spool, a_body(1_048_577))
    claims = taken(make_queue(store), 4)
    assert [claim.envelope.segments for claim in claims] == [0, 1, 0, 17]


def test_an_upload_that_is_not_handed_over_expires(store: Store, make_spool: Callable[..., Spool]) -> None:
    spool = make_spool(store, body_expiry_s=60)
    upload = opened(spool, a_body(500_000))
    until(lambda: body_keys(store))
    assert 0 < store.ask("PTTL", upload.key) <= 60_000


def test_a_front_that_dies_leaves_only_what_expires(store: Store, make_spool: Callable[..., Spool]) -> None:
    """Cut after each piece of the conversation in turn: no list without an expiry, whenever it ends."""
    for cut_at in range(1, 12):
        with Middle(store) as middle:
            spool = make_spool(store, url=middle.url)
            seen = 0

            def at_the_cut(piece: bytes, cut_at: int = cut_at) -> bool:
                nonlocal seen
                seen += b":body:" in piece
                return seen >= cut_at

            middle.cut_after = at_the_cut
            with pytest.raises(StoreError):
                repeat(put, spool, a_body(400_000))
            spool.close()
        queued = {fields[1] for _, fields in store.ask("XRANGE", "mta:{0}:queue", "-", "+")}
        for key in body_keys(store):
            assert (store.ask("PTTL", key) == -1) == (key.rpartition(":")[2].encode() in queued)


def test_abort_leaves_nothing(store: Store, spool: Spool) -> None:
    for size_bytes in (0, 1000, 100_000, 5_000_000):
        upload = opened(spool, a_body(size_bytes))
        upload.abort()
        upload.abort()
        with pytest.raises(StoreRefused):
            upload.write(b"x")
        with pytest.raises(StoreRefused):
            upload.commit(an_entry(upload))
    assert settled_keys(store, spool) == {"mta:{0}:layout"}


def test_abort_after_a_hand_over_changes_nothing(store: Store, spool: Spool, queue: Queue) -> None:
    upload = opened(spool, a_body(200_000))
    upload.commit(an_entry(upload))
    upload.abort()
    with pytest.raises(StoreRefused):
        upload.commit(an_entry(upload))
    assert b"".join(queue.body(taken(queue)[0])) == a_body(200_000)


def test_a_body_that_is_gone_is_refused(store: Store, spool: Spool) -> None:
    upload = opened(spool, a_body(300_000))
    until(lambda: body_keys(store))
    store.ask("DEL", upload.key)
    upload.write(b"x" * SEGMENT_BYTES)
    until(lambda: upload._fault)
    assert body_keys(store) == [], "RPUSHX made no headless list, which would never expire"
    with pytest.raises(StoreBodyGone):
        upload.write(b"x" * SEGMENT_BYTES)
    with pytest.raises(StoreRefused):
        upload.commit(an_entry(upload))
    assert settled_keys(store, spool) == {"mta:{0}:layout"}


@pytest.mark.parametrize(
    "harm", [("DEL",), ("RPOP",), ("RPUSH", b"more"), ("LSET", -1, b"short")], ids=["gone", "short", "long", "changed"]
)
def test_the_hand_over_refuses_a_body_that_is_not_what_was_written(
    harm: tuple[Any, ...], store: Store, spool: Spool
) -> None:
    upload = opened(spool, a_body(300_000))
    upload.write(b"x" * 60_000)
    upload.write(b"tail")
    until(lambda: upload._unanswered_bytes == 0 and upload.key)
    commit = upload._spool.hand_over

    def harmed(*args: Any) -> Any:
        store.ask(harm[0], upload.key, *harm[1:])
        return commit(*args)

    upload._spool.hand_over = harmed  # type: ignore[assignment,method-assign]  # between the last answer and the hand-over
    with pytest.raises(StoreBodyGone):
        upload.commit(an_entry(upload))
    assert settled_keys(store, spool) == {"mta:{0}:layout"}


def test_the_expiry_is_renewed_while_the_session_lives(store: Store, make_spool: Callable[..., Spool]) -> None:
    spool = make_spool(store, body_expiry_s=0.5)
    upload = opened(spool, a_body(300_000))
    gevent.sleep(1.2)
    assert 0 < store.ask("PTTL", upload.key) <= 500
    upload.commit(an_entry(upload))
    gevent.sleep(0.3)
    assert store.ask("PTTL", upload.key) == -1


def test_renewing_an_expiry_never_puts_one_on_a_body_that_was_handed_over(
    store: Store, make_spool: Callable[..., Spool]
) -> None:
    """It may be on its way when the hand-over lifts the expiry; the message would lose its body an hour later."""
    with Middle(store) as middle:
        spool = make_spool(store, url=middle.url, body_expiry_s=0.2)
        upload = opened(spool, a_body(300_000))
        upload.commit(an_entry(upload))
        assert store.ask("PTTL", upload.key) == -1
        store.ask("PEXPIRE", upload.key, 200, "XX")
        assert store.ask("PTTL", upload.key) == -1
        spool._uploads[upload.id] = upload  # as if it were not known yet that it has ended
        gevent.sleep(0.3)
        assert store.ask("PTTL", upload.key) == -1


def test_a_renewal_that_finds_nothing_ends_the_upload(store: Store, make_spool: Callable[..., Spool]) -> None:
    spool = make_spool(store, body_expiry_s=0.2)
    upload = opened(spool, a_body(300_000))
    until(lambda: body_keys(store))
    store.ask("DEL", upload.key)
    gevent.sleep(0.15)
    with pytest.raises(StoreBodyGone):
        upload.write(b"x")


def test_a_full_store_takes_neither_small_nor_large_and_nothing_is_left(
    store: Store, spool: Spool, queue: Queue
) -> None:
    half_way = opened(spool, a_body(400_000))
    until(lambda: body_keys(store))
    store.ask("CONFIG", "SET", "maxmemory", "100kb")
    with pytest.raises(StoreFull):
        put(spool)
    with pytest.raises(StoreFull):
        put(spool, a_body(400_000))
    with pytest.raises(StoreFull):
        half_way.commit(an_entry(half_way))
    assert spool.fault is None, "full is not down"
    assert {key for key in settled_keys(store, spool) if "lease" not in key} == {"mta:{0}:layout", "mta:{0}:queue"}
    assert store.ask("XLEN", "mta:{0}:queue") == 0
    store.ask("CONFIG", "SET", "maxmemory", "512mb")
    put(spool, a_body(400_000))
    assert b"".join(queue.body(taken(queue)[0])) == a_body(400_000)


def test_a_store_that_is_lost_in_the_middle_ends_the_upload(store: Store, spool: Spool) -> None:
    upload = opened(spool, a_body(400_000))
    until(lambda: upload._unanswered_bytes == 0)
    store.kill_now()
    with pytest.raises(StoreDown):
        repeat(upload.write, b"x" * SEGMENT_BYTES)
    upload.abort()
    assert spool.held_bytes == 0


def test_an_upload_survives_a_restart_of_the_store_between_two_writes(store: Store, spool: Spool, queue: Queue) -> None:
    body = a_body(400_000)
    upload = opened(spool, body)
    until(lambda: upload._unanswered_bytes == 0)
    store.kill_now()
    store.start()
    until(lambda: spool.fault is None and spool.links(0).bodies.up_since)
    upload.write(body)
    upload.commit(an_entry(upload))
    assert b"".join(queue.body(taken(queue)[0])) == body * 2


def test_at_most_a_window_is_unanswered(store: Store, make_spool: Callable[..., Spool]) -> None:
    spool = make_spool(store, timeout_ms=3000)
    upload = opened(spool, a_body(200_000))
    until(lambda: upload._unanswered_bytes == 0)
    store.stop()
    written = 0

    def write() -> None:
        nonlocal written
        for _ in range(100):
            upload.write(b"x" * 50_000)
            written += 50_000

    writer = gevent.spawn(write)
    gevent.sleep(0.3)
    assert not writer.ready(), "it waits"
    assert WINDOW_BYTES - SEGMENT_BYTES <= written <= WINDOW_BYTES + 2 * SEGMENT_BYTES
    assert spool.held_bytes <= WINDOW_BYTES + 2 * SEGMENT_BYTES
    store.go_on()
    writer.join(3)
    assert written == 5_000_000
    upload.commit(an_entry(upload))


def test_a_frozen_store_holds_a_writer_no_longer_than_the_time_out(
    store: Store, make_spool: Callable[..., Spool]
) -> None:
    spool = make_spool(store, timeout_ms=400)
    upload = opened(spool, a_body(200_000))
    until(lambda: upload._unanswered_bytes == 0)
    store.stop()
    with gevent.Timeout(0.6), pytest.raises(StoreDown):
        repeat(upload.write, b"x" * 50_000)
    assert spool.held_bytes == 0
    store.go_on()
    until(lambda: spool.fault is None)
    assert store.ask("XLEN", "mta:{0}:queue") == 0


def test_a_write_that_was_interrupted_ends_the_upload(store: Store, make_spool: Callable[..., Spool]) -> None:
    """By a `gevent.Timeout` that the user's hook set and swallowed: what it was about to send must not be missing."""
    spool = make_spool(store, timeout_ms=3000)
    upload = opened(spool, a_body(200_000))
    until(lambda: upload._unanswered_bytes == 0)
    store.stop()
    with gevent.Timeout(0.2, False):
        repeat(upload.write, b"x" * 50_000)
    store.go_on()
    with pytest.raises(StoreRefused):
        upload.commit(an_entry(upload))
    until(lambda: spool.held_bytes == 0)
    assert store.ask("XLEN", "mta:{0}:queue") == 0
    until(lambda: body_keys(store) == [])


def test_the_budget_is_shared_and_pressure_moves_small_bodies_into_the_store(
    store: Store, make_spool: Callable[..., Spool], make_queue: Callable[..., Queue]
) -> None:
    """Many slow sessions that each hold a little must not lock out the others, nor each other."""
    spool = make_spool(store, budget_bytes=1_000_000)
    slow = [opened(spool, b"x" * 49_000) for _ in range(20)]
    assert spool.held_bytes == 980_000
    put(spool, a_body(200_000))
    assert len(body_keys(store)) == 21, "the slow ones went to the store"
    for upload in slow:
        upload.write(b"y" * 1000)
        upload.commit(an_entry(upload))
    assert spool.held_bytes == 0
    queue = make_queue(store)
    claims = taken(queue, 21)
    assert [b"".join(queue.body(claim)) for claim in claims[1:]] == [b"x" * 49_000 + b"y" * 1000] * 20


def test_a_budget_that_stays_used_up_is_refused_in_time(store: Store, make_spool: Callable[..., Spool]) -> None:
    spool = make_spool(store, budget_bytes=100_000, timeout_ms=300)
    holder = opened(spool, b"x" * 60_000)
    spool.links(0).bodies.fault = StoreDown("for this test")
    upload = opened(spool)
    with gevent.Timeout(0.5), pytest.raises(StoreDown, match="used up"):
        upload.write(b"x" * 60_000)
    spool.links(0).bodies.fault = None
    holder.commit(an_entry(holder))
    assert spool.held_bytes == 0


def test_many_uploads_at_once_under_a_stuttering_store_stay_whole(
    store: Store, make_spool: Callable[..., Spool], make_queue: Callable[..., Queue]
) -> None:
    spool = make_spool(store, budget_bytes=2_000_000)
    bodies = [a_body(size) for size in (10, 70_000, 500_000, 1_500_000, 64_000, 2_000_000, 300, 900_000)]
    peak = 0

    def watch() -> None:
        nonlocal peak
        while True:
            peak = max(peak, spool.held_bytes)
            gevent.sleep(0.001)

    watcher = gevent.spawn(watch)
    puts = [gevent.spawn(put, spool, body, 7_001 + number) for number, body in enumerate(bodies)]
    while not all(each.ready() for each in puts):
        store.stop()
        gevent.sleep(0.05)
        store.go_on()
        gevent.sleep(0.05)
    watcher.kill()
    by_id = {each.value: body for each, body in zip(puts, bodies, strict=True)}
    assert all(each.successful() for each in puts), [each.exception for each in puts]
    queue = make_queue(store)
    for claim in taken(queue, len(bodies)):
        assert b"".join(queue.body(claim)) == by_id[claim.id]
    assert peak <= 2_000_000
    assert spool.held_bytes == 0


def test_eight_bodies_of_20_mib_at_once_take_a_few_mib(
    store: Store, make_spool: Callable[..., Spool], figures: Callable[[str], None]
) -> None:
    spool = make_spool(store)
    segment = b"x" * 64_000

    def upload_all() -> None:
        upload = spool.open(SENDER, [RECIPIENT])
        for _ in range(20 * 1024 * 1024 // len(segment)):
            upload.write(bytes(bytearray(segment)))  # bytes of its own
        upload.commit(an_entry(upload))

    tracemalloc.start()
    uploads = [gevent.spawn(upload_all) for _ in range(8)]
    while not all(each.ready() for each in uploads):
        store.stop()
        gevent.sleep(0.1)
        store.go_on()
        gevent.sleep(0.1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [each.exception for each in uploads] == [None] * 8
    figures(f"peak of Python memory {peak / 2**20:.1f} MiB, RSS {resource.getrusage(0).ru_maxrss // 1024} MiB")
    assert peak < 8 * 2 * WINDOW_BYTES
