"""Three masters on one Redis hold one client to its limits: leases exactly, rates to count and burst."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.front import Front
from tests.limits.fleet import CLIENT, WITH_USERS, a_fleet, all_say, codes, held, limits, login, rush
from tests.smtp_talk import Talk
from tests.stores import Store
from tests.wait import until

CLIENTS = 200
EACH = [f"198.18.{number // 250}.{number % 250 + 1}" for number in range(CLIENTS)]
"""So many clients, of whom no two have the same address."""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store("redis", tmp_path / "redis").start()


def test_what_is_held_at_once_is_exact(tmp_path: Path, store: Store, figures: Callable[[str], None]) -> None:
    """Of 200 that come at once as many are let in as may be, no more and no less; and again after they have left."""
    connections = {"per_address": 50, "per_user": 30, "fleet": 120}
    guesses = {"per_address": "", "per_user": "", "per_pair": "5/1h", "tarpit_s": 0.0}
    fleet = a_fleet(tmp_path, store, limits(connections=connections, auth_failures=guesses), **WITH_USERS)
    let_in = []
    for _ in range(3):
        with rush(fleet, [CLIENT] * CLIENTS) as talks:
            heard = codes(talks)
            assert set(heard) == {220, 421}
            let_in.append(heard.count(220))
            inside = [talk for talk, code in zip(talks, heard, strict=True) if code == 220]
            for talk in inside[:10]:
                talk.quit()
            until(lambda: held(store, CLIENT) == let_in[-1] - 10, 10.0, "10 leases are given back")
            with rush(fleet, [CLIENT] * CLIENTS) as others:
                assert codes(others).count(220) == 10
        until(lambda: held(store, CLIENT) == 0, 10.0, "all leases are given back")
    assert let_in == [50, 50, 50]
    with rush(fleet, EACH) as talks:
        assert codes(talks).count(220) == 120
    until(lambda: held(store, "all") == 0, 10.0, "the fleet's leases are given back")
    with rush(fleet, EACH[:100]) as talks:
        assert set(codes(talks)) == {220}
        assert set(all_say(talks, "EHLO client.example")) == {250}
        heard = all_say(talks, login())
        assert (heard.count(235), heard.count(421)) == (30, 70)
    until(lambda: held(store, "all") == 0, 10.0, "the fleet's leases are given back")
    with rush(fleet, [CLIENT] * 50) as talks:
        assert set(codes(talks)) == {220}
        assert set(all_say(talks, "EHLO client.example")) == {250}
        heard = all_say(talks, login(password="wrong"))
        assert (heard.count(535), heard.count(454)) == (5, 45)
    figures(
        f"{CLIENTS} clients at once, 3 masters: limit 50, {let_in} let in; limit of a user 30, 30 logged in; "
        f"5 guesses, of 50 at once 5 tested"
    )


def _mail(domain: str, parameters: str = "") -> Callable[[list[Talk]], list[int]]:
    return lambda talks: all_say(talks, f"MAIL FROM:<a@{domain}>{parameters}")


def _recipients(talks: list[Talk]) -> list[int]:
    assert set(_mail("third.example")(talks)) == {250}
    return all_say(talks, "RCPT TO:<b@ours.example>")


def _fail(talks: list[Talk]) -> list[int]:
    assert set(all_say(talks, "NONSENSE\r\nNOOP")) == {500}
    return codes(talks)


RATES = {
    "messages": {"per_address": "20/1m burst 30"},
    "bytes": {"per_domain": "2000/1m burst 3000"},
    "recipients": {"per_domain": "20/1m burst 30"},
    "failed_commands": {"per_address": "20/1m burst 30"},
}
CASES: dict[str, tuple[Sequence[str], Callable[[list[Talk]], list[int]], int]] = {
    "messages of an address": (["192.0.2.1"] * CLIENTS, _mail("first.example"), 450),
    "octets from a domain": (EACH, _mail("second.example", " SIZE=100"), 450),
    "recipients of a domain's mail": (EACH, _recipients, 450),
    "failed commands of an address": (["192.0.2.2"] * CLIENTS, _fail, 421),
}


def test_rates_hold_over_all_masters(tmp_path: Path, store: Store, figures: Callable[[str], None]) -> None:
    """The burst of 30 at once, and never more than that and the count of 20 in a minute."""
    fleet = a_fleet(tmp_path, store, limits(**RATES))
    for name, (addresses, act, refusal) in CASES.items():
        taken, refused, took_s = _rush(fleet, addresses, act, refusal)
        assert refused == CLIENTS - taken
        assert 30 <= taken <= 30 + 20 * took_s / 60 + 1, f"{name}: {taken} in {took_s:.1f} s"
        figures(f"{CLIENTS} clients at once, 3 masters, {name}: 20/1m burst 30, {taken} in {took_s:.2f} s")


def _rush(
    fleet: Sequence[Front], addresses: Sequence[str], act: Callable[[list[Talk]], list[int]], refusal: int
) -> tuple[int, int, float]:
    with rush(fleet, addresses) as talks:
        assert set(codes(talks)) == {220}
        assert set(all_say(talks, "EHLO client.example")) == {250}
        began_at = time.monotonic()
        heard = act(talks)
        return heard.count(250), heard.count(refusal), time.monotonic() - began_at
