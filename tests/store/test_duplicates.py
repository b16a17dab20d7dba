"""A message whose 250 was lost and that is sent again is stored once; equal messages sent in order are two."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import gevent
import pytest

from mta_front.store.entry import Entry
from mta_front.store.errors import StoreUnknown
from mta_front.store.queue import Queue
from mta_front.store.spool import Spool, Upload
from tests.store.middle import Middle
from tests.store.parts import DELIVERED, RECIPIENT, SENDER, a_body, taken, until
from tests.stores import Store

SMALL, LARGE = b"Subject: x\r\n\r\nhello\r\n", a_body(200_000)
BODIES = pytest.mark.parametrize("body", [SMALL, LARGE], ids=["small", "large"])


def hand_over(
    spool: Spool, body: bytes, piece_bytes: int = 60_000, trace: bytes = b"", **fields: Any
) -> tuple[str, Upload]:
    """The id under which it is stored, and the upload."""
    upload = spool.open(fields.get("mail_from", SENDER), fields.get("rcpt_to", [RECIPIENT]))
    upload.write(trace or b"Received: %s\r\n" % upload.id.encode(), ours=True)
    for start in range(0, len(body), piece_bytes):
        upload.write(body[start : start + piece_bytes])
    values: dict[str, Any] = {
        "mail_from": SENDER,
        "rcpt_to": [RECIPIENT],
        "listener": "mx",
        "client_address": "192.0.2.1",
    }
    return upload.commit(Entry(id=upload.id, received_at=time.time(), **(values | fields))), upload


@pytest.fixture
def make_spool(make_spool: Callable[..., Spool]) -> Callable[..., Spool]:
    """With duplicates known for an hour."""
    return lambda store, **options: make_spool(store, **({"duplicate_window_s": 3600.0} | options))


def lose(spool: Spool, body: bytes, **fields: Any) -> str:
    """Hand over, and the client is cut off after its 250; its id, when the store knows that."""
    stored, upload = hand_over(spool, body, **fields)
    assert upload.remembered is not None
    spool.records.lost(upload.remembered)
    return stored


def counts(store: Store) -> bool:
    """Whether the one record is of a session that is known to be over."""
    with store.client() as client:
        (key,) = client.keys("*:dup:*")
        return bytes(client.get(key)).split()[1] == b"0"


def trusts(spool: Spool) -> bool:
    """Whether the silence of workers says something to this one."""
    return spool.records.memory(0, "").asked_before_ms >= 0


def records(store: Store) -> int:
    return sum(":dup:" in key for key in store.keys())  # noqa: SIM118


@BODIES
def test_a_message_sent_again_is_stored_once_under_its_first_id(
    body: bytes, store: Store, make_spool: Callable[..., Spool], queue: Queue
) -> None:
    first = lose(make_spool(store), body)
    until(lambda: counts(store))
    assert lose(make_spool(store), body, piece_bytes=999) == first, "another worker, another network"
    until(lambda: counts(store))
    (claim,) = taken(queue)
    assert claim.id == first
    assert lose(make_spool(store), body) == first, "in the relay's hand"
    until(lambda: counts(store))
    assert queue.settle(claim, DELIVERED, None)
    assert hand_over(make_spool(store), body)[0] == first, "and after that"
    assert queue.counts()["length"] == 0
    until(lambda: not [key for key in store.keys() if ":body:" in key])  # noqa: SIM118


@BODIES
def test_two_equal_messages_in_order_are_two(body: bytes, store: Store, spool: Spool, queue: Queue) -> None:
    ids = []
    for _ in range(5):
        stored, upload = hand_over(spool, body)
        ids.append(stored)
        assert upload.remembered is not None
        spool.records.seen(upload.remembered)  # and the next one comes before the store has heard of it
    assert len(set(ids)) == 5
    assert [claim.id for claim in taken(queue, 5)] == ids
    until(lambda: records(store) == 0)


def test_another_worker_knows_it_too(store: Store, make_spool: Callable[..., Spool]) -> None:
    one, other = make_spool(store), make_spool(store)
    first, upload = hand_over(one, SMALL)
    assert upload.remembered is not None
    one.records.seen(upload.remembered)
    until(lambda: records(store) == 0)
    assert hand_over(other, SMALL)[0] != first


@BODIES
def test_equal_messages_of_sessions_that_live_are_as_many(
    body: bytes, store: Store, make_spool: Callable[..., Spool], queue: Queue
) -> None:
    """A pool of 20 sessions over two workers sends nothing but equal messages, and each goes on after each 250."""
    workers = [make_spool(store), make_spool(store)]
    ids: list[str] = []

    def send(spool: Spool) -> None:
        for _ in range(5):
            stored, upload = hand_over(spool, body)
            ids.append(stored)
            assert upload.remembered is not None
            spool.records.live(upload.remembered)
            gevent.sleep(0.001)  # its next command is on its way
            spool.records.seen(upload.remembered)

    for sender in [gevent.spawn(send, workers[number % 2]) for number in range(20)]:
        sender.get(timeout=30.0)
    assert len(set(ids)) == 100
    assert {claim.id for claim in taken(queue, 100)} == set(ids)
    until(lambda: records(store) == 0)


def test_a_session_that_is_idle_after_its_250_lives(
    store: Store, make_spool: Callable[..., Spool], queue: Queue
) -> None:
    one, other = make_spool(store, duplicate_alive_s=0.6), make_spool(store, duplicate_alive_s=0.6)
    first, upload = hand_over(one, SMALL)
    assert upload.remembered is not None
    one.records.live(upload.remembered)
    since = time.monotonic()
    until(lambda: time.monotonic() - since > 1.5)  # the claim is about time: 2.5 times what its record was open for
    until(lambda: trusts(other))
    second, _ = hand_over(other, SMALL)
    assert second != first
    assert {claim.id for claim in taken(queue, 2)} == {first, second}


def test_a_worker_that_was_killed_before_its_250(store: Store, make_spool: Callable[..., Spool], queue: Queue) -> None:
    """Its record counts when it was silent for long enough, for one retry, which another session holds then."""
    one, other = make_spool(store, duplicate_alive_s=0.6), make_spool(store, duplicate_alive_s=0.6)
    first, _ = hand_over(one, SMALL)
    one.close()
    since = time.monotonic()
    until(lambda: time.monotonic() - since > 0.6 and trusts(other))
    again, _ = hand_over(other, SMALL)
    assert again == first
    assert hand_over(other, SMALL)[0] != first, "the session of the retry lives"
    assert len(taken(queue, 2)) == 2


def test_the_silence_of_a_worker_that_the_store_did_not_hear_says_nothing(
    store: Store, make_spool: Callable[..., Spool], queue: Queue
) -> None:
    """The store is frozen for longer than records are open: what it meets first when it wakes is another message."""
    one, other = make_spool(store, duplicate_alive_s=0.6), make_spool(store, duplicate_alive_s=0.6)
    first, upload = hand_over(one, SMALL)
    assert upload.remembered is not None
    one.records.live(upload.remembered)
    until(lambda: trusts(other))
    store.stop()
    since = time.monotonic()
    waiting = gevent.spawn(hand_over, other, SMALL)
    until(lambda: time.monotonic() - since > 1.0)
    store.go_on()
    second, _ = waiting.get(timeout=5.0)
    third, _ = hand_over(other, SMALL)
    assert len({first, second, third}) == 3
    assert len(taken(queue, 3)) == 3


def test_silence_while_the_store_was_away_says_nothing(store: Store, make_spool: Callable[..., Spool]) -> None:
    """Whoever is first to find it again cannot know yet who lives."""
    one, other = make_spool(store, duplicate_alive_s=1.0), make_spool(store, duplicate_alive_s=1.0)
    first, _ = hand_over(one, SMALL)
    one.close()  # it has not found it again yet
    until(lambda: trusts(other))
    store.kill()
    since = time.monotonic()
    until(lambda: time.monotonic() - since > 1.1 and other.fault is not None)
    store.start()
    until(lambda: other.fault is None)
    assert hand_over(other, SMALL)[0] != first


def test_what_the_store_could_not_be_told_it_is_told_later(store: Store, make_spool: Callable[..., Spool]) -> None:
    spool = make_spool(store, duplicate_alive_s=0.6)
    _, seen = hand_over(spool, SMALL)
    lost_id, lost = hand_over(spool, LARGE)
    assert seen.remembered is not None
    assert lost.remembered is not None
    store.kill()
    until(lambda: spool.fault is not None)
    spool.records.seen(seen.remembered)
    spool.records.lost(lost.remembered)
    gevent.sleep(0.05)
    store.start()
    until(lambda: records(store) == 1, message="what was seen is forgotten")
    until(lambda: counts(store), message="what was lost counts")
    assert hand_over(make_spool(store), LARGE)[0] == lost_id


def test_one_250_that_was_lost_stands_for_one_retry(store: Store, make_spool: Callable[..., Spool]) -> None:
    """The worker of the first copy knows of it too, and does not take the next equal message for the retry."""
    one, other = make_spool(store), make_spool(store)
    first = lose(one, SMALL)
    until(lambda: counts(store))
    assert hand_over(other, SMALL)[0] == first
    assert hand_over(one, SMALL)[0] != first


def test_a_retry_at_once_meets_the_first_copy(spool: Spool) -> None:
    """Before the store has heard that the session is over."""
    first = lose(spool, SMALL)
    assert hand_over(spool, SMALL)[0] == first


def test_what_was_seen_of_the_first_does_not_forget_the_second(store: Store, spool: Spool) -> None:
    """The removal travels while an equal message is handed over: it removes its own record only."""
    _, upload = hand_over(spool, SMALL)
    assert upload.remembered is not None
    spool.records.seen(upload.remembered)
    second, second_upload = hand_over(spool, SMALL)
    gevent.sleep(0.1)
    assert records(store) == 1
    assert second_upload.remembered is not None
    spool.records.lost(second_upload.remembered)
    assert hand_over(spool, SMALL)[0] == second


@pytest.mark.parametrize(
    "difference",
    [
        {"listener": "submission"},
        {"client_address": "192.0.2.2"},
        {"user": "u"},
        {"mail_from": "x@example.org"},
        {"rcpt_to": [RECIPIENT, "c@example.net"]},
    ],
)
def test_what_differs_is_another_message(difference: dict[str, Any], spool: Spool, queue: Queue) -> None:
    lose(spool, SMALL)
    hand_over(spool, SMALL, **difference)
    hand_over(spool, SMALL[:-3] + b"O\r\n")
    assert len({claim.id for claim in taken(queue, 3)}) == 3


def test_a_user_is_the_same_from_everywhere(spool: Spool) -> None:
    first = lose(spool, SMALL, user="u")
    assert hand_over(spool, SMALL, user="u", client_address="198.51.100.7")[0] == first


def test_it_is_remembered_for_the_window(store: Store, make_spool: Callable[..., Spool]) -> None:
    spool = make_spool(store, duplicate_window_s=0.3)
    first = lose(spool, SMALL)
    assert lose(spool, SMALL) == first
    until(lambda: records(store) == 0)
    assert hand_over(spool, SMALL)[0] != first


def test_a_window_of_0_is_off(store: Store, make_spool: Callable[..., Spool]) -> None:
    spool = make_spool(store, duplicate_window_s=0.0)
    first, upload = hand_over(spool, SMALL)
    assert hand_over(spool, SMALL)[0] != first
    assert upload.remembered is None
    assert records(store) == 0


@BODIES
def test_an_answer_that_was_lost(body: bytes, store: Store, make_spool: Callable[..., Spool], queue: Queue) -> None:
    """The client hears 451 for what was stored after all: its next try is 250, with one message in the queue."""
    with Middle(store) as middle:
        spool = make_spool(store, url=middle.url)
        middle.cut_after = lambda piece: b'"id"' in piece  # the envelope: the hand-over
        with pytest.raises(StoreUnknown):
            hand_over(spool, body)
        middle.cut_after = lambda piece: False
        until(lambda: spool.fault is None)
        again, upload = hand_over(spool, body)
    assert again != upload.id
    assert [claim.id for claim in taken(queue)] == [again]


def test_many_are_forgotten_in_few_calls(store: Store, spool: Spool) -> None:
    done = [hand_over(spool, b"%d\r\n" % number)[1] for number in range(1200)]
    for upload in done:
        assert upload.remembered is not None
        spool.records.seen(upload.remembered)
    until(lambda: records(store) == 0)
    info = store.client().info("commandstats")
    assert info["cmdstat_evalsha"]["calls"] < 1200 + 60
