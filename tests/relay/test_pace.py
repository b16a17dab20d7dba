"""Next hops that get messages at a rate, and those for whom not too many may wait."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest

from mta_front.relay import hop as hop_module
from mta_front.relay.pace import Pace
from mta_front.relay.transports.opener import SmtpOptions, Target
from mta_front.relay.transports.smtp import SmtpTransport
from mta_front.settings.values import parse_bind
from mta_front.store.limits.rules import Rate
from tests.relay.attempts import Noted, Try, deliver
from tests.relay.scripted import ScriptedHop, Talk


def test_a_burst_and_then_one_by_one() -> None:
    pace = Pace(Rate(60, 60.0, 3))
    now = 1000.0
    for _ in range(3):
        assert pace.wait_s(now) == 0.0
        pace.take(now)
    assert pace.wait_s(now) == pytest.approx(1.0)
    assert pace.wait_s(now + 0.4) == pytest.approx(0.6)
    assert pace.wait_s(now + 1.0) == pytest.approx(0.0)
    assert pace.last_in_s(10, now) == pytest.approx(11.0)


@pytest.mark.parametrize("burst", [1, 5])
def test_never_more_than_the_rate_and_the_burst(burst: int) -> None:
    pace = Pace(Rate(10, 1.0, burst))
    sent = []
    for tick in range(5000):
        now = 1000.0 + tick / 1000
        if pace.wait_s(now) == 0.0:
            pace.take(now)
            sent.append(now)
    for at in sent:
        assert sum(at <= other < at + 1.0 for other in sent) <= 10 + burst
    assert 50 <= len(sent) <= 50 + burst


def test_turns_are_promised_one_after_the_other() -> None:
    pace = Pace(Rate(10, 1.0, 1))
    pace.take(1000.0)
    turns = [pace.promise(5, 1000.0) for _ in range(3)]
    assert turns == pytest.approx([0.7, 0.8, 0.9])
    assert pace.promise(5, 1010.0) == pytest.approx(0.6), "promises do not pile up"


@pytest.fixture
def make() -> Iterator[Callable[..., SmtpTransport]]:
    noted, made = Noted(), list[SmtpTransport]()

    def transport(hop: ScriptedHop, **more: Any) -> SmtpTransport:
        options = SmtpOptions("smtp", "me.example", 4, 5.0, 5.0, **more)
        made.append(SmtpTransport([Target(parse_bind(hop.address))], options, noted))
        return made[-1]

    yield transport
    for each in made:
        each.close()
    assert noted.faults == []


def test_a_hop_gets_messages_at_its_rate(make: Callable[..., SmtpTransport]) -> None:
    with ScriptedHop() as hop:
        transport = make(hop, rate=Rate(20, 1.0, 5))
        began_at = time.monotonic()
        deliver(transport, *(tries := [Try() for _ in range(15)]))
        assert time.monotonic() - began_at >= 10 / 20
        assert {each.only.kind for each in tries} == {"delivered"}


def test_it_is_not_silent_while_its_pace_holds_mail_back(
    make: Callable[..., SmtpTransport], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hop_module, "PATIENCE_S", 0.05)
    with ScriptedHop() as hop:
        transport = make(hop, rate=Rate(3, 1.0, 1))
        tries = [Try() for _ in range(3)]
        for each in tries:
            transport.deliver(each.attempt)
        while not all(each.reports for each in tries):
            transport.look(time.monotonic())
            gevent.sleep(0.01)
        assert {each.only.kind for each in tries} == {"delivered"}


def test_who_would_wait_too_long_gets_a_turn(
    make: Callable[..., SmtpTransport], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hop_module, "TURN_S", 0.2)
    with ScriptedHop() as hop:
        transport = make(hop, rate=Rate(10, 1.0, 1))
        deliver(transport, *(tries := [Try() for _ in range(10)]))
        kinds = [each.only.kind for each in tries]
        put_off = kinds.count("deferred")
        assert 6 <= put_off <= 8
        waits = sorted(each.only.wait_s for each in tries if each.only.kind == "deferred")
        assert waits[0] > 0.2
        assert all(later - sooner > 0.08 for sooner, later in itertools.pairwise(waits))


def test_only_so_many_wait(make: Callable[..., SmtpTransport]) -> None:
    def stuck(talk: Talk) -> None:
        talk.hear()

    with ScriptedHop(stuck) as hop:
        transport = make(hop, max_waiting=3)
        tries = [Try() for _ in range(5)]
        for each in tries:
            transport.deliver(each.attempt)
        assert [each.reports for each in tries] == [0, 0, 0, 1, 1]
        assert tries[-1].only.wait_s == hop_module.CROWD_S
        assert tries[-1].only.text == f"4.4.5 3 messages wait for {hop.address}"
