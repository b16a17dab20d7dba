"""Guesses over real sockets: what a client hears, and who is locked out."""

from __future__ import annotations

import re
import threading
import time
from base64 import b64decode, b64encode
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from signal import SIGTERM
from typing import Any

import pytest

from tests.front import Front
from tests.limits.fleet import WITH_USERS, a_front, greeted, held, limits, login
from tests.smtp_talk import Silence, Talk
from tests.stores import Store

FASTER = {
    "per_address": "10/6s",
    "per_user": "20/6s",
    "per_pair": "5/6s",
    "lockout_s": [0.6, 3, 36],
    "tarpit_s": 0.005,
    "tarpit_max_s": 0.08,
}
"""What `serve` has by default, a hundred times as fast."""
SLOWER = {"lockout_s": [60], "tarpit_s": 0.0, "tarpit_max_s": 0.0}
"""Who is locked out stays it as long as a test."""

SCRAM: dict[str, Any] = {"listener": {"auth_methods": ["PLAIN", "SCRAM-SHA-256"]}}
TOKENS: dict[str, Any] = {"listener": {"auth_methods": ["PLAIN", "OAUTHBEARER"]}}

HOME = "203.0.113.1"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store("redis", tmp_path / "redis").start()


def guess(front: Front, address: str, user: str = "user", password: str = "wrong") -> str:
    """One login on a connection of its own: the answer."""
    with greeted(front, address, 30.0) as talk:
        return str(talk.command(login(user, password)))


def test_what_a_client_hears(tmp_path: Path, store: Store) -> None:
    """535 while it may guess; then 454, or 421 where no login on this connection would help. Never why."""
    rates = {"per_address": "4/1h", "per_user": "6/1h", "per_pair": "2/1h"}
    front = a_front(tmp_path / "pod", store, limits(auth_failures=SLOWER | rates), **WITH_USERS).start()
    assert guess(front, HOME, password="correct horse").startswith("235")
    with greeted(front, "192.0.2.1") as talk:
        assert [talk.command(login("user1", "wrong")).code for _ in range(3)] == [535, 535, 454]  # the pair
        assert talk.command(login("user1")).code == 454  # the right password too: the answer says nothing of it
        assert [talk.command(login("user2", "wrong")).code for _ in range(2)] == [535, 535]
        assert talk.command(login("user3", "wrong")).code == 421  # the address
        assert talk.ended()
    for number in range(2, 5):
        assert [guess(front, f"192.0.2.{number}")[:3] for _ in range(3)] == ["535", "535", "454"]
    assert guess(front, "192.0.2.5")[:3] in ("535", "454")  # the user is locked out: who is new may try now and then
    assert guess(front, HOME, password="correct horse").startswith("235")  # but not at home
    assert guess(front, HOME).startswith("535")
    words = {guess(front, "192.0.2.1"), guess(front, "192.0.2.2"), guess(front, "192.0.2.1", "nobody")}
    assert words == {
        "421 4.7.0 Too many connections or failures, try again later",
        "454 4.7.0 Authentication not available now, try again later",
    }


def test_success_clears_the_pair_and_only_failures_count(tmp_path: Path, store: Store) -> None:
    rates = {"per_address": "", "per_user": "", "per_pair": "3/1h"}
    front = a_front(tmp_path / "pod", store, limits(auth_failures=SLOWER | rates), **WITH_USERS).start()
    for _ in range(5):
        assert [guess(front, HOME)[:3] for _ in range(2)] == ["535", "535"]
        assert guess(front, HOME, password="correct horse").startswith("235")
    for _ in range(10):
        assert guess(front, HOME, password="correct horse").startswith("235")
    for _ in range(10):  # what is no guess, is none
        assert guess(front, HOME, "away") == "454 4.7.0 The directory is away"
        assert guess(front, HOME, "broken") == "454 4.7.0 Temporary authentication failure"
        with greeted(front, HOME) as talk:
            talk.expect("AUTH PLAIN !", 501)
            talk.expect("AUTH PLAIN", 334)
            talk.expect("*", 501)
            talk.expect("AUTH NONSENSE x", 504)
    assert [guess(front, HOME)[:3] for _ in range(4)] == ["535", "535", "535", "454"]


def test_who_only_begins_an_exchange_keeps_nobody_out(tmp_path: Path, store: Store) -> None:
    """With SCRAM a guess is one when its proof is there: then it counts, and not before."""
    rates = {"per_address": "", "per_user": "3/1h", "per_pair": "2/1h"}
    front = a_front(tmp_path / "pod", store, limits(auth_failures=SLOWER | rates), **WITH_USERS | SCRAM).start()
    with ExitStack() as stack:
        begun = [stack.enter_context(greeted(front, f"192.0.2.{number}")) for number in range(1, 7)]
        nonces = [_begin_scram(talk) for talk in begun]
        began_at = time.monotonic()
        assert guess(front, HOME, password="correct horse").startswith("235")
        assert time.monotonic() - began_at < 5.0, "it waited for the others"
        begun[0].expect("*", 501)
        heard = [_prove_nothing(talk, nonce) for talk, nonce in zip(begun[1:], nonces[1:], strict=True)]
        assert heard[:3] == [535] * 3
        assert _prove_nothing(begun[1], _begin_scram(begun[1])) == 454, "the user is locked out"
        assert guess(front, HOME, password="correct horse").startswith("235")


def _begin_scram(talk: Talk) -> str:
    """AUTH, up to the server's challenge. The nonce that was agreed on."""
    begun = talk.expect(f"AUTH SCRAM-SHA-256 {b64encode(b'n,,n=user,r=mine').decode()}", 334)
    nonce = re.match("r=([^,]+),", b64decode(begun.text).decode())
    assert nonce is not None
    return nonce[1]


def _prove_nothing(talk: Talk, nonce: str) -> int:
    proof = b64encode(bytes(32)).decode()
    return talk.command(b64encode(f"c=biws,r={nonce},p={proof}".encode()).decode()).code


def test_connections_of_a_user_are_his_whatever_he_calls_himself(tmp_path: Path, store: Store) -> None:
    """An alias is no second user, and those whose tokens say who they are are not all one."""
    given = limits(connections={"per_address": 0, "per_user": 1})
    front = a_front(tmp_path / "pod", store, given, **WITH_USERS | TOKENS).start()
    with greeted(front) as talk, greeted(front) as alias, greeted(front) as one, greeted(front) as other:
        talk.expect(login("user1@a.example"), 235)
        assert alias.command(login("user1@b.example")).code == 421
        for each, token in ((one, "token1"), (other, "token2")):
            each.expect("AUTH OAUTHBEARER " + b64encode(f"n,,\x01auth=Bearer {token}\x01\x01".encode()).decode(), 235)
        assert (held(store, "user1"), held(store, "token1"), held(store, "token2")) == (1, 1, 1)


def test_a_late_answer_doubles_and_a_drain_waits_for_none(tmp_path: Path, store: Store) -> None:
    rates = {"per_address": "", "per_user": "", "per_pair": "9/1h", "tarpit_s": 0.2, "tarpit_max_s": 30.0}
    front = a_front(tmp_path / "pod", store, limits(auth_failures=SLOWER | rates), **WITH_USERS).start()
    late = []
    with greeted(front, "192.0.2.1", 40.0) as talk, greeted(front, "192.0.2.2", 40.0) as other:
        for _ in range(4):
            began_at = time.monotonic()
            talk.expect(login("user", "wrong"), 535)
            late.append(time.monotonic() - began_at)
        assert all(took_s >= due_s for took_s, due_s in zip(late, (0.2, 0.4, 0.8, 1.6), strict=True)), late
        assert late[0] < 1.6, late
        talk.raw(f"{login('user', 'wrong')}\r\n".encode())
        other.expect("NOOP", 250)
        with pytest.raises(Silence):
            talk.reply(0.5)
        front.signal(SIGTERM)
        assert [talk.reply(2.0).code for _ in range(2)] == [535, 421]
    assert front.wait(15.0) == 0


def test_a_thousand_guesses(tmp_path: Path, store: Store, figures: Callable[[str], None]) -> None:
    """50 addresses at 10 users, while these log in at home: none of them is refused."""
    front = a_front(tmp_path / "pod", store, limits(auth_failures=FASTER), **WITH_USERS).start()
    users = [f"user{number}" for number in range(10)]
    for number, user in enumerate(users):
        assert guess(front, f"203.0.113.{number + 1}", user, "correct horse").startswith("235")
    heard: Counter[str] = Counter()
    at_home: Counter[str] = Counter()
    over = threading.Event()

    def attack(number: int) -> None:
        for turn in range(20):
            heard[guess(front, f"198.18.0.{number + 1}", users[(number + turn) % 10])[:3]] += 1

    def live() -> None:
        while not over.wait(0.05):
            for number, user in enumerate(users):
                at_home[guess(front, f"203.0.113.{number + 1}", user, "correct horse")[:3]] += 1

    person = threading.Thread(target=live)
    person.start()
    attackers = [threading.Thread(target=attack, args=(number,)) for number in range(50)]
    for each in attackers:
        each.start()
    for each in attackers:
        each.join(60)
    over.set()
    person.join(60)
    assert heard.total() == 1000
    assert set(heard) <= {"535", "454", "421"}
    assert heard["535"] < 700, heard
    assert set(at_home) == {"235"}
    figures(f"1000 guesses over sockets: {dict(heard)}; at home meanwhile: {dict(at_home)}")
