"""A rate that several relays keep together, over a real store; and what they do without it."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import gevent
import pytest

from mta_front.relay.sharedpace import SharedPace
from mta_front.store.limits.rules import Rate
from mta_front.store.options import StoreOptions
from mta_front.store.turns import Turns
from tests.relay.hub import eventually
from tests.stores import KINDS, Store


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return Store(request.param, tmp_path).start()


@pytest.fixture
def make_turns(store: Store) -> Iterator[Callable[[], Turns]]:
    made: list[Turns] = []

    def make() -> Turns:
        made.append(Turns(StoreOptions(url=f"unix://{store.socket}", timeout_ms=1000)))
        made[-1].start()
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_turns_come_at_the_rate_after_the_burst(make_turns: Callable[[], Turns]) -> None:
    turns, rate = make_turns(), Rate(60, 60.0, 10)
    given, next_s = turns.take("hop", rate, 7)
    assert given == 7
    assert next_s == 0.0
    given, next_s = turns.take("hop", rate, 7)
    assert given == 3
    assert 0.9 < next_s <= 1.0
    assert turns.take("hop", rate, 7)[0] == 0
    assert turns.take("other", rate, 7)[0] == 7


def keeps(pace: SharedPace, sent: list[float], until_at: float) -> None:
    """A hop that always has something to send."""
    while (now := time.monotonic()) < until_at:
        wait_s = pace.wait_s(now)
        if wait_s:
            gevent.sleep(min(wait_s, until_at - now))
        else:
            pace.take(now)
            sent.append(now)
            gevent.sleep(0)


def test_four_relays_keep_one_rate(make_turns: Callable[[], Turns]) -> None:
    rate = Rate(100, 1.0, 20)
    paces = [SharedPace(rate, "hop", make_turns()) for _ in range(4)]
    began_at = time.monotonic()
    sent: list[list[float]] = [[], [], [], []]
    gevent.joinall([gevent.spawn(keeps, *pair, began_at + 2.0) for pair in zip(paces, sent, strict=True)])
    count = sum(map(len, sent))
    assert 150 <= count <= 200 + 20 + 4, "not four times as much, and not much less"
    assert min(map(len, sent)) > 0


def test_unused_turns_are_not_hoarded(make_turns: Callable[[], Turns], monkeypatch: pytest.MonkeyPatch) -> None:
    pace = SharedPace(Rate(100, 1.0, 20), "hop", make_turns())
    eventually(lambda: pace.wait_s(time.monotonic()) == 0.0)
    later = time.monotonic() + 60.0
    assert pace.wait_s(later) > 0.0, "it has to ask again"


def test_without_the_store_each_keeps_the_rate_by_itself(make_turns: Callable[[], Turns], store: Store) -> None:
    turns = make_turns()
    turns.take("hop", Rate(1, 1.0, 1), 1)
    store.end()
    pace = SharedPace(Rate(10, 1.0, 1), "hop", turns)
    eventually(lambda: pace.wait_s(time.monotonic()) == 0.0, 5.0)
    sent: list[float] = []
    keeps(pace, sent, time.monotonic() + 0.55)
    assert 4 <= len(sent) <= 7
    assert all(later - sooner > 0.08 for sooner, later in itertools.pairwise(sent))
