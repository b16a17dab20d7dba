"""kill -9 and power cuts at random moments under load, in a few rounds. The long run: `make chaos`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chaos.rounds import Plan, play

pytestmark = pytest.mark.timeout(900)  # for --full


def test_every_250_arrives_whatever_is_killed(tmp_path: Path, full: bool, figures: Callable[[str], None]) -> None:
    """Worker, relay, store, master, all of them: nothing lost, each double explained by the log of kills (S17)."""
    said = list[str]()
    result = play(Plan(rounds=50 if full else 5, seed=17), tmp_path, said.append)
    assert result.verdict.good, "\n".join([*said, result.table()])
    assert result.verdict.accepted > 50
    figures(
        f"{len(result.outages)} kills, {result.verdict.accepted} accepted, 0 lost, "
        f"{len(result.verdict.doubled)} doubled, all explained"
    )


def test_power_cut_loses_nothing_that_was_fsynced(tmp_path: Path, full: bool, figures: Callable[[str], None]) -> None:
    """AOF and Maildir cut back to what was synced: nothing lost."""
    said = list[str]()
    result = play(Plan(rounds=20 if full else 2, seed=2, power_cut=True), tmp_path, said.append)
    assert result.verdict.good, "\n".join([*said, result.table()])
    assert result.verdict.accepted > 50
    figures(
        f"{len(result.cuts)} power cuts, {sum(cut.taken_bytes for cut in result.cuts)} bytes taken, "
        f"{result.verdict.accepted} accepted, 0 lost, {len(result.verdict.doubled)} doubled, all explained"
    )


def test_power_cut_loses_messages_that_were_only_in_memory(tmp_path: Path, figures: Callable[[str], None]) -> None:
    """A test of the test: with `durability = "memory"` the same cut must lose what was answered 250."""
    said = list[str]()
    result = play(Plan(rounds=1, seed=3, power_cut=True, durability="memory"), tmp_path, said.append)
    assert result.verdict.lost, "\n".join([*said, result.table()])
    figures(f"durability memory: {result.verdict.accepted} accepted, {len(result.verdict.lost)} lost, as they must be")
