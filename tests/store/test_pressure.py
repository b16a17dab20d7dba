"""Back-pressure: mail is refused before the store is full, by memory, by number and by age."""

from __future__ import annotations

import time
from collections.abc import Callable

import gevent
import pytest

from mta_front.store.pressure import DECLARED_SHARE
from mta_front.store.spool import Spool
from tests.store.parts import Recorder, put, until
from tests.stores import Store

MIB = 2**20


class Told(Recorder):
    """Keeps what was said of reception."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[tuple[bool, str]] = []

    def reception(self, open_: bool, reason: str) -> None:
        self.said.append((open_, reason))


@pytest.fixture
def events() -> Told:
    return Told()


def known(spool: Spool) -> None:
    until(lambda: spool.pressure._may_use_bytes, message="the store was asked")


def test_by_memory_with_what_was_declared(make_store: Callable[..., Store], make_spool: Callable[..., Spool]) -> None:
    spool = make_spool(make_store(maxmemory="64mb"), high_water=0.5)
    known(spool)
    pressure = spool.pressure
    assert not pressure.admits("a", 33 * MIB)
    assert pressure.admits("b", 20 * MIB)
    assert not pressure.admits("a", 28 * MIB), "b's are on their way"
    pressure.ends("b")
    assert pressure.admits("a", 28 * MIB)
    assert pressure.admits("a", 29 * MIB), "the same session begins anew"
    pressure.ends("a", 29 * MIB)
    assert not pressure.admits("b", 10 * MIB), "a's are in the store, which was not asked since"
    until(lambda: pressure.admits("b", 10 * MIB), message="it was asked, and a's were none")


def test_who_declares_much_and_sends_nothing_keeps_nobody_out(
    make_store: Callable[..., Store], make_spool: Callable[..., Spool]
) -> None:
    spool = make_spool(make_store(maxmemory="64mb"), high_water=0.5)
    known(spool)
    for number in range(100):
        spool.pressure.admits(f"s{number}", 5 * MIB)
    assert spool.pressure._declared_bytes > 32 * MIB / DECLARED_SHARE
    assert spool.pressure.admits("honest", MIB)


def test_it_is_told_once_when_it_stops_and_when_it_goes_on(
    make_store: Callable[..., Store], make_spool: Callable[..., Spool], events: Told
) -> None:
    store = make_store(maxmemory="64mb")
    spool = make_spool(store, high_water=0.5)
    known(spool)
    assert spool.pressure.admits("s", 0)
    for number in range(34):
        store.ask("SET", f"ballast-{number}", b"x" * MIB)
    until(lambda: not spool.pressure.admits("s", 0))
    gevent.sleep(0.5)
    assert events.said == [(False, "memory")]
    store.ask("DEL", *(f"ballast-{number}" for number in range(34)))
    until(lambda: spool.pressure.admits("s", 0))
    assert events.said == [(False, "memory"), (True, "")]


def test_by_number(store: Store, make_spool: Callable[..., Spool], events: Told) -> None:
    spool = make_spool(store, queue_max_messages=3)
    for _ in range(3):
        assert spool.pressure.admits("s", 0)
        put(spool)
    until(lambda: not spool.pressure.admits("s", 0))
    assert events.said == [(False, "messages")]
    store.ask("XTRIM", "mta:{0}:queue", "MAXLEN", 2)
    until(lambda: spool.pressure.admits("s", 0))


def test_by_age(store: Store, make_spool: Callable[..., Spool], events: Told) -> None:
    spool = make_spool(store, queue_max_age_s=1.5)
    put(spool)
    began_at = time.monotonic()
    assert spool.pressure.admits("s", 0)
    until(lambda: not spool.pressure.admits("s", 0))
    assert time.monotonic() - began_at > 1.4
    assert events.said == [(False, "age")]


def test_a_store_that_is_away_is_no_reason(store: Store, make_spool: Callable[..., Spool], events: Told) -> None:
    spool = make_spool(store, high_water=0.5, timeout_ms=200)
    known(spool)
    store.kill_now()
    gevent.sleep(1.5)
    assert spool.pressure.admits("s", 1000)
    assert events.said == []
