"""Connections at once: leases that end with their session, or with their worker."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import gevent

from mta_front.store.limits.rules import AtOnce
from mta_front.store.limits.shared import Limits
from tests.store.limits.parts import LimitsRecorder, a_rate, at_once, names_in, who
from tests.store.parts import until
from tests.stores import Store


def test_a_client_is_held_to_its_limit_and_gets_back_what_it_gives_back(
    store: Store, make_limits: Callable[..., Limits], events: LimitsRecorder
) -> None:
    limits = make_limits(store, AtOnce("address", 2), AtOnce("fleet", 3))
    assert [limits.connected(who(number)).allowed for number in (1, 2)] == [True, True]
    refused = limits.connected(who(3))
    assert (refused.allowed, refused.rule, refused.mode) == (False, "connections.per_address", "shared")
    assert limits.connected(who(4, "192.0.2.2")).allowed
    assert limits.connected(who(5, "192.0.2.3")).rule == "connections.fleet"
    limits.closed(who(1))
    limits.closed(who(1))
    assert limits.connected(who(6)).allowed, "given back before it is asked for again"
    assert limits.connected(who(7)).rule == "connections.per_address"
    assert events.decided[:3] == [
        ("connections", "allowed", "shared"),
        ("connections", "allowed", "shared"),
        ("connections.per_address", "refused", "shared"),
    ]


def test_what_is_refused_holds_nothing(store: Store, make_limits: Callable[..., Limits]) -> None:
    limits = make_limits(store, AtOnce("address", 1), AtOnce("fleet", 9), a_rate("connection_rate", "fleet", "3/1h"))
    assert limits.connected(who(1)).allowed
    for number in range(20):
        assert limits.connected(who(f"r{number}")).rule == "connections.per_address"
        limits.closed(who(f"r{number}"))
    assert store.ask("ZCARD", "mta:{limits}:lease:connections.fleet::all") == 1
    assert limits.connected(who(2, "192.0.2.2")).allowed
    assert limits.connected(who(3, "192.0.2.3")).allowed
    assert limits.connected(who(4, "192.0.2.4")).rule == "connection_rate.fleet"


def test_three_workers_and_200_clients_at_once_meet_the_limit_exactly(
    store: Store, make_limits: Callable[..., Limits], events: LimitsRecorder
) -> None:
    workers = [make_limits(store, AtOnce("address", 50), AtOnce("fleet", 1000), timeout_ms=2000) for _ in range(3)]
    for round_ in range(3):
        asks = [(workers[number % 3], who(f"{round_}-{number}")) for number in range(200)]
        verdicts = at_once([partial(limits.connected, each) for limits, each in asks])
        assert sum(verdict.allowed for verdict in verdicts) == 50
        assert {verdict.rule for verdict in verdicts if not verdict.allowed} == {"connections.per_address"}
        for limits, each in asks:
            limits.closed(each)
        until(lambda: not store.ask("EXISTS", "mta:{limits}:lease:connections.per_address::192.0.2.1"))
    assert events.modes == []
    assert workers[0].mode == "shared"


def test_what_a_dead_worker_held_is_free_within_a_lease(store: Store, make_limits: Callable[..., Limits]) -> None:
    dead, alive = (make_limits(store, AtOnce("address", 10), lease_s=1.5) for _ in range(2))
    for number in range(6):
        assert dead.connected(who(f"dead-{number}")).allowed
    for number in range(4):
        assert alive.connected(who(f"alive-{number}")).allowed
    assert not alive.connected(who("early")).allowed
    dead._life._greenlet.kill()  # as kill -9 leaves it: it says nothing any more
    dead._link.close()
    until(lambda: alive.connected(who("late")).allowed, 1.5, "what it held to be free")
    verdicts = [alive.connected(who(f"late-{number}")).allowed for number in range(7)]
    assert verdicts == [True] * 5 + [False] * 2


def test_a_worker_that_leaves_takes_its_leases_along(store: Store, make_limits: Callable[..., Limits]) -> None:
    leaving, staying = (make_limits(store, AtOnce("address", 2)) for _ in range(2))
    assert leaving.connected(who(1)).allowed
    assert leaving.connected(who(2)).allowed
    assert not staying.connected(who(3)).allowed
    leaving.close()
    assert staying.connected(who(4)).allowed


def test_a_worker_that_was_thought_dead_writes_down_what_it_holds(
    store: Store, make_limits: Callable[..., Limits]
) -> None:
    limits = make_limits(store, AtOnce("address", 1200), AtOnce("fleet", 5000), lease_s=0.6)
    assert all(verdict.allowed for verdict in at_once([partial(limits.connected, who(n)) for n in range(1100)]))
    store.ask("FLUSHALL")
    key = "mta:{limits}:lease:connections.per_address::192.0.2.1"
    until(lambda: store.ask("ZCARD", key) == 1100)
    limits.closed(who(3))
    until(lambda: store.ask("ZCARD", key) == 1099)
    assert store.ask("ZCARD", "mta:{limits}:lease:connections.fleet::all") == 1099


def test_the_old_life_counts_as_dead_when_a_new_one_begins(store: Store, make_limits: Callable[..., Limits]) -> None:
    limits = make_limits(store, AtOnce("address", 3), lease_s=30.0)
    for number in range(3):
        assert limits.connected(who(number)).allowed
    limits._life.failed("as if the connection had been lost")
    until(lambda: limits.mode == "shared")
    assert store.ask("ZCARD", "mta:{limits}:lease:connections.per_address::192.0.2.1") == 6, "seen twice, until asked"
    assert not limits.connected(who(4)).allowed
    assert store.ask("ZCARD", "mta:{limits}:lease:connections.per_address::192.0.2.1") == 3
    limits.closed(who(1))
    assert limits.connected(who(5)).allowed


def test_a_session_killed_while_it_asks_leaves_nothing_and_spoils_nothing(
    store: Store, make_limits: Callable[..., Limits]
) -> None:
    limits = make_limits(store, AtOnce("address", 5), AtOnce("fleet", 1000))

    def session(number: int) -> None:
        try:
            limits.connected(who(number))
            gevent.sleep(60)
        finally:
            limits.closed(who(number))

    for turn in range(20):
        greenlets = [gevent.spawn(session, f"{turn}-{number}") for number in range(10)]
        gevent.sleep(0)
        gevent.killall(greenlets)
    until(lambda: not any(":lease:" in key for key in names_in(store)))
    assert all(verdict.allowed for verdict in at_once([partial(limits.connected, who(n)) for n in range(5)]))
    assert not limits.connected(who(6)).allowed


def test_every_key_expires(store: Store, make_limits: Callable[..., Limits]) -> None:
    limits = make_limits(store, AtOnce("address", 1), a_rate("connection_rate", "address", "9/1m"), lease_s=0.5)
    limits.connected(who(1))
    limits.connected(who(2))
    limits._life.failed("")
    until(lambda: limits.mode == "shared")
    limits.connected(who(3))
    until(lambda: all(store.ask("PTTL", key) > 0 for key in names_in(store)))
    assert len(names_in(store)) == 4
