"""Hashing in threads: others go on, the queue has an end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import gevent
import pytest
from argon2.exceptions import VerificationError
from gevent.event import Event

from mta_front.policy.auth import hashing
from mta_front.policy.auth.backend import Unavailable, User
from mta_front.policy.auth.decoys import Decoys
from mta_front.policy.auth.file import FileUsers
from mta_front.policy.auth.hashing import Argon2id
from mta_front.policy.auth.offload import Threads
from mta_front.policy.auth.passwords import PasswordBackend
from tests.policy.auth.people import PASSWORD, SESSION, plain


def test_a_hundred_logins_at_once_do_not_stall_other_greenlets(tmp_path: Path, figures: Callable[[str], None]) -> None:
    """With argon2id as `mta-front passwd` makes it."""
    stored = Argon2id.of(PASSWORD).stored()
    (tmp_path / "users").write_text(f"ann:{stored}\n")
    backend = PasswordBackend("file", FileUsers(tmp_path / "users", Decoys(lambda: b"fleet")), Threads(2, 100))
    backend.verify(plain("ann"), SESSION)  # the threads are up

    pauses: list[float] = []
    over = Event()

    def tick() -> None:
        while not over.is_set():
            began = time.perf_counter()
            gevent.sleep(0.001)
            pauses.append(time.perf_counter() - began)

    ticker = gevent.spawn(tick)
    began = time.perf_counter()
    logins = [gevent.spawn(backend.verify, plain("ann"), SESSION) for _ in range(100)]
    gevent.joinall(logins, raise_error=True)
    took_s = time.perf_counter() - began
    over.set()
    ticker.join()
    assert all(login.value == User("ann") for login in logins)
    worst = sorted(pauses)[-max(1, len(pauses) // 100)]
    figures(f"100 logins in {took_s:.1f} s; another greenlet ran {len(pauses)} times, 99% within {worst * 1e3:.0f} ms")
    assert len(pauses) > 100
    assert worst < took_s / 4, "no login held the hub"


def test_beyond_the_queue_nobody_waits() -> None:
    threads = Threads(1, 2)
    go_on = threading.Event()
    held = [gevent.spawn(threads.run, lambda: go_on.wait(30)) for _ in range(3)]
    gevent.sleep(0)
    try:
        with pytest.raises(Unavailable, match="too many logins at once"):
            threads.run(lambda: True)
    finally:
        go_on.set()
    gevent.joinall(held, raise_error=True)
    assert threads.run(lambda: "room again") == "room again"


def test_a_check_that_fails_is_no_wrong_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The one thing here that cannot be had for real on a machine with memory: an allocation that fails."""

    def fails(*_: object) -> bool:
        raise VerificationError

    (tmp_path / "users").write_text(f"ann:{Argon2id.of(PASSWORD).stored()}\n")
    backend = PasswordBackend("file", FileUsers(tmp_path / "users", Decoys(lambda: b"fleet")), Threads(1, 1))
    monkeypatch.setattr(hashing, "verify_secret", fails)
    with pytest.raises(Unavailable, match="a password cannot be checked"):
        backend.verify(plain("ann"), SESSION)
    assert capfd.readouterr() == ("", ""), "gevent would print what a thread was called with"


def test_a_session_that_ends_in_the_queue_gives_its_place_back() -> None:
    threads = Threads(1, 1)
    go_on = threading.Event()
    running = gevent.spawn(threads.run, lambda: go_on.wait(30))
    gevent.sleep(0)
    waiting = gevent.spawn(threads.run, lambda: True)
    gevent.sleep(0)
    waiting.kill()
    go_on.set()
    running.join()
    assert threads.run(lambda: True)
