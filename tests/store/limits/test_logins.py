"""Failed logins: who is locked out, who is not, and that guesses at once do not pass the limit."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import gevent
import pytest

from mta_front.store.limits.rules import AtOnce, AuthRules, Rate
from mta_front.store.limits.shared import Limits
from mta_front.store.limits.verdict import AuthVerdict
from tests.store.limits.parts import LimitsRecorder, a_rate, at_once, names_in, who
from tests.store.parts import until
from tests.stores import Store

RULES = AuthRules(
    per_address=Rate.parse("10/10m"),
    per_user=Rate.parse("20/10m"),
    per_pair=Rate.parse("5/10m"),
    lockout_s=(60.0, 300.0, 3600.0),
    tarpit_s=(0.5, 8.0),
)


def guess(limits: Limits, number: object, address: str, user: str, good: bool = False) -> AuthVerdict:
    """Asked and told; the verdict that refused, or the last."""
    session = who(str(number), address)
    verdict = limits.authenticating(session, user)
    return limits.authenticated(session, user, good) if verdict.allowed else verdict


def test_the_pair_is_locked_out_after_its_failures_and_told_later_each_time(
    store: Store, make_limits: Callable[..., Limits], events: LimitsRecorder
) -> None:
    limits = make_limits(store, RULES)
    delays = [guess(limits, 1, "192.0.2.1", "alice").delay_s for _ in range(5)]
    assert delays == [0.5, 1.0, 2.0, 4.0, 8.0]
    locked = guess(limits, 1, "192.0.2.1", "Alice", good=True)
    assert (locked.allowed, locked.rule) == (False, "auth_failures.per_pair")
    assert 110 < locked.retry_after_s <= 120, "60 s of lock-out, and until one failure of 5 in 10 min is forgotten"
    assert guess(limits, 1, "192.0.2.1", "bob", good=True).allowed, "others at this address"
    assert guess(limits, 1, "192.0.2.2", "alice", good=True).allowed, "she, elsewhere"
    assert events.decided[-3] == ("auth_failures.per_pair", "refused", "shared")


def test_only_failures_count_and_a_login_clears_the_pair(store: Store, make_limits: Callable[..., Limits]) -> None:
    limits = make_limits(store, RULES)
    for _ in range(30):
        assert guess(limits, 1, "192.0.2.1", "alice", good=True).allowed
    for _ in range(4):
        for _ in range(2):
            assert not guess(limits, 1, "192.0.2.1", "alice").rule
        assert guess(limits, 1, "192.0.2.1", "alice", good=True).allowed
    for _ in range(4):
        assert guess(limits, 1, "192.0.2.1", "alice").delay_s < 8
    assert guess(limits, 1, "192.0.2.1", "alice", good=True).allowed


def test_nobody_knows_is_no_failure(store: Store, make_limits: Callable[..., Limits]) -> None:
    limits = make_limits(store, RULES)
    for number in range(30):
        session = who(number)
        assert limits.authenticating(session, "alice").allowed
        if number % 2:
            limits.authenticated(session, "alice", None)
        limits.closed(session)
    until(lambda: not any(":try:" in key or ":auth:" in key for key in names_in(store)))


def test_an_address_that_guesses_at_many_users_is_locked_out_and_its_known_users_are_not(
    store: Store, make_limits: Callable[..., Limits]
) -> None:
    limits = make_limits(store, RULES)
    assert guess(limits, 0, "192.0.2.1", "resident", good=True).allowed
    verdicts = [guess(limits, 1, "192.0.2.1", f"user{number}") for number in range(11)]
    assert [verdict.rule for verdict in verdicts] == [""] * 10 + ["auth_failures.per_address"]
    assert guess(limits, 2, "192.0.2.1", "newcomer", good=True).rule == "auth_failures.per_address"
    assert guess(limits, 3, "192.0.2.1", "resident", good=True).allowed


def test_one_nat_with_1000_users_is_not_locked_out_by_one_wrong_password(
    store: Store, make_limits: Callable[..., Limits]
) -> None:
    limits = make_limits(store, RULES, timeout_ms=2000, slow_ms=1000)
    assert not guess(limits, 0, "192.0.2.1", "user7").allowed

    def log_in(number: int) -> bool:
        session = who(number)
        if not limits.authenticating(session, f"user{number}").allowed:
            return False
        gevent.sleep(0.001)  # the backend
        return limits.authenticated(session, f"user{number}", True).allowed

    assert all(log_in(number) for number in range(500))
    assert all(at_once([partial(log_in, number) for number in range(500, 600)])), "first visits, all at once: in turn"
    assert all(at_once([partial(log_in, number) for number in range(500)])), "known ones"


def test_a_sprayed_user_is_protected_and_not_locked_out(store: Store, make_limits: Callable[..., Limits]) -> None:
    limits = make_limits(store, RULES)
    assert guess(limits, "home", "198.51.100.1", "alice", good=True).allowed
    tested = 0
    for turn in range(3):
        for number in range(300):
            address = f"10.0.{number // 250}.{number % 250}"
            session = who(f"{turn}-{number}", address)
            verdict = limits.authenticating(session, "alice")
            if verdict.allowed:
                tested += 1
                assert bool(verdict.delay_s) == (tested > 20), "beyond the rate: addresses that never failed, and late"
                limits.authenticated(session, "alice", False)
            else:
                assert verdict.rule == "auth_failures.per_user"
    assert tested <= 40, "the rate, and once more for addresses that have never failed"
    home = limits.authenticating(who("home2", "198.51.100.1"), "alice")
    assert (home.allowed, home.delay_s) == (True, 0.0), "judged by the pair alone"
    assert limits.authenticated(who("home2", "198.51.100.1"), "alice", True).allowed


def test_a_new_address_at_a_user_under_attack_is_late_and_not_refused(
    store: Store, make_limits: Callable[..., Limits]
) -> None:
    limits = make_limits(store, RULES)
    for number in range(4):
        for _ in range(5):
            guess(limits, number, f"10.0.0.{number}", "alice")
    session = who("new", "198.51.100.9")
    verdict = limits.authenticating(session, "alice")
    assert (verdict.allowed, verdict.delay_s, verdict.rule) == (True, 8.0, "auth_failures.per_user")
    assert limits.authenticated(session, "alice", True).allowed
    again = limits.authenticating(who("again", "198.51.100.9"), "alice")
    assert (again.allowed, again.delay_s) == (True, 0.0), "known from now on"
    assert guess(limits, "x", "10.0.0.1", "alice", good=True).rule, "an address that failed has to wait"


@pytest.mark.parametrize(
    ("addresses", "users", "most"), [(1, 1, 5), (1, 200, 10), (200, 1, 40)], ids=["pair", "address", "user"]
)
def test_200_guesses_at_once_by_three_workers_do_not_pass_the_limit(
    store: Store, make_limits: Callable[..., Limits], addresses: int, users: int, most: int
) -> None:
    workers = [make_limits(store, RULES, timeout_ms=2000, slow_ms=1000) for _ in range(3)]
    tested = []

    def attack(number: int) -> None:
        limits, session = workers[number % 3], who(number, f"10.0.0.{number % addresses}")
        user = f"user{number % users}"
        if limits.authenticating(session, user).allowed:
            gevent.sleep(0.02)  # the backend
            tested.append(number)
            assert not limits.authenticated(session, user, False).allowed

    at_once([partial(attack, number) for number in range(200)])
    assert most // 2 <= len(tested) <= most


def test_lockouts_grow_and_are_forgotten(store: Store, make_limits: Callable[..., Limits]) -> None:
    rules = AuthRules(per_pair=Rate.parse("3/1s"), lockout_s=(0.3, 0.6, 1.2), known_address_days=0)
    limits = make_limits(store, rules)

    def locked_out() -> int:
        """Fail until it is locked out; the how manieth time it is."""
        for _ in range(10):
            verdict = guess(limits, 1, "192.0.2.1", "alice")
            if verdict.rule:
                key = next(name for name in names_in(store) if ":auth:" in name)
                stage = int(store.ask("HGET", key, "stage"))
                assert verdict.retry_after_s <= rules.lockout_s[stage - 1] + 0.34
                return stage
        raise AssertionError("never locked out")

    stages = []
    for _ in range(4):
        stages.append(locked_out())
        until(lambda: limits.authenticating(who(1), "alice").allowed)
        limits.authenticated(who(1), "alice", None)
    assert stages == [1, 2, 3, 3], "the last repeats"
    until(lambda: not any(":auth:" in key for key in names_in(store)), 15.0)
    assert locked_out() == 1, "from the start"


def test_a_user_has_so_many_connections_and_logins(store: Store, make_limits: Callable[..., Limits]) -> None:
    limits = make_limits(store, RULES, AtOnce("user", 2), a_rate("connection_rate", "user", "5/1h"))
    for number in range(2):
        assert guess(limits, number, "192.0.2.1", "alice", good=True).allowed
    refused = guess(limits, 3, "192.0.2.1", "alice", good=True)
    assert (refused.allowed, refused.rule) == (False, "connections.per_user")
    assert guess(limits, 0, "192.0.2.1", "bob", good=True).allowed, "a second login of this session"
    assert guess(limits, 4, "192.0.2.1", "alice", good=True).allowed, "takes the place of the first"
    limits.closed(who(1))
    limits.closed(who(4))
    assert guess(limits, 5, "192.0.2.1", "alice", good=True).allowed
    limits.closed(who(5))
    assert guess(limits, 6, "192.0.2.1", "alice", good=True).allowed
    limits.closed(who(6))
    spent = guess(limits, 7, "192.0.2.1", "alice", good=True)
    assert (spent.allowed, spent.rule) == (False, "connection_rate.per_user")
    assert spent.retry_after_s > 60


def test_at_most_16_addresses_of_a_user_are_known(store: Store, make_limits: Callable[..., Limits]) -> None:
    limits = make_limits(store, RULES)
    for number in range(40):
        assert guess(limits, number, f"10.0.0.{number}", "alice", good=True).allowed
    assert store.ask("ZCARD", "mta:{limits}:known:alice") == 16
    assert store.ask("ZSCORE", "mta:{limits}:known:alice", "10.0.0.39")
    assert 0 < store.ask("PTTL", "mta:{limits}:known:alice") <= 30 * 86_400_000


def test_a_spray_does_not_fill_the_store(store: Store, make_limits: Callable[..., Limits]) -> None:
    limits = make_limits(store, RULES, timeout_ms=2000, slow_ms=1000)

    def spray(number: int) -> None:
        for user in range(40):
            guess(limits, f"{number}-{user}", f"10.0.{number >> 8}.{number & 255}", f"user{user}")

    at_once([partial(spray, number) for number in range(100)])
    names = names_in(store)
    pairs = sum(":auth:per_pair" in name for name in names)
    assert pairs <= 100 * 10, "an address is locked out before it can make more"
    assert all(store.ask("PTTL", name) > 0 for name in names)


def test_an_address_is_not_needed(store: Store, make_limits: Callable[..., Limits]) -> None:
    limits = make_limits(store, RULES)
    verdicts = [guess(limits, number, "", "alice") for number in range(21)]
    assert [verdict.rule for verdict in verdicts] == [""] * 20 + ["auth_failures.per_user"]
