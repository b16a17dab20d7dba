"""Connections to a next hop that all relays have together, counted in a real store."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import gevent
import pytest

from mta_front.relay import hop as hop_module
from mta_front.relay.routing import Routing, Share
from mta_front.settings.routes import Route
from mta_front.store.entry import Entry
from mta_front.store.options import StoreOptions
from mta_front.store.places import Places
from tests.relay.attempts import Noted, Try
from tests.relay.hub import eventually
from tests.relay.scripted import ScriptedHop, Talk, polite
from tests.stores import KINDS, Store


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return Store(request.param, tmp_path).start()


@pytest.fixture
def make_places(store: Store) -> Iterator[Callable[..., Places]]:
    made: list[Places] = []

    def make(lease_s: float = 30.0) -> Places:
        made.append(Places(StoreOptions(url=f"unix://{store.socket}", timeout_ms=1000), lease_s=lease_s))
        made[-1].start()
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_so_many_and_no_more(make_places: Callable[..., Places]) -> None:
    one, other = make_places(), make_places()
    held = [one.enter("hop", 3), other.enter("hop", 3), other.enter("hop", 3)]
    assert all(held)
    assert one.enter("hop", 3) == ""
    assert other.enter("elsewhere", 3)
    one.leave(held[0])
    eventually(lambda: other.enter("hop", 3), 5.0, "the place was given back")


def test_what_is_held_is_renewed_and_what_the_dead_held_is_free(make_places: Callable[..., Places]) -> None:
    alive, dies = make_places(0.6), make_places(0.6)
    assert alive.enter("hop", 2)
    assert dies.enter("hop", 2)
    dies.close()
    gevent.sleep(1.0)
    assert alive.enter("hop", 2), "the dead one's place"
    assert alive.enter("hop", 2) == ""


def test_without_the_store_everybody_finds_a_place(make_places: Callable[..., Places], store: Store) -> None:
    places = make_places()
    assert places.enter("hop", 1)
    store.end()
    assert eventually(lambda: places.enter("hop", 1), 5.0)


def test_two_relays_share_the_connections_of_a_hop(
    make_places: Callable[..., Places], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hop_module, "FULL_S", 0.05)
    open_now, most, lock = 0, 0, threading.Lock()

    def counting(talk: Talk) -> None:
        nonlocal open_now, most
        with lock:
            open_now += 1
            most = max(most, open_now)
        try:
            polite(talk)
        finally:
            with lock:
                open_now -= 1

    noted = Noted()
    with ScriptedHop(counting) as hop:
        route = Route(next_hops=[hop.address], fleet_connections=3, max_messages=2)
        relays = [Routing([route], "me.example", noted, share=Share(places=make_places())) for _ in range(2)]
        tries = [Try() for _ in range(60)]
        for number, each in enumerate(tries):
            entry: Entry = each.attempt.envelope
            ((transport, _),) = relays[number % 2].split(entry, entry.rcpt_to)
            assert transport
            transport.deliver(each.attempt)
        eventually(lambda: all(each.reports for each in tries), 20.0)
        assert {each.only.kind for each in tries} == {"delivered"}
        for relay in relays:
            relay.close()
    # A place is free as soon as we have closed; the hop's thread may notice a moment later
    assert 2 <= most <= 3 + 2
    assert noted.faults == []
