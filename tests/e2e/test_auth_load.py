"""Logins whose passwords are slow to check: they hold nobody else up, and their time tells nothing."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from mta_front.policy.auth.hashing import Argon2id
from tests.front import Front
from tests.smtp.sasl_talk import b64
from tests.smtp_talk import Talk

PASSWORD = "correct horse-battery"
LOGINS = 100
TRIES = 20


@pytest.fixture
def server(tmp_path: Path, serve: Callable[..., Front]) -> Front:
    """One worker, whose users' passwords cost what new ones cost."""
    (tmp_path / "users").write_text(f"ann:{Argon2id.of(PASSWORD).stored()}\n")
    listener: dict[str, Any] = {
        "allow_insecure_auth": True,
        "reverse_lookup": False,
        "max_errors": 0,
        "max_junk_commands": 0,
        "soft_errors": 1000,
    }
    return serve(
        {"recipients": ["*"], "transport": "discard"},
        listener=listener,
        server={"workers": 1},
        auth={"backends": ["file"], "file": {"path": str(tmp_path / "users")}, "hash_queue": LOGINS},
    )


def login(name: str, password: str) -> str:
    """AUTH PLAIN."""
    return "AUTH PLAIN " + b64(f"\0{name}\0{password}")


def timed(talk: Talk, line: str) -> float:
    """Seconds until the answer."""
    began = time.perf_counter()
    talk.command(line)
    return time.perf_counter() - began


def test_a_hundred_logins_at_once_hold_nobody_up(server: Front, figures: Callable[[str], None]) -> None:
    """All are let in, and meanwhile somebody else is answered again and again."""
    with ExitStack() as stack:
        ordinary, *crowd = (stack.enter_context(Talk(server.address, 60.0)) for _ in range(LOGINS + 1))
        for each in (ordinary, *crowd):
            each.greeting()
        alone = [timed(ordinary, "NOOP") for _ in range(300)]
        began = time.perf_counter()
        for each in crowd:
            each.raw(login("ann", PASSWORD).encode() + b"\r\n")
        among = list(_until_answered(crowd[-1], ordinary))
        assert [each.reply().code for each in crowd] == [235] * LOGINS
        took_s = time.perf_counter() - began
    p50, p99 = (statistics.quantiles(among, n=100)[at] for at in (49, 98))
    base50, base99 = (statistics.quantiles(alone, n=100)[at] for at in (49, 98))
    figures(
        f"{LOGINS} logins in {took_s:.1f} s; NOOP meanwhile {len(among)} times, p50 {p50 * 1e3:.2f} ms "
        f"({p50 / base50:.1f} times what it is alone), p99 {p99 * 1e3:.2f} ms ({p99 / base99:.1f} times)"
    )
    assert len(among) >= LOGINS, "somebody else got as many answers as there were logins"


def _until_answered(last: Talk, ordinary: Talk) -> Iterator[float]:
    """How long each NOOP takes, until the last login has its answer."""
    while not last.readable():
        yield timed(ordinary, "NOOP")


def test_an_unknown_name_takes_as_long_as_a_wrong_password(server: Front, figures: Callable[[str], None]) -> None:
    with Talk(server.address, 60.0) as talk:
        talk.greeting()
        talk.expect(login("ann", "wrong"), 535)
        talk.expect(login("nobody", "wrong"), 535)
        wrong, unknown = list[float](), list[float]()
        for number in range(TRIES):
            wrong.append(timed(talk, login("ann", f"wrong-{number}")))
            unknown.append(timed(talk, login(f"nobody-{number}", "wrong")))
    known_ms, unknown_ms = statistics.median(wrong) * 1e3, statistics.median(unknown) * 1e3
    figures(
        f"a wrong password {known_ms:.1f} ms, a name that is not there {unknown_ms:.1f} ms: {unknown_ms / known_ms:.2f}"
    )
    assert unknown_ms > known_ms / 3, "the name was not looked up and left at that"
