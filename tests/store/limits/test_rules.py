"""Rates as text, who is one client, who is exempt. And what a worker decides by itself. Pure."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta_front.store.keys import LimitKeys
from mta_front.store.limits.alone import Alone
from mta_front.store.limits.breaker import GOOD_PROBES, RETURN_S, Breaker
from mta_front.store.limits.calls import Question
from mta_front.store.limits.local import MOST, Holds, LocalCounts
from mta_front.store.limits.rules import AtOnce, PerTime, Rate, Rules
from mta_front.store.limits.terms import AllTerms, ban_names, client_of, named
from tests.store.limits.parts import options_of

KEYS = LimitKeys("mta")


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("60/1m", Rate(60, 60.0, 60)),
        ("60/1m burst 10", Rate(60, 60.0, 10)),
        ("1/31d", Rate(1, 31 * 86400.0, 1)),
        (" 500/1h ", Rate(500, 3600.0, 500)),
        ("7/90s", Rate(7, 90.0, 7)),
    ],
)
def test_a_rate_is_read(text: str, rate: Rate) -> None:
    assert Rate.parse(text) == rate
    assert Rate.parse(str(rate)) == rate


@pytest.mark.parametrize(
    "text",
    ["", "60", "60/m", "60/1w", "0/1m", "60/0s", "60/1m burst 0", "60/32d", "-1/1m", "1.5/1m", "60/1m burst", "٦/1m",
     "1/31d burst 2", "60 / 1m"],
)  # fmt: skip
def test_what_is_no_rate(text: str) -> None:
    with pytest.raises(ValueError, match="must"):
        Rate.parse(text)


@given(st.integers(1, 10**15), st.integers(1, 31 * 86400), st.integers(1, 10**9))
def test_a_rate_never_promises_more_than_it_says(count: int, period_s: int, amount: int) -> None:
    rate = Rate(count, float(period_s), count)
    assert rate.cost_us(amount) * count >= amount * period_s * 1_000_000
    assert rate.cost_us(count) <= period_s * 1_000_000 * 1.001 + 1, "and hardly less"
    assert rate.room_us == rate.cost_us(rate.burst), "a whole burst fits"


@pytest.mark.parametrize(
    ("address", "client"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:DB8:0:0:1::9%eth0", "2001:db8::/64"),
        ("", ""),
        ("nonsense", ""),
    ],
)
def test_who_is_one_client(address: str, client: str) -> None:
    assert client_of(options_of("unix:///s"), address) == client


def test_prefixes_are_settings() -> None:
    options = options_of("unix:///s", ipv4_prefix=24, ipv6_prefix=48)
    assert client_of(options, "192.0.2.77") == "192.0.2.0/24"
    assert client_of(options, "2001:db8:7:8::1") == "2001:db8:7::/48"
    assert "address:192.0.2.0/24" in ban_names(options, "192.0.2.77")


def test_networks_and_listeners_have_rules_of_their_own_and_exempt_ones_none() -> None:
    of_all, of_mx, of_office, of_office_mx = (Rules(at_once=(AtOnce("address", n),)) for n in range(1, 5))
    options = options_of(
        "unix:///s",
        listeners={"mx": of_mx},
        networks=(
            (ip_network("10.1.0.0/16"), {"mx": of_office_mx}),
            (ip_network("10.0.0.0/8"), {"mx": of_office}),
        ),
        exempt=(ip_network("127.0.0.0/8"), ip_network("::1/128")),
    )
    assert options.rules_for("mx", "192.0.2.1") is of_mx
    assert options.rules_for("other", "192.0.2.1") is options.rules
    assert options.rules_for("mx", "10.1.2.3") is of_office_mx, "the first match wins"
    assert options.rules_for("mx", "::ffff:10.2.2.3") is of_office
    assert options.rules_for("mx", "127.0.0.1") is None
    assert options.rules_for("mx", "127.0.0.1", trusted=False) is of_mx, "W10: a proxy that speaks for itself"
    assert options.rules_for("mx", "10.1.2.3", trusted=False) is of_mx, "W12: XCLIENT said so"
    assert options.rules_for("mx", "") is of_mx
    assert set(options.all_rules()) >= {of_mx, of_office, of_office_mx}
    assert of_all not in options.all_rules()


def test_names_are_one_whatever_their_case_or_form_and_bounded() -> None:
    assert named("Alice") == named("ALICE") == named("\uff21lice")
    assert named("straße") == named("STRASSE")
    assert len(named("x" * 10_000)) < 50
    assert named("a\nb") != named("a\tb")
    assert named("a\nb").isprintable()
    assert named("\udcff").isprintable()


def test_a_session_asks_only_what_there_is_of_it() -> None:
    options = options_of(
        "unix:///s", AtOnce("address", 1), AtOnce("fleet", 1), PerTime("connection_rate", "address", Rate(1, 1.0, 1))
    )
    terms = AllTerms(options).find("mx", "", True)
    assert terms is not None
    assert [rule.name for rule, _ in terms.begin()] == ["connections.fleet"]
    assert terms.spent({"connection_rate": 1}, "", "") == []
    assert terms.bans == ()


# -- the breaker --------------------------------------------------------------------------------------------------


def test_the_breaker_opens_at_once_when_a_call_fails_and_tells_it_once() -> None:
    breaker = Breaker(0.05)
    assert breaker.admits(0.0, 0.999)
    assert breaker.failed()
    assert not breaker.failed()
    assert not breaker.admits(0.0, 0.0)


@pytest.mark.parametrize("took_s", [0.06, 0.2, 0.24])
def test_a_store_that_becomes_slow_is_left_alone_within_a_second(took_s: float) -> None:
    breaker = Breaker(0.05)
    now, trip = 0.0, 0
    for trip in range(1000):  # quick until now
        now += 0.0005
        assert not breaker.heard(now, 0.0005, trip)
    slow_since = now
    while not breaker.heard(now := now + took_s, took_s, trip := trip + 1):
        assert now - slow_since < 1.0
    assert now - slow_since <= 1.0
    assert breaker.open


def test_a_hiccup_is_no_slow_store() -> None:
    breaker = Breaker(0.05)
    assert not any(breaker.heard(1.0, 0.3, 1) for _ in range(200)), "one trip that was slow for 200 who shared it"
    assert not any(breaker.heard(2.0 + n / 10, 0.06 if n % 3 == 0 else 0.001, n) for n in range(200))


def test_it_closes_after_good_probes_and_sessions_come_back_over_a_second() -> None:
    breaker = Breaker(0.05)
    breaker.failed()
    assert not breaker.probed(0.001)
    assert not breaker.probed(0.1), "a slow one: from the start"
    for _ in range(GOOD_PROBES - 1):
        assert not breaker.probed(0.001)
    assert breaker.open
    assert breaker.probed(0.001)
    assert breaker.come_back(10.0)
    lots = [number / 100 for number in range(100)]
    back = [sum(breaker.admits(10.0 + RETURN_S * part, lot) for lot in lots) for part in (0.0, 0.25, 0.5, 0.99)]
    assert back == sorted(back)
    assert back[0] == 0
    assert 45 <= back[2] <= 55
    assert not breaker.settled(10.5)
    assert breaker.settled(10.0 + RETURN_S)
    assert not breaker.settled(12.0)
    assert breaker.closed


def test_a_failure_on_the_way_back_opens_it_again() -> None:
    breaker = Breaker(0.05)
    breaker.failed()
    assert [breaker.probed(0.001) for _ in range(GOOD_PROBES)][-1]
    breaker.failed()
    assert not breaker.come_back(1.0), "it failed after the last probe"
    assert [breaker.probed(0.001) for _ in range(GOOD_PROBES)][-1]
    assert breaker.come_back(2.0)
    assert breaker.failed(), "that is news"
    assert not breaker.settled(99.0)
    assert not breaker.admits(99.0, 0.0)


# -- a worker alone -----------------------------------------------------------------------------------------------


def asked(*rules: AtOnce | PerTime) -> Question:
    """What a session that begins asks of these."""
    terms = AllTerms(options_of("unix:///s", *rules)).find("mx", "192.0.2.1", True)
    assert terms is not None
    return Question(KEYS, terms.bans, terms.begin(), terms.spent({"connection_rate": 1, "messages": 1}, "", ""))


@pytest.mark.parametrize(("limit", "fleet", "share"), [(50, 4, 13), (50, 1, 50), (2, 10, 1), (9, 3, 3)])
def test_a_worker_alone_has_its_share_of_connections_rounded_up(limit: int, fleet: int, share: int) -> None:
    holds = Holds()
    alone = Alone(holds)
    alone.fleet = fleet
    question = asked(AtOnce("address", limit))
    taken = 0
    for number in range(limit + 1):
        holds.add(str(number), question.lease_keys)
        verdict = alone.decide(question, 0.0)
        assert verdict.mode == "local"
        taken += verdict.allowed
        if not verdict.allowed:
            assert verdict.rule == "connections.per_address"
            holds.remove(str(number))
    assert taken == min(share, limit + 1)


def test_each_rule_does_what_it_says_for_when_the_store_is_away() -> None:
    alone = Alone(Holds())
    rate = Rate(2, 60.0, 2)
    opened = asked(AtOnce("address", 0, "open"), PerTime("messages", "address", Rate(1, 60.0, 1), "open"))
    assert [(alone.decide(opened, 0.0).allowed, alone.decide(opened, 0.0).mode) for _ in range(3)] == [
        (True, "open")
    ] * 3
    closed = alone.decide(asked(PerTime("messages", "address", rate, "closed")), 0.0)
    assert (closed.allowed, closed.rule, closed.mode) == (False, "messages.per_address", "closed")
    local = asked(PerTime("messages", "address", rate, "local"))
    assert [alone.decide(local, 0.0).allowed for _ in range(3)] == [True, True, False]
    assert alone.decide(local, 0.0).retry_after_s == pytest.approx(30.0)
    assert alone.decide(local, 30.0).allowed
    assert alone.decide(local, 90.0).allowed, "nothing stale is replayed"


def test_what_a_worker_counts_alone_is_bounded() -> None:
    counts = LocalCounts()
    rate = Rate(1, 86400.0, 1)
    for number in range(MOST + 500):
        counts.take([(f"k{number}", rate, 1)], 1.0)
    assert len(counts._arrivals) <= MOST
    assert counts.wait_s("k3", rate, 1, 1.0) == 0
    assert counts.wait_s(f"k{MOST + 400}", rate, 1, 1.0) > 0


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["add", "user", "leave", "close"])), max_size=60))
def test_holds_agree_with_a_plain_model(steps: list[tuple[str, str]]) -> None:
    holds, model = Holds(), dict[str, list[str]]()
    for session, what in steps:
        match what:
            case "add":
                if session not in model:
                    holds.add(session, ("x", f"of-{session}"))
                    model[session] = ["x", f"of-{session}"]
            case "user":
                if "u" not in model.get(session, []):
                    holds.add(session, ("u",))
                    model.setdefault(session, []).append("u")
            case "leave":
                gone = holds.remove(session, ("u",))
                assert list(gone) == [each for each in model.get(session, []) if each == "u"]
                model[session] = [each for each in model.get(session, []) if each != "u"]
            case _:
                assert sorted(holds.remove(session)) == sorted(model.pop(session, []))
        model = {name: held for name, held in model.items() if held}
        for lease in ("x", "u", "of-a"):
            assert holds.count(lease) == sum(held.count(lease) for held in model.values())
        assert sorted(holds.sessions()) == sorted(model)
