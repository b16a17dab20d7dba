"""`replicated:N` with one server and its replica: the count is what makes a 250, whatever the replica is like."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest
from gevent import socket

from mta_front.store.client import StoreOptions
from mta_front.store.errors import StoreDown, StoreNotDurable
from mta_front.store.spool import Spool
from tests.ports import free_port
from tests.store.parts import Load, Recorder, put, until
from tests.stores import Store
from tests.topologies import HOST, REPLICATED, in_step

QUEUE = "mta:{0}:queue"
DELAY_S = 0.2


class Distance:
    """A master that is far away from its replica: what it sends arrives later."""

    def __init__(self, to: int) -> None:
        self._to = to
        self._listener = socket.socket()
        self._listener.bind((HOST, 0))
        self._listener.listen()
        self.port: int = self._listener.getsockname()[1]
        self._ends: list[Any] = [self._listener]
        self._greenlets = [gevent.spawn(self._accept)]

    def close(self) -> None:
        """Stop passing on."""
        gevent.killall(self._greenlets)
        for end in self._ends:
            end.close()

    def _accept(self) -> None:
        while True:
            near, _ = self._listener.accept()
            far = socket.create_connection((HOST, self._to))
            self._ends += [near, far]
            self._greenlets += [gevent.spawn(self._pass, near, far, 0.0), gevent.spawn(self._pass, far, near, DELAY_S)]

    def _pass(self, source: Any, sink: Any, delay_s: float) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(1 << 16):
                # The same delay for all: none overtakes another.
                self._greenlets.append(gevent.spawn_later(delay_s, sink.sendall, piece))


@pytest.fixture
def pair(make_store: Callable[..., Store]) -> tuple[Store, Store]:
    """Two servers; the second follows nobody yet."""
    return make_store(port=free_port(), **REPLICATED), make_store(port=free_port(), **REPLICATED)


@pytest.fixture
def make_counting(events: Recorder) -> Iterator[Callable[..., Spool]]:
    """`make_counting(master, timeout_ms=500)`: a started spool that counts one replica."""
    made: list[Spool] = []

    def make(master: Store, **options: Any) -> Spool:
        made.append(Spool(StoreOptions(**({"url": master.url, "durability": "fsync+replicated:1"} | options)), events))
        made[-1].start()
        return made[-1]

    yield make
    for spool in made:
        spool.close()


def test_a_replica_far_away_makes_each_250_wait_and_none_wrong(
    pair: tuple[Store, Store], make_counting: Callable[..., Spool], figures: Callable[[str], None], full: bool
) -> None:
    master, replica = pair
    distance = Distance(master.port)
    replica.ask("REPLICAOF", HOST, distance.port)
    until(lambda: in_step(master, 1), 10.0)
    spool = make_counting(master, timeout_ms=5000)
    until(lambda: spool.answered)
    began = time.monotonic()
    behind = put(spool)
    assert time.monotonic() - began >= DELAY_S
    assert behind in ids(replica)
    with Load(spool, greenlets=100) as load:
        began = time.monotonic()
        until(lambda: time.monotonic() - began > (10.0 if full else 1.5), 15.0)
        took_s = time.monotonic() - began
        known = set(load.acknowledged)
    assert known <= ids(replica), "at the time of its 250 each was there"
    assert not load.errors
    assert len(known) >= 100
    figures(
        f"{len(known) / took_s:.0f} messages/s, the slowest in {load.longest_s:.2f} s, {DELAY_S * 1000:.0f} ms away"
    )
    distance.close()


def test_without_a_replica_nothing_is_taken_and_nothing_stays(
    pair: tuple[Store, Store], make_counting: Callable[..., Spool]
) -> None:
    master, replica = pair
    spool = make_counting(master, timeout_ms=500)
    fault = until(lambda: spool.fault)
    assert isinstance(fault, StoreDown), "no reason to stop for good: it may come yet"
    assert fault.reason == "0 of 1 replicas confirmed in time"
    with pytest.raises(StoreDown):
        put(spool)
    assert not master.ask("EXISTS", QUEUE)
    replica.ask("REPLICAOF", HOST, master.port)
    until(lambda: spool.fault is None, 10.0)
    assert put(spool) in ids(replica)


def test_more_replicas_than_are_counted_are_told_of(
    pair: tuple[Store, Store], make_store: Callable[..., Store], make_counting: Callable[..., Spool], events: Recorder
) -> None:
    master, replica = pair
    for each in (replica, make_store(port=free_port(), **REPLICATED)):
        each.ask("REPLICAOF", HOST, master.port)
    until(lambda: in_step(master, 2), 10.0)
    make_counting(master)
    until(lambda: events.replicas == [(2, 1)] * 2)


@pytest.mark.parametrize(("durability", "good"), [("replicated:1", True), ("fsync+replicated:1", False)])
def test_what_the_master_itself_must_promise(
    durability: str, good: bool, pair: tuple[Store, Store], make_counting: Callable[..., Spool]
) -> None:
    master, replica = pair
    replica.ask("REPLICAOF", HOST, master.port)
    until(lambda: in_step(master, 1), 10.0)
    master.ask("CONFIG", "SET", "appendfsync", "everysec")
    spool = make_counting(master, durability=durability, check_interval_s=0.1)
    if good:
        until(lambda: spool.answered)
        put(spool)
        master.ask("CONFIG", "SET", "appendonly", "no")  # started again it would be empty, and its replica with it
    fault = until(lambda: spool.fault)
    assert isinstance(fault, StoreNotDurable)
    assert ("appendonly" if good else "appendfsync") in fault.reason


def ids(store: Store) -> set[str]:
    """Of the messages in its queue."""
    return {fields[1].decode() for _, fields in store.ask("XRANGE", QUEUE, "-", "+")}
