"""How many in a time: GCRA in the store, against a plain model."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise

import gevent
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mta_front.store.keys import LimitKeys
from mta_front.store.limits import calls
from mta_front.store.limits.rules import AtOnce, PerTime, Rate
from mta_front.store.limits.shared import Limits
from tests.store.limits.parts import LimitsRecorder, a_rate, at_once, who
from tests.stores import Store


def test_a_burst_then_the_rate(store: Store, make_limits: Callable[..., Limits], events: LimitsRecorder) -> None:
    limits = make_limits(store, a_rate("messages", "address", "1/1s burst 3"))
    assert [limits.spend(who(), "messages").allowed for _ in range(3)] == [True] * 3
    refused = limits.spend(who(), "messages")
    assert (refused.allowed, refused.rule, refused.mode) == (False, "messages.per_address", "shared")
    assert 0 < refused.retry_after_s <= 1.0
    gevent.sleep(refused.retry_after_s)
    assert limits.spend(who(), "messages").allowed, "as soon as it was said"
    assert limits.spend(who(1, "192.0.2.2"), "messages").allowed, "another client"
    assert limits.spend(who(), "recipients", 10_000).allowed, "no such rule"
    assert events.decided[3] == ("messages.per_address", "refused", "shared")
    assert events.decided[-1] == ("messages", "allowed", "shared")


def test_all_subjects_or_none(store: Store, make_limits: Callable[..., Limits]) -> None:
    limits = make_limits(
        store,
        a_rate("recipients", "address", "100/1h"),
        a_rate("recipients", "user", "10/1h"),
        a_rate("recipients", "domain", "50/1h"),
        a_rate("recipients", "listener", "1000/1h"),
        a_rate("messages", "fleet", "3/1h"),
    )
    alice = who(1, user="alice")
    assert limits.spend(alice, "recipients", 10, "example.org").allowed
    for _ in range(20):
        assert limits.spend(alice, "recipients", 1, "example.org").rule == "recipients.per_user"
    bob = who(2, user="bob")
    assert [limits.spend(each, "recipients", 10, "example.org").allowed for each in (bob, who(3), who(3), who(3))] == [
        True
    ] * 4
    assert limits.spend(who(3), "recipients", 1, "EXAMPLE.org").rule == "recipients.per_domain"
    assert limits.spend(who(3), "recipients", 50, "example.net").allowed
    assert limits.spend(who(3), "recipients", 1, "example.com").rule == "recipients.per_address"
    assert limits.spend_all(who(4, "192.0.2.9"), {"messages": 3, "recipients": 101}).rule == "recipients.per_address"
    assert limits.spend_all(who(4, "192.0.2.9"), {"messages": 3, "recipients": 100}).allowed
    assert limits.spend(who(5, "192.0.2.10"), "messages").rule == "messages.fleet"


def test_more_than_the_burst_is_never_allowed_at_once(store: Store, make_limits: Callable[..., Limits]) -> None:
    limits = make_limits(store, a_rate("bytes", "address", "1000000000/1d burst 5000000"))
    assert not limits.spend(who(), "bytes", 5_000_001).allowed
    assert limits.spend(who(), "bytes", 5_000_000).allowed
    assert not limits.spend(who(), "bytes", 100_000).allowed


def test_what_happened_already_is_charged_and_what_was_too_much_given_back(
    store: Store, make_limits: Callable[..., Limits]
) -> None:
    limits = make_limits(store, a_rate("bytes", "address", "100/1h"))
    assert limits.spend(who(), "bytes", 10).allowed
    limits.charge(who(), "bytes", 90)
    assert not limits.spend(who(), "bytes", 1).allowed
    limits.charge(who(), "bytes", -40)
    assert limits.spend(who(), "bytes", 40).allowed
    assert not limits.spend(who(), "bytes", 1).allowed
    limits.charge(who(), "bytes", -500)
    assert not limits.spend(who(), "bytes", 101).allowed, "never more than there is"
    assert limits.spend(who(), "bytes", 100).allowed
    limits.charge(who(), "bytes", 1000)
    assert 35_000 < limits.spend(who(), "bytes", 1).retry_after_s < 37_000


def test_nobody_saves_up_more_than_a_burst_by_what_is_given_back(
    store: Store, make_limits: Callable[..., Limits]
) -> None:
    limits = make_limits(store, a_rate("bytes", "address", "100/1h"))
    assert limits.spend(who(), "bytes", 100).allowed
    limits.charge(who(), "bytes", -100, ago_s=1800)  # half of it has come back by itself
    assert not limits.spend(who(), "bytes", 55).allowed
    assert limits.spend(who(), "bytes", 50).allowed
    limits.charge(who(), "bytes", -100, ago_s=36_000)
    assert not limits.spend(who(), "bytes", 5).allowed
    limits.charge(who(), "bytes", 30, ago_s=36_000)  # what came beyond what was declared
    assert 1000 < limits.spend(who(), "bytes", 1).retry_after_s < 1200


def test_listeners_with_a_limit_of_their_own_count_apart(store: Store, make_limits: Callable[..., Limits]) -> None:
    limits = make_limits(store, a_rate("messages", "address", "2/1h", scope="mx"), AtOnce("address", 1, scope="mx"))
    keys = LimitKeys("mta")
    assert limits.connected(who(1)).allowed
    assert limits.spend(who(1), "messages").allowed
    assert store.keys() >= {
        keys.lease("connections.per_address", "mx") + "192.0.2.1",
        keys.rate("messages.per_address", "mx", "2/1h") + "192.0.2.1",
    }


def test_three_workers_and_200_clients_at_once_never_pass_count_and_burst(
    store: Store, make_limits: Callable[..., Limits], events: LimitsRecorder
) -> None:
    rule = a_rate("connection_rate", "address", "100/1s burst 20")
    workers = [make_limits(store, rule, timeout_ms=2000, slow_ms=1000) for _ in range(3)]
    taken: list[float] = []

    def client(number: int) -> None:
        for turn in range(10):
            if workers[number % 3].connected(who(f"{number}-{turn}")).allowed:
                taken.append(time.monotonic())
            gevent.sleep(0.05)

    began = time.monotonic()
    at_once([partial(client, number) for number in range(200)])
    took_s = time.monotonic() - began
    assert events.modes == []
    assert len(taken) <= 20 + 100 * took_s
    assert len(taken) >= 100 * (took_s - 0.5)
    for first in range(len(taken)):
        assert sum(taken[first] <= at <= taken[first] + 0.9 for at in taken) <= 120


@given(
    count=st.integers(1, 20),
    burst=st.integers(1, 20),
    period_s=st.integers(1, 10),
    steps=st.lists(st.tuples(st.integers(0, 3_000_000), st.integers(1, 4)), min_size=1, max_size=60),
)
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_never_more_than_count_and_burst_in_any_window(
    store: Store, count: int, burst: int, period_s: int, steps: list[tuple[int, int]]
) -> None:
    """The script itself in the store, with the example's clock in place of TIME."""
    rate = Rate(count, float(period_s), burst)
    store.ask("FLUSHALL")
    now_us = 1_700_000_000_000_000
    taken: list[tuple[int, int]] = []
    for pause_us, amount in steps:
        now_us += pause_us
        call = calls.Question(LimitKeys("mta"), (), (), [(PerTime("messages", "address", rate), "k", amount)])
        args = call.call("1", "s").args
        args[args.index(0, 3)] = 1 << 53
        text = calls.TEXTS[0].replace("call('TIME')", f"{{{now_us // 1_000_000}, {now_us % 1_000_000}}}")
        reply = store.ask("EVAL", text, *args[2:])
        model = sum(spent for _, spent in taken)
        if reply == 0:
            taken.append((now_us, amount))
        else:
            number, wait_ms = reply
            assert number == 1
            assert amount > burst or 0 < wait_ms <= period_s * 1000 * (burst + amount) / count + 1
            assert model or amount > burst, "nothing is refused to who has spent nothing, but more than the burst"
    window_us = period_s * 1_000_000
    for start, _ in taken:
        assert sum(spent for at, spent in taken if start <= at <= start + window_us) <= count + burst
    assert all(earlier <= later for (earlier, _), (later, _) in pairwise(taken))
