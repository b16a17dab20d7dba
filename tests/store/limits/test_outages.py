"""Their store frozen, slow, refusing, full, read-only, restarted: nobody waits for it, and counts are right again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import gevent
import pytest

from mta_front.store.limits.rules import AtOnce, AuthRules, Rate
from mta_front.store.limits.shared import Limits
from tests.store.limits.parts import LimitsRecorder, a_rate, at_once, options_of, who
from tests.store.middle import Middle
from tests.store.parts import until
from tests.stores import Store

TIMEOUT_MS, SLOW_MS = 250, 50
BUSY_S = 0.05  # so much longer a loaded machine may take
RULES: tuple[Any, ...] = (
    AtOnce("address", 10),
    a_rate("messages", "address", "100/1h", store_down="closed"),
    a_rate("recipients", "address", "10/1h", store_down="open"),
    AuthRules(per_pair=Rate.parse("5/10m")),
)

Trouble = Callable[[], None]


class Trial:
    """A store in the middle of trouble, and limits that ask it."""

    def __init__(self, store: Store, middle: Middle, limits: Limits) -> None:
        self.store = store
        self.middle = middle
        self.limits = limits

    def frozen(self) -> Trouble:
        """SIGSTOP."""
        self.store.stop()
        return self.store.go_on

    def slow(self) -> Trouble:
        """Each reply comes 200 ms late."""

        def late(piece: bytes) -> bytes:
            gevent.sleep(0.2)
            return piece

        def quick(piece: bytes) -> bytes:
            return piece

        self.middle.change = late
        return lambda: setattr(self.middle, "change", quick)

    def refusing(self) -> Trouble:
        """Kill -9: nobody listens."""
        self.store.kill_now()

        def again() -> None:
            self.store.start()

        return again

    def full(self) -> Trouble:
        """Over its maxmemory."""
        self.store.ask("CONFIG", "SET", "maxmemory", "1")
        return lambda: self.store.ask("CONFIG", "SET", "maxmemory", "512mb")

    def readonly(self) -> Trouble:
        """A replica, of nobody who is there."""
        self.store.ask("REPLICAOF", "127.0.0.1", "1")
        return lambda: self.store.ask("REPLICAOF", "NO", "ONE")


@pytest.fixture(params=["frozen", "slow", "refusing", "full", "readonly"])
def what(request: pytest.FixtureRequest) -> str:
    """Which trouble."""
    return str(request.param)


@pytest.fixture
def trial(store: Store, make_limits: Callable[..., Limits], what: str) -> Iterator[Trial]:
    """Limits that reach their store, in the way of which there may be a relay of bytes."""
    with Middle(store) as middle:
        url = middle.url if what == "slow" else store.url
        limits = make_limits(url, *RULES, timeout_ms=TIMEOUT_MS, slow_ms=SLOW_MS)
        yield Trial(store, middle, limits)
        limits.close()


def test_nobody_waits_for_a_store_in_trouble_and_it_is_asked_again_when_it_is_well(
    trial: Trial, events: LimitsRecorder, what: str
) -> None:
    limits = trial.limits
    assert limits.connected(who("before")).allowed
    well = getattr(trial, what)()
    began = time.monotonic()
    first: list[float] = []
    later: list[float] = []
    lags: list[float] = []  # of this process, which is no fault of limits

    def sessions(number: int) -> None:
        turn = 0
        while (at := time.monotonic()) < began + 2.0:
            session = who(f"{number}-{turn}", f"10.0.{number}.{turn % 250}")
            turn += 1
            assert limits.connected(session).allowed
            (first if at < began + 1.0 else later).append(time.monotonic() - at)
            limits.closed(session)
            gevent.sleep(0.02)

    def watch() -> None:
        while (at := time.monotonic()) < began + 2.0:
            gevent.sleep(0.005)
            lags.append(time.monotonic() - at - 0.005)

    at_once([*(partial(sessions, number) for number in range(10)), watch])
    assert max(first) <= TIMEOUT_MS / 1000 + BUSY_S + max(lags)
    assert max(later) <= 0.005 + max(lags)
    assert len(events.modes) == 1
    assert events.modes[0][0] == "degraded"
    assert limits.spend(who(1), "messages").mode == "closed"
    assert not limits.spend(who(1), "messages").allowed
    assert limits.spend(who(1), "recipients", 1000).mode == "open"
    assert events.decided[-1] == ("recipients", "allowed", "open")

    well()
    until(lambda: limits.mode == "shared", 10.0, "the store to be asked again")
    assert [mode for mode, _ in events.modes] == ["degraded", "shared"]
    assert limits.spend(who(1), "messages").mode == "shared"
    verdicts = [limits.connected(who(f"after-{number}")).allowed for number in range(10)]
    assert verdicts == [True] * 9 + [False], "the one from before is known, and nobody else"


def test_who_came_while_it_was_away_is_counted_when_it_is_back(
    store: Store, make_limits: Callable[..., Limits], events: LimitsRecorder
) -> None:
    workers = [make_limits(store, AtOnce("address", 30), lease_s=3.0) for _ in range(3)]
    until(lambda: all(limits._alone.fleet == 3 for limits in workers), 10.0)
    store.kill_now()
    until(lambda: all(limits.mode == "degraded" for limits in workers))
    held = [(limits, who(f"{index}-{number}")) for index, limits in enumerate(workers) for number in range(15)]
    verdicts = [limits.connected(session) for limits, session in held]
    assert [sum(verdict.allowed for verdict in verdicts[start : start + 15]) for start in (0, 15, 30)] == [10] * 3
    assert {verdict.mode for verdict in verdicts} == {"local"}
    store.directory.joinpath("appendonlydir").rename(store.directory / "lost")  # it comes back with nothing
    store.start()
    until(lambda: all(limits.mode == "shared" for limits in workers), 10.0)
    assert not any(limits.connected(who("more")).allowed for limits in workers)
    limits, session = held[0]
    limits.closed(session)
    until(lambda: workers[1].connected(who("one")).allowed)
    assert not workers[2].connected(who("two")).allowed


def test_a_restart_under_load_refuses_nobody_and_loses_no_count(
    store: Store, make_limits: Callable[..., Limits]
) -> None:
    workers = [make_limits(store, AtOnce("fleet", 5000), lease_s=3.0) for _ in range(2)]
    over = time.monotonic() + 3.0
    refused = []

    def sessions(number: int) -> None:
        turn = 0
        while time.monotonic() < over:
            session = who(f"{number}-{turn}", f"10.0.0.{number}")
            turn += 1
            if not workers[number % 2].connected(session).allowed:
                refused.append(session)
            gevent.sleep(0.01)
            workers[number % 2].closed(session)

    def restarts() -> None:
        for _ in range(3):
            gevent.sleep(0.5)
            store.kill_now()
            store.start()

    at_once([*(partial(sessions, number) for number in range(40)), restarts])
    assert refused == []
    until(lambda: all(limits.mode == "shared" for limits in workers), 10.0)
    for number in range(7):
        assert workers[0].connected(who(f"held-{number}")).allowed
    until(lambda: live_in(store, "mta:{limits}:lease:connections.fleet::all") == 7)


def live_in(store: Store, lease: str) -> int:
    """Members of living workers."""
    alive = store.ask("ZRANGE", "mta:{limits}:workers", 0, -1)
    return sum(store.ask("ZCOUNT", lease, life, life) for life in alive)


def test_a_frozen_store_that_wakes_counts_nothing_that_was_given_up(
    store: Store, make_limits: Callable[..., Limits]
) -> None:
    limits = make_limits(store, a_rate("messages", "address", "10/1h"), timeout_ms=100)
    store.stop()
    for _ in range(8):
        assert limits.spend(who(), "messages").mode == "local"
    store.go_on()
    until(lambda: limits.mode == "shared", 10.0)
    assert [limits.spend(who(), "messages").allowed for _ in range(11)] == [True] * 10 + [False]


def test_failed_logins_while_it_is_away_are_counted_by_the_worker(
    store: Store, make_limits: Callable[..., Limits]
) -> None:
    limits = make_limits(store, *RULES)
    store.kill_now()
    until(lambda: limits.mode == "degraded")
    for _ in range(5):
        assert limits.authenticating(who(1), "alice").allowed
        assert limits.authenticated(who(1), "alice", False).delay_s > 0
    refused = limits.authenticating(who(1), "alice")
    assert (refused.allowed, refused.rule, refused.mode) == (False, "auth_failures.per_pair", "local")
    assert limits.authenticating(who(2), "bob").allowed
    assert limits.authenticated(who(2), "bob", True).allowed


def test_who_logs_in_while_it_is_away_locks_nobody_out(store: Store, make_limits: Callable[..., Limits]) -> None:
    few, many = Rate.parse("10/10m"), Rate.parse("50/10m")
    limits = make_limits(store, AuthRules(per_address=few, per_user=few, per_pair=many))
    asked_before = who("before")
    assert limits.authenticating(asked_before, "first").allowed
    store.kill_now()
    until(lambda: limits.mode == "degraded")
    assert limits.authenticated(asked_before, "first", True).allowed
    for number in range(30):
        assert limits.authenticating(who(number), f"user{number}").allowed
        assert limits.authenticated(who(number), f"user{number}", True).allowed
    asked_meanwhile = [who(f"m{number}") for number in range(5)]
    assert all(limits.authenticating(each, "alice").allowed for each in asked_meanwhile)
    store.start()
    until(lambda: limits.mode == "shared", 10.0)
    assert all(limits.authenticated(each, "alice", True).allowed for each in asked_meanwhile)
    store.kill_now()
    until(lambda: limits.mode == "degraded")
    guesses = [limits.authenticating(who(f"g{number}"), "bob").allowed for number in range(11)]
    assert guesses == [True] * 10 + [False], "nothing of the good ones is left"


def test_a_store_that_is_away_again_and_again_gives_no_new_shares(
    store: Store, make_limits: Callable[..., Limits]
) -> None:
    limits = make_limits(store, a_rate("messages", "address", "3/1h"))
    for allowed in ([True] * 3 + [False], [False] * 4):
        store.kill_now()
        until(lambda: limits.mode == "degraded")
        assert [limits.spend(who(), "messages").allowed for _ in range(4)] == allowed
        store.start()
        until(lambda: limits.mode == "shared", 10.0)


def test_there_is_no_store_from_the_start(
    store: Store, make_limits: Callable[..., Limits], events: LimitsRecorder
) -> None:
    store.kill_now()
    limits = make_limits(store, *RULES, up=False)
    began = time.monotonic()
    assert limits.connected(who(1)).mode == "local"
    assert time.monotonic() - began < TIMEOUT_MS / 1000 + BUSY_S
    store.start()
    until(lambda: limits.mode == "shared", 10.0)
    assert live_in(store, "mta:{limits}:lease:connections.per_address::192.0.2.1") == 1
    assert [mode for mode, _ in events.modes] == ["degraded", "shared"]


def test_limits_without_a_hub_running_can_be_closed(store: Store) -> None:
    limits = Limits(options_of(store, *RULES))
    limits.start()
    limits.close()
    limits.close()
