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


def records(store: Store) -> int:
    return sum(":dup:" in key for key in store.keys())  # noqa: SIM118


@BODIES
def test_a_message_sent_again_is_stored_once_under_its_first_id(
    body: bytes, store: Store, make_spool: Callable[..., Spool], queue: Queue
) -> None:
    first, _ = hand_over(make_spool(store), body)
    again, upload = hand_over(make_spool(store), body, piece_bytes=999)  # another worker, another network
    assert again == first != upload.id
    (claim,) = taken(queue)
    assert claim.id == first
    assert hand_over(make_spool(store), body)[0] == first, "in the relay's hand"
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
        spool.seen(upload.remembered)  # and the next one comes before the store has heard of it
    assert len(set(ids)) == 5
    assert [claim.id for claim in taken(queue, 5)] == ids
    until(lambda: records(store) == 0)


def test_another_worker_knows_it_too(store: Store, make_spool: Callable[..., Spool]) -> None:
    one, other = make_spool(store), make_spool(store)
    first, upload = hand_over(one, SMALL)
    assert upload.remembered is not None
    one.seen(upload.remembered)
    until(lambda: records(store) == 0)
    assert hand_over(other, SMALL)[0] != first


def test_what_was_seen_of_the_first_does_not_forget_the_second(store: Store, spool: Spool) -> None:
    """The removal travels while an equal message is handed over: it removes its own record only."""
    _, upload = hand_over(spool, SMALL)
    assert upload.remembered is not None
    spool.seen(upload.remembered)
    second, _ = hand_over(spool, SMALL)
    gevent.sleep(0.1)
    assert records(store) == 1
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
    hand_over(spool, SMALL)
    hand_over(spool, SMALL, **difference)
    hand_over(spool, SMALL[:-3] + b"O\r\n")
    assert len({claim.id for claim in taken(queue, 3)}) == 3


def test_a_user_is_the_same_from_everywhere(spool: Spool) -> None:
    first, _ = hand_over(spool, SMALL, user="u")
    assert hand_over(spool, SMALL, user="u", client_address="198.51.100.7")[0] == first


def test_it_is_remembered_for_the_window(store: Store, make_spool: Callable[..., Spool]) -> None:
    spool = make_spool(store, duplicate_window_s=0.3)
    first, _ = hand_over(spool, SMALL)
    assert hand_over(spool, SMALL)[0] == first
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
        spool.seen(upload.remembered)
    until(lambda: records(store) == 0)
    info = store.client().info("commandstats")
    assert info["cmdstat_evalsha"]["calls"] < 1200 + 60
