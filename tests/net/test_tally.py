"""`max_clients` over processes: the shared count."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mta_front.master.lanes import Lanes
from mta_front.net.tally import MAX_LANES, SharedTally


def test_workers_count_together(tmp_path: Path) -> None:
    one, other = SharedTally(tmp_path / "mx", 0, 3), SharedTally(tmp_path / "mx", 5, 3)
    assert [one.enter(), other.enter(), one.enter(), other.enter(), one.enter()] == [True, True, True, False, False]
    one.leave()
    assert [other.enter(), one.enter()] == [True, False]


def test_in_another_process_too(tmp_path: Path) -> None:
    tally = SharedTally(tmp_path / "mx", 0, 2)
    assert tally.enter()
    pid = os.fork()
    if pid == 0:
        child = SharedTally(tmp_path / "mx", 1, 2)
        os._exit(0 if child.enter() and not child.enter() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert not tally.enter()


def test_the_count_of_a_dead_worker_is_forgotten(tmp_path: Path) -> None:
    lanes = Lanes(tmp_path)
    lane = lanes.take()
    survivor = SharedTally(lanes.clients_dir / "mx", lane + 1, 1)
    assert SharedTally(lanes.clients_dir / "mx", lane, 1).enter()
    assert not survivor.enter()
    lanes.give_back(lane)
    assert survivor.enter()


def test_a_lane_that_has_no_room_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="lane 1024"):
        SharedTally(tmp_path / "mx", MAX_LANES, 1)
