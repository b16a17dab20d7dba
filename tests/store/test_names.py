"""Message ids, key names and the choice of a shard: others rely on them, in other processes and releases."""

from __future__ import annotations

import re
import time

import pytest

from mta_front.store.keys import ShardKeys, shard_of
from mta_front.store.message_id import MessageIds


def test_ids_are_short_plain_unique_and_in_order() -> None:
    ids = MessageIds()
    made = [ids.next() for _ in range(20_000)]
    assert all(re.fullmatch("[0-9A-Za-z]{16}", each) for each in made)
    assert made == sorted(set(made))


def test_ids_of_two_processes_differ_in_the_same_moment() -> None:
    one, other = MessageIds(), MessageIds()
    assert {one.next()[-6:]} != {other.next()[-6:]}


def test_ids_sort_by_time_across_processes() -> None:
    earlier = MessageIds().next()
    before_ms = time.time_ns() // 1_000_000
    while time.time_ns() // 1_000_000 <= before_ms:
        pass
    assert earlier < MessageIds().next()


def test_ids_stay_in_order_when_the_clock_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = MessageIds()
    first = ids.next()
    monkeypatch.setattr(time, "time_ns", lambda: 1_000_000_000_000_000)
    later = [ids.next() for _ in range(10_000)]
    assert [first, *later] == sorted({first, *later})


def test_a_shards_keys_carry_its_number_as_their_hash_tag() -> None:
    keys = ShardKeys("mta", 3)
    named = [keys.queue, keys.later, keys.lease, keys.dead, keys.layout, keys.body("ID"), keys.message("ID")]
    assert named == [
        "mta:{3}:queue",
        "mta:{3}:later",
        "mta:{3}:lease",
        "mta:{3}:dead",
        "mta:{3}:layout",
        "mta:{3}:body:ID",
        "mta:{3}:msg:ID",
    ]


def test_a_message_always_finds_the_same_shard() -> None:
    assert [shard_of("a@example.org", [f"{name}@example.net"], 16) for name in "abcdef"] == [0, 2, 3, 15, 5, 0]
    assert shard_of("", ["b@c", "a@c"], 256) == shard_of("", ["a@c", "b@c"], 256)
    assert shard_of("a@b", ["c@d"], 1) == 0


def test_messages_spread_over_the_shards() -> None:
    counts = [0] * 8
    for number in range(4000):
        counts[shard_of("news@example.org", [f"user{number}@example.net"], 8)] += 1
    assert min(counts) > 400
