"""USR2: the program is exchanged in the running process; what cannot be exchanged leaves all as it was."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest

from tests.master.driven import QUICK, Driven
from tests.master.knocking import Knocking
from tests.master.test_reload import children, rewrite
from tests.processes import ROOT, alive, kill
from tests.wait import until


def refusal(front: Driven) -> str:
    return str(front.await_event("upgrade refused: all stays as it was", timeout_s=30.0)["reason"])


def test_everything_but_the_master_and_the_store_is_replaced_and_nobody_is_refused(tmp_path: Path) -> None:
    pid_file = tmp_path / "front.pid"
    front = Driven(tmp_path, server={"workers": 2, "pid_file": str(pid_file)}).start()
    before, (store,) = children(front), front.pids("store")
    with Knocking(front.address) as knocking:
        front.signal(signal.SIGUSR2)
        front.await_event("master upgraded", timeout_s=30.0)
        front.await_event("reloaded", timeout_s=30.0)
    assert knocking.failures == []
    assert knocking.answered > 20
    until(front.ready, message="the new admin answers")
    assert front.status()["pid"] == front.pid
    assert pid_file.read_text() == f"{front.pid}\n"
    assert front.pids("store") == [store]
    assert set(children(front)) == set(before)
    assert not set(children(front).values()) & set(before.values())
    until(lambda: front.status().get("leaving") == [], message="the old ones have drained")
    assert front.events().count("embedded store started") == 1
    assert front.terminate() == 0
    assert not pid_file.exists()
    front.assert_all_ended()


def test_the_new_master_does_all_that_the_old_one_did(tmp_path: Path) -> None:
    front = Driven(tmp_path, server={"workers": 2}).start()
    front.signal(signal.SIGUSR2)
    front.await_event("reloaded", timeout_s=30.0)
    old = front.child("worker", 0)["pid"]
    kill(old)
    until(lambda: front.child("worker", 0)["pid"] not in {0, old}, message="it replaces a worker")
    kill(front.pids("store")[0])
    front.await_event("embedded store up")
    front.signal(signal.SIGTTIN)
    until(lambda: ("worker", 2) in children(front), message="it adds one")
    rewrite(front, server={"workers": 1})
    front.signal(signal.SIGHUP)
    front.await_event("reloaded", count=2)
    assert descriptors(front.pid) < 40
    assert front.terminate() == 0


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the program, to be broken."""
    copy = tmp_path / "program"
    copy.mkdir()
    for name in ("mta_front", "tests"):
        ignored = shutil.ignore_patterns("__pycache__", "out", "e2e", "clients", "library", "store", "smtp", "wire")
        shutil.copytree(ROOT / name, copy / name, ignore=ignored if name == "tests" else None)
    return copy


def from_copy(directory: Path, package: Path) -> Driven:
    front = Driven(directory, env={"PYTHONDONTWRITEBYTECODE": "1"}, server={"workers": 1})
    front.env["PYTHONPATH"] = str(package)
    return front.start()


def test_a_broken_program_is_found_out_before_it_is_too_late(tmp_path: Path, package: Path) -> None:
    front = from_copy(tmp_path, package)
    before = children(front)
    broken = package / "mta_front" / "master" / "supervisor.py"
    good = broken.read_bytes()
    broken.write_bytes(good + b"\nimport nowhere_at_all\n")
    front.signal(signal.SIGUSR2)
    assert "No module named 'nowhere_at_all'" in refusal(front)
    assert children(front) == before
    front.ask()
    broken.write_bytes(good)
    front.signal(signal.SIGUSR2)
    front.await_event("reloaded", timeout_s=30.0)


def test_workers_of_a_broken_program_never_replace_the_old_ones(tmp_path: Path, package: Path) -> None:
    """What only a worker loads is not tried: the new master is there, the old workers stay."""
    front = from_copy(tmp_path, package)
    before = children(front)
    broken = package / "mta_front" / "lifeline.py"
    good = broken.read_bytes()
    broken.write_bytes(good + b"\nimport nowhere_at_all\n")
    with Knocking(front.address) as knocking:
        front.signal(signal.SIGUSR2)
        line = front.await_event("reload refused: all stays as it was", timeout_s=30.0)
    assert "No module named 'nowhere_at_all'" in line["reason"]
    assert knocking.failures == []
    assert children(front) == before
    broken.write_bytes(good)
    front.signal(signal.SIGHUP)
    front.await_event("reloaded", timeout_s=30.0)
    assert not set(children(front).values()) & set(before.values())


def test_faulty_settings_are_no_upgrade(tmp_path: Path) -> None:
    front = Driven(tmp_path, server={"workers": 1}).start()
    rewrite(front, server={"wrokers": 1})
    front.signal(signal.SIGUSR2)
    assert "wrokers" in refusal(front)
    assert front.ready()


def test_signals_that_come_during_an_upgrade_are_not_lost(tmp_path: Path) -> None:
    front = Driven(tmp_path, server={"workers": 1}).start()
    front.signal(signal.SIGUSR2)
    front.await_event("upgrading", timeout_s=30.0)
    front.signal(signal.SIGTERM)
    assert front.wait(20.0) == 0
    front.assert_all_ended()


def test_who_dies_during_an_upgrade_is_replaced(tmp_path: Path) -> None:
    front = Driven(tmp_path, {"worker": {"role": "serve"}}, pace=QUICK, server={"workers": 2}).start()
    old = children(front)
    front.signal(signal.SIGUSR2)
    front.await_event("upgrading", timeout_s=30.0)
    os.kill(old["worker", 0], signal.SIGKILL)
    front.await_event("reloaded", timeout_s=30.0)
    assert all(alive(pid) for pid in children(front).values())
