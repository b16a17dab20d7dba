"""All that an operator does to a master under load, and what clients notice of it: nothing, but for a kill -9 the
sessions inside the killed worker.
"""

from __future__ import annotations

import resource
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import settingsfile
from tests.front import Front
from tests.master.driven import QUICK, Driven
from tests.master.holding import Holding
from tests.master.knocking import Knocking
from tests.ports import free_port
from tests.processes import alive, kill, memory_bytes
from tests.wait import until

DISCARD = {"recipients": ["*"], "transport": "discard"}


@pytest.fixture
def busy(tmp_path: Path) -> Callable[..., Driven]:
    def start(**server: Any) -> Driven:
        return Driven(tmp_path, pace=QUICK, server={"workers": 2, "max_workers": 4} | server).start()

    return start


def count_of(front: Front, event: str) -> int:
    return front.log_text().count(f'"event":"{event}"')


def ask_for(front: Front, number: signal.Signals, done: str) -> None:
    """Send a signal and wait for what comes of it."""
    before = count_of(front, done)
    front.signal(number)
    until(lambda: count_of(front, done) > before, 60.0, f"{number.name}: {done}")


def test_reloads_upgrades_and_more_or_fewer_workers_fail_nobody(
    busy: Callable[..., Driven], full: bool, figures: Callable[[str], None]
) -> None:
    front = busy()
    hups, workers, upgrades = (50, 20, 10) if full else (2, 2, 2)
    with Holding(front.address, 500 if full else 100) as holding, Knocking(front.address) as knocking:
        for _ in range(hups):
            ask_for(front, signal.SIGHUP, "reloaded")
        for _ in range(workers // 2):
            ask_for(front, signal.SIGTTIN, "worker ready")
            ask_for(front, signal.SIGTTOU, "worker ended")
        for _ in range(upgrades):
            ask_for(front, signal.SIGUSR2, "reloaded")
        assert count_of(front, "master upgraded") == upgrades
    assert knocking.failures == []
    assert holding.failures == []
    figures(
        f"{hups} HUP, {workers} TTIN and TTOU, {upgrades} USR2: {knocking.answered} connections, none failed, the "
        f"slowest took {knocking.slowest_s:.2f} s; of the held sessions {holding.ended} ended and came again"
    )


def settled(front: Driven, holding: Holding) -> bool:
    """Whether both workers serve, and the master, as the admin tells it a moment later, knows of all sessions."""
    workers = [row for row in front.status().get("children", []) if row["kind"] == "worker" and alive(row["pid"])]
    counted = sum(row["sessions"] for row in workers)
    return len(workers) == 2 and all(row["accepting"] for row in workers) and counted == holding.open == holding.count


def test_kill_9_of_workers_breaks_what_is_inside_them_and_nothing_else(
    busy: Callable[..., Driven], full: bool, figures: Callable[[str], None]
) -> None:
    front = busy()
    kills = 50 if full else 6
    with Holding(front.address, 500 if full else 100) as holding:
        until(lambda: settled(front, holding), 20.0, "all are there, and the master knows of them")
        for number in range(kills):
            slot = number % 2
            victim = front.child("worker", slot)
            ended = holding.ended
            kill(victim["pid"])
            front.await_event("worker died", count=number + 1)
            until(lambda: settled(front, holding), 20.0, "all are there again")
            assert holding.ended - ended <= victim["sessions"], "only those of the killed one ended"
    figures(
        f"{kills} kill -9: {holding.ended} sessions ended; {len(holding.failures)} were cut before their first line"
    )
    assert len(holding.failures) <= kills * 5, "those that the killed worker had accepted, and not yet greeted"
    assert all("Reset" in why or "b''" in why for why in holding.failures), holding.failures


def test_the_real_server_fails_nobody_at_a_reload(
    serve: Callable[..., Front], full: bool, figures: Callable[[str], None]
) -> None:
    front = serve(DISCARD, server={"workers": 2})
    hups = 20 if full else 2
    with Holding(front.address, 200 if full else 50) as holding, Knocking(front.address, rate_s=100.0) as knocking:
        for _ in range(hups):
            ask_for(front, signal.SIGHUP, "reloaded")
    assert knocking.failures == []
    assert holding.failures == []
    figures(f"{hups} HUP of the real server: {knocking.answered} connections, slowest {knocking.slowest_s:.2f} s")


class AsPid1(Front):
    """The real server, the first process of a PID namespace of its own."""

    def command(self) -> list[str]:
        return ["unshare", "-pf", "--mount-proc", "--kill-child", *super().command()]

    def await_whole(self, timeout_s: float = 20.0) -> None:
        """The pids that it tells are those of its namespace."""
        until(self.ready, timeout_s, "it is ready")

    def first(self) -> int:
        """Its pid as we see it."""
        return next(pid for pid in self.tree() if is_first_in_namespace(pid))


def is_first_in_namespace(pid: int) -> bool:
    rows = Path(f"/proc/{pid}/status").read_text("utf-8").splitlines()
    inner = next((row.split()[1:] for row in rows if row.startswith("NSpid:")), [])
    return len(inner) > 1 and inner[-1] == "1"


def test_as_pid_1_it_reloads_upgrades_and_ends_in_time_with_many_sessions(
    tmp_path: Path, full: bool, figures: Callable[[str], None]
) -> None:
    if subprocess.run(["unshare", "-pf", "--mount-proc", "true"], capture_output=True).returncode:
        pytest.skip("no right to make a PID namespace")
    count = 10_000 if full else 500
    server = {"workers": 2, "drain_timeout_s": 15.0}
    front = AsPid1(tmp_path, settingsfile.settings(tmp_path, free_port(), free_port(), DISCARD, server=server)).start()
    master = front.first()
    for number, reloads in ((signal.SIGHUP, 1), (signal.SIGUSR2, 2)):
        kill(master, number)
        until(lambda n=reloads: count_of(front, "reloaded") == n, 60.0, number.name)  # type: ignore[misc]
    until(front.ready, 20.0, "it is ready")
    assert front.status()["pid"] == 1
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        with Holding(front.address, count) as holding:
            until(lambda: holding.open == count, 120.0, "all are there", every_s=0.1)
            assert holding.failures == []
            began_at = time.monotonic()
            kill(master, signal.SIGTERM)
            assert front.wait(30.0) == 0
            took_s = time.monotonic() - began_at
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    front.assert_all_ended()
    assert took_s < 15.0 + 5.0
    figures(f"as PID 1: TERM with {count} sessions took {took_s:.1f} s, exit 0")


def test_restarts_leave_nothing_behind(tmp_path: Path, full: bool, figures: Callable[[str], None]) -> None:
    restarts = 1000 if full else 60
    pace = {"first_s": 0.01, "longest_s": 0.01, "good_life_s": 0.0}
    plan = {"relay": {"role": "brief"}}
    front = Driven(tmp_path, plan, pace=pace, server={"workers": 1}, relay={"workers": 2}).start()

    def after(count: int) -> tuple[int, int, int]:
        until(lambda: count_of(front, "relay died") >= count, 300.0, "so many restarts", every_s=0.1)
        run = tmp_path / "var" / "run"
        files = sum(path.is_file() for path in run.rglob("*"))
        return len(list(Path(f"/proc/{front.pid}/fd").iterdir())), files, memory_bytes(front.pid, "VmRSS")

    handles, files, memory = after(30)
    until(lambda: after(restarts)[:2] <= (handles + 2, files), 10.0, "no more descriptors and files than before")
    grown = memory_bytes(front.pid, "VmRSS") - memory
    figures(f"{restarts} restarts: {handles} descriptors, {files} files, memory of the master grew {grown >> 10} KiB")
    assert grown < 3 << 20
