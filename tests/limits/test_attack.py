"""A spray of guesses over many addresses and users: few are tested, and nobody who knows the password is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.limits.attack import attack, read
from tests.stores import Store
from tools.attack_chart import DATA


def test_a_spray(tmp_path: Path, full: bool, figures: Callable[[str], None]) -> None:
    """100,000 guesses of 1,000 addresses at 100 users in an hour; without --full a fifth of it, in a fifth of that."""
    store = Store("redis", tmp_path / "redis", appendfsync="no").start()
    size = 1.0 if full else 0.2
    result = attack(
        tmp_path, store.socket, 120.0, guesses=int(100_000 * size), addresses=1000, users=100, minutes=60 * size
    )
    figures(
        f"{result.guesses} guesses of {result.addresses} addresses at {result.users} users in "
        f"{result.duration_s / 60:.0f} min: {result.tested} tested, {result.through} right; logins from known "
        f"addresses {result.known}, {result.known_refused} refused; from new ones {result.new}, "
        f"{result.new_refused} refused, {result.new_delayed} delayed by at most {result.new_delay_s} s"
    )
    assert result.guesses == int(100_000 * size)
    # Each user's rate, and as much again for addresses that have not failed.
    assert result.tested <= 2 * result.users * (20 + 20 * result.duration_s / 600)
    if full:
        assert result.tested <= 2 * read(DATA).tested, "docs/limits.md says less"
    assert (result.known_refused, result.new_refused) == (0, 0)
