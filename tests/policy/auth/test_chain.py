"""The chain: who is asked, who wins, what is not told to strangers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from mta_front.hooks import Reject, Session
from mta_front.policy.auth import hashing
from mta_front.policy.auth.backend import Backend, Unavailable, User
from mta_front.policy.auth.chain import Chain
from mta_front.policy.auth.decoys import Decoys
from mta_front.policy.auth.file import FileUsers
from mta_front.policy.auth.hook import HookBackend
from mta_front.policy.auth.offload import Threads
from mta_front.policy.auth.passwords import PasswordBackend
from mta_front.smtp.credentials import Credentials
from mta_front.smtp.scram import ScramKeys
from tests.policy.auth.people import CHEAP_ARGON2, PASSWORD, SCRAM_KEYS, SESSION, ScramClient, plain, token

ALL = frozenset({"PLAIN", "LOGIN", "SCRAM-SHA-256", "XOAUTH2"})


class Down:
    """A backend that cannot know."""

    name = "down"
    methods = ALL

    def verify(self, credentials: Credentials, session: Session) -> None:
        raise Unavailable("down for now")

    def scram_keys(self, username: str, session: Session) -> None:
        raise Unavailable("down for now")

    def scram_iterations(self, username: str) -> int:
        raise Unavailable("down for now")

    def close(self) -> None:
        pass


Make = Callable[[str], PasswordBackend]


@pytest.fixture
def users(tmp_path: Path) -> Make:
    """A `file` backend with these lines."""
    numbers = iter(range(100))

    def make(text: str) -> PasswordBackend:
        path = tmp_path / f"users{next(numbers)}"
        path.write_text(text)
        return PasswordBackend("file", FileUsers(path, Decoys(lambda: b"fleet")), Threads(2, 10))

    return make


def chain(*backends: Backend) -> Chain:
    return Chain(backends, Decoys(lambda: b"fleet"))


def test_the_first_yes_wins(users: Make) -> None:
    both = chain(users(f"ann:{CHEAP_ARGON2}:1@example.net\n"), users(f"ann:{CHEAP_ARGON2}\nbob:{CHEAP_ARGON2}\n"))
    assert both.verify(plain("ann"), SESSION) == User("ann", ("1@example.net",))
    assert both.verify(plain("bob"), SESSION) == User("bob")
    assert both.verify(plain("bob", "wrong"), SESSION) is None
    assert chain().verify(plain("ann"), SESSION) is None
    assert chain().methods == frozenset()


def test_methods_are_what_somebody_can_verify(users: Make) -> None:
    hook = HookBackend(lambda credentials, session: "hooked", frozenset({"XOAUTH2"}))
    both = chain(users(f"ann:{CHEAP_ARGON2}\n"), hook)
    assert both.methods == {"PLAIN", "LOGIN", "XOAUTH2"}
    assert both.verify(token("ann", "t", "XOAUTH2"), SESSION) == "hooked"
    assert both.verify(plain("bob"), SESSION) is None, "the hook is not asked for PLAIN"


def test_who_cannot_know_is_asked_on_and_told_only_if_nobody_says_yes(users: Make) -> None:
    known = users(f"ann:{CHEAP_ARGON2}\n")
    for order in ((Down(), known), (known, Down())):
        assert chain(*order).verify(plain("ann"), SESSION) == User("ann")
        with pytest.raises(Unavailable, match="down for now"):
            chain(*order).verify(plain("ann", "wrong"), SESSION)


def test_a_hook_may_return_any_object_refuse_or_leave_it_to_others(users: Make) -> None:
    answers: dict[str, Any] = {"object": {"any": "object"}, "none": None, "reject": Reject(535, "5.7.8", "Locked")}

    def on_auth(credentials: Credentials, session: Session) -> Any:
        answer = answers[credentials.username]
        if isinstance(answer, Exception):
            raise answer
        return answer

    both = chain(HookBackend(on_auth, ALL), users("".join(f"{name}:{CHEAP_ARGON2}\n" for name in answers)))
    assert both.verify(plain("object"), SESSION) == {"any": "object"}
    assert both.verify(plain("none"), SESSION) == User("none")
    with pytest.raises(Reject, match="Locked"):
        both.verify(plain("reject"), SESSION)


def test_nobody_acts_as_somebody_else_but_by_a_hook(users: Make) -> None:
    """RFC 4616 §2: the authorization identity is not ignored."""
    known = users(f"ann:{CHEAP_ARGON2}\n")
    assert chain(known).verify(plain("ann", authzid="ann"), SESSION) == User("ann")
    assert chain(known).verify(plain("ann", authzid="admin"), SESSION) is None
    hook = HookBackend(lambda credentials, session: credentials.authzid, ALL)
    assert chain(known, hook).verify(plain("ann", authzid="admin"), SESSION) == "admin"


# -- SCRAM: there is one exchange ---------------------------------------------------------------------------------


def test_scram_is_played_with_the_keys_of_the_first_who_has_some(users: Make) -> None:
    made = chain(users(f"ann:{CHEAP_ARGON2}\n"), users(f"ann:{SCRAM_KEYS}:2@example.net\n"))
    client = ScramClient(PASSWORD)
    assert made.verify(client.credentials("ann"), SESSION) == User("ann", ("2@example.net",))
    assert client.convinced
    wrong = ScramClient("wrong")
    assert made.verify(wrong.credentials("ann"), SESSION) is None
    assert not wrong.convinced


def salt_of(made: Chain, username: str) -> tuple[str, int]:
    client = ScramClient("guess")
    assert made.verify(client.credentials(username), SESSION) is None
    (shown,) = client.salts
    return shown


def test_a_stranger_cannot_tell_by_the_salt_who_exists(users: Make) -> None:
    """The same one each time, for names that exist and for those that do not; from every front of the fleet."""
    fronts = [chain(users(f"ann:{SCRAM_KEYS}\nold:{CHEAP_ARGON2}\n")) for _ in range(2)]
    for username in ("ann", "nobody", "somebody", "old"):
        salts = {salt_of(front, username) for front in fronts for _ in range(2)}
        assert len(salts) == 1
        assert {iterations for _, iterations in salts} == {4096}, "as of those who exist"
    assert salt_of(fronts[0], "nobody") != salt_of(fronts[0], "somebody")
    other_fleet = Chain(fronts[0].backends, Decoys(lambda: b"another"))
    assert salt_of(other_fleet, "nobody") != salt_of(fronts[0], "nobody")


def test_scram_is_not_played_when_nobody_can_know(users: Make) -> None:
    """A decoy would answer 535 to somebody who exists."""
    client = ScramClient(PASSWORD)
    with pytest.raises(Unavailable):
        chain(users(f"bob:{SCRAM_KEYS}\n"), Down()).verify(client.credentials("ann"), SESSION)
    assert client.salts == []
    assert chain(Down(), users(f"ann:{SCRAM_KEYS}\n")).verify(client.credentials("ann"), SESSION) == User("ann")


def test_a_hook_plays_scram_itself_and_then_it_is_played(users: Make) -> None:
    keys = ScramKeys.of_password(PASSWORD, b"saltsaltsalt", 4096)

    def on_auth(credentials: Credentials, session: Session) -> str | None:
        if credentials.username == "other":
            return None  # not ours, and not played
        return "hooked" if credentials.scram(keys) else None

    both = chain(HookBackend(on_auth, ALL), users(f"ann:{SCRAM_KEYS}\nother:{SCRAM_KEYS}\n"))
    assert both.verify(ScramClient(PASSWORD).credentials("ann"), SESSION) == "hooked"
    assert both.verify(ScramClient("wrong").credentials("ann"), SESSION) is None
    assert both.verify(ScramClient(PASSWORD).credentials("other"), SESSION) == User("other")


def test_what_ends_the_exchange_comes_through(users: Make) -> None:
    credentials = ScramClient(PASSWORD).credentials("ann")

    def gone(challenge: bytes) -> bytes:
        raise ConnectionError("the client went away")

    credentials.ask = gone
    with pytest.raises(ConnectionError):
        chain(users(f"ann:{SCRAM_KEYS}\n")).verify(credentials, SESSION)


# -- the clock tells nothing --------------------------------------------------------------------------------------


@pytest.fixture
def costs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Scheme and parameters of each check that is made."""
    made: list[str] = []
    for kind in hashing.SCHEMES.values():

        def matches(password: Any, given: str, real: Any = kind.matches) -> bool:
            made.append(password.stored()[:30])
            return bool(real(password, given))

        monkeypatch.setattr(kind, "matches", matches)
    return made


def test_unknown_users_cost_the_same_checks_as_wrong_passwords(users: Make, costs: list[str]) -> None:
    first, second = users(f"ann:{CHEAP_ARGON2}\n"), users(f"bob:{CHEAP_ARGON2}\n")

    def cost_of(username: str, password: str) -> list[str]:
        costs.clear()
        assert chain(first, second).verify(plain(username, password), SESSION) is None
        return list(costs)

    same = [CHEAP_ARGON2[:30]] * 2
    assert cost_of("ann", "wrong") == same
    assert cost_of("bob", "wrong") == same
    assert cost_of("nobody", "wrong") == same


def test_a_name_that_does_not_exist_draws_its_kind_among_those_that_do(users: Make, costs: list[str]) -> None:
    bcrypt = "{BLF-CRYPT}$2y$04$vQ842eOz73oLO/9VFYHpHubRSdn6zZ4kZG3zxV7QUe47o2j1L6WXi"
    mixed = users("".join(f"a{n}:{CHEAP_ARGON2}\nb{n}:{bcrypt}\n" for n in range(5)))

    def kinds(names: Iterable[str]) -> list[str]:
        costs.clear()
        for name in names:
            mixed.verify(plain(name, "wrong"), SESSION)
        return [cost.partition("}")[0] for cost in costs]

    names = [f"nobody{n}" for n in range(60)]
    drawn = kinds(names)
    assert len(drawn) == 60
    assert 15 <= drawn.count("{ARGON2ID") <= 45
    assert kinds(names) == drawn, "and each name always the same one"


def test_the_clock_roughly(users: Make, figures: Callable[[str], None]) -> None:
    made = chain(users(f"ann:{hashing.Scram.of(PASSWORD).stored()}\n"))

    def took(username: str) -> float:
        began = time.perf_counter()
        made.verify(plain(username, "wrong"), SESSION)
        return time.perf_counter() - began

    pairs = [(took("ann"), took("nobody")) for _ in range(15)]
    known, unknown = (median(column) for column in zip(*pairs, strict=True))
    figures(f"a wrong password {known * 1e3:.1f} ms, an unknown user {unknown * 1e3:.1f} ms")
    assert unknown > known / 10
