"""Sessions are spread evenly, long ones by number and short ones by the work that they make (DECISIONS P5)."""

from __future__ import annotations

import socket
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.master.driven import Driven
from tests.master.knocking import Knocking
from tests.wait import until

SESSIONS = 200
WITHIN = 0.2
WITHIN_UNDER_LOAD = 0.4
"""In the short form, which shares the machine with all other tests: the master may be late by many sessions."""
RATE_S = 200.0
"""New sessions a second. The master needs a moment to see what came of the last ones: how many come in it is chance."""


@pytest.mark.parametrize("workers", [2, 4])
def test_long_sessions_are_within_20_percent(
    tmp_path: Path, workers: int, full: bool, figures: Callable[[str], None]
) -> None:
    front = Driven(tmp_path, server={"workers": workers}).start()
    mean = SESSIONS / workers
    worst = 0.0
    for run in range(20 if full else 3):
        counts = Counter[int]()
        with ExitStack() as stack:
            began_at = time.monotonic()
            for number in range(SESSIONS):
                time.sleep(max(0.0, began_at + number / RATE_S - time.monotonic()))
                client = stack.enter_context(socket.create_connection(front.address, timeout=5.0))
                counts[int(client.recv(100).split()[0])] += 1
        assert len(counts) == workers
        worst = max(worst, *(abs(count - mean) / mean for count in counts.values()))
        assert worst <= (WITHIN if full else WITHIN_UNDER_LOAD), f"run {run}: {dict(counts)}"
        until(lambda: not any(row["sessions"] for row in front.status()["children"]), message="all have gone")
    figures(f"{SESSIONS} sessions, {workers} workers: at most {worst:.0%} from the mean")


def test_short_sessions_make_as_much_work_for_each(tmp_path: Path, full: bool, figures: Callable[[str], None]) -> None:
    front = Driven(tmp_path, server={"workers": 4}).start()
    pids = [front.child("worker", slot)["pid"] for slot in range(4)]
    before = [cpu_ticks(pid) for pid in pids]
    wanted = 5000 if full else 2000
    with Knocking(front.address, rate_s=2000.0) as knocking:
        until(lambda: knocking.answered >= wanted, 60.0, "so many short sessions")
    assert knocking.failures == []
    spent = [cpu_ticks(pid) - start for pid, start in zip(pids, before, strict=True)]
    mean = sum(spent) / len(spent)
    figures(f"{knocking.answered} short sessions, 4 workers: CPU ticks {spent}")
    slack = 3  # a tick is 10 ms, and each count may be one off
    within = WITHIN if full else WITHIN_UNDER_LOAD
    assert all(abs(ticks - mean) <= within * mean + slack for ticks in spent), spent


def cpu_ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])
