"""Children that die, hang or never boot: each is replaced, at a pace, and what cannot work ends the master."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from pathlib import Path

from tests.master.driven import Driven
from tests.processes import kill
from tests.wait import until


def test_a_killed_worker_is_replaced_and_its_queue_is_kept(tmp_path: Path) -> None:
    front = Driven(tmp_path, server={"workers": 1}).start()
    _, old = front.ask()
    os.kill(old, signal.SIGSTOP)
    with socket.create_connection(front.address, timeout=5.0) as waiting:  # lies in the accept queue of the slot
        kill(old)
        slot, new = waiting.recv(100).split()
    assert (int(slot), int(new) == old) == (0, False)
    assert front.await_event("worker died")["how"] == "signal SIGKILL"
    until(lambda: front.child("worker")["restarts"] == 1, message="/status tells")
    assert front.metric("mta_front_restarts_total") == 1


def test_a_killed_admin_is_replaced_on_the_same_port(tmp_path: Path) -> None:
    front = Driven(tmp_path, server={"workers": 1}).start()
    old = front.child("admin")["pid"]
    kill(old)
    assert front.get("/livez")[0] == 200, "the question waits in the queue of the socket that the master holds"
    until(front.ready, message="it knows the master's status again")
    assert front.child("admin")["pid"] != old


def test_a_first_death_in_service_costs_no_wait_and_the_next_ones_more_and_more(tmp_path: Path) -> None:
    pace = {"first_s": 0.2, "longest_s": 0.5, "good_life_s": 3600.0}
    front = Driven(tmp_path, {"relay": {"exit_after_s": 0.0, "code": 3}}, pace=pace, server={"workers": 1}).launch()
    front.await_event("relay died", count=5)
    waits = [line["again_in_s"] for line in front.lines() if line["event"] == "relay died"]
    assert waits[:5] == [0.0, 0.2, 0.4, 0.5, 0.5]


def test_a_good_life_is_no_reason_to_wait(tmp_path: Path) -> None:
    pace = {"first_s": 0.2, "longest_s": 5.0, "good_life_s": 0.0}
    front = Driven(tmp_path, {"relay": {"exit_after_s": 0.0}}, pace=pace, server={"workers": 1}).launch()
    front.await_event("relay died", count=4)
    assert {line["again_in_s"] for line in front.lines() if line["event"] == "relay died"} == {0.0}


def test_workers_that_cannot_boot_end_the_master_with_70_and_a_line_that_says_why(tmp_path: Path) -> None:
    front = Driven(tmp_path, {"worker": {"role": "fail", "text": "No module named 'policy'"}}).launch()
    assert front.wait(20.0) == os.EX_SOFTWARE
    lines = [line for line in front.lines() if line["event"] == "cannot start"]
    assert [line["reason"] for line in lines] == [
        "no worker can start: 3 tries, the last: ImportError: No module named 'policy'"
    ]
    front.assert_all_ended()


def test_a_worker_that_never_gets_ready_is_killed_and_counts_as_one_that_cannot_boot(tmp_path: Path) -> None:
    front = Driven(tmp_path, {"worker": {"role": "hang"}}, server={"workers": 2, "boot_timeout_s": 0.5}).launch()
    assert front.wait(20.0) == os.EX_SOFTWARE
    assert front.await_event("worker killed")["reason"] == "not ready after 0.5 s"
    assert "no worker can start" in front.await_event("cannot start")["reason"]


def test_a_store_that_no_worker_trusts_ends_the_start_though_the_relay_has_its_answer(tmp_path: Path) -> None:
    front = Driven(tmp_path, {"worker": {"unfit": [0, 1], "after": "relay"}}).launch()
    assert front.wait(20.0) == os.EX_CONFIG
    reason = "the store cannot be trusted with mail: appendfsync is no, must be always"
    assert [line["reason"] for line in front.lines() if line["event"] == "cannot start"] == [reason]
    front.assert_all_ended()


def test_a_store_that_a_worker_has_trusted_is_waited_for(tmp_path: Path) -> None:
    front = Driven(tmp_path, {"worker": {"unfit": [1], "after": "worker-0"}}).start()
    until(lambda: front.notes("ready", "worker", 1), 10.0, "the second worker has said that the store is unfit")
    assert front.ask()[0] in {0, 1}
    assert front.running()


def test_a_kind_that_worked_once_is_tried_for_ever(tmp_path: Path) -> None:
    """A later boot failure (a full disk, a broken deploy) must not take away the workers that still serve."""
    front = Driven(tmp_path, {"relay": {"role": "once"}}, server={"workers": 1}).start()
    front.await_event("relay died", count=8)
    assert front.running()
    assert front.ask()[0] == 0


def test_a_silent_worker_is_killed_and_replaced(tmp_path: Path) -> None:
    """Its hub hangs: it sends no beats, and its clients get no answers either."""
    front = Driven(tmp_path, {"worker": {"freeze_after_s": 0.1}}, server={"workers": 1, "block_kill_s": 1.5}).launch()
    line = front.await_event("worker killed")
    assert line["reason"] == "silent for 1.5 s"
    front.await_event("worker ready", count=2)


def test_a_master_that_stood_still_blames_nobody(tmp_path: Path) -> None:
    front = Driven(tmp_path, server={"workers": 1, "block_kill_s": 1.2}).start()
    before = front.status()["children"]
    children = [row["pid"] for row in before]
    for pid in (front.pid, *children):
        os.kill(pid, signal.SIGSTOP)
    with socket.socket() as clock:  # 3 s, longer than the time-out: no condition to wait for but time itself
        clock.settimeout(3.0)
        clock.bind(("127.0.0.1", 0))
        clock.listen()
        with contextlib.suppress(TimeoutError):
            clock.accept()
    for pid in (front.pid, *children):
        os.kill(pid, signal.SIGCONT)
    front.await_event("the master stood still")
    until(front.status, message="the admin answers again")
    assert [row["pid"] for row in front.status()["children"]] == children
    assert "worker killed" not in front.events()


def test_a_lane_is_given_back_and_taken_again(tmp_path: Path) -> None:
    front = Driven(tmp_path, server={"workers": 2}).start()
    lanes = {row["pid"]: row["lane"] for row in front.status()["children"]}
    gauge = tmp_path / "var" / "run" / "metrics" / f"gauge_livesum_{lanes[front.child('worker', 1)['pid']]}.db"
    counter = gauge.with_name(gauge.name.replace("gauge_livesum", "counter"))
    for file in (gauge, counter):
        file.touch()
    old = front.child("worker", 1)
    kill(old["pid"])
    until(lambda: front.child("worker", 1)["pid"] not in {0, old["pid"]}, message="it is replaced")
    assert front.child("worker", 1)["lane"] == old["lane"]
    assert not gauge.exists(), "the dead process's gauges are not counted"
    assert counter.exists(), "its counters go on"


def test_a_hundred_respawns_leak_nothing(tmp_path: Path) -> None:
    pace = {"first_s": 0.01, "longest_s": 0.01, "good_life_s": 0.0}
    front = Driven(
        tmp_path, {"relay": {"role": "brief"}}, pace=pace, server={"workers": 1}, relay={"workers": 1}
    ).start()
    front.await_event("relay died", count=10)
    before = descriptors(front.pid)
    front.await_event("relay died", count=110, timeout_s=60.0)
    until(lambda: descriptors(front.pid) <= before, message=f"as many descriptors as before ({before})")
    assert len(list((tmp_path / "var" / "run" / "lanes").iterdir())) <= 4
    zombies = [pid for pid in front.tree() if Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z"]
    assert zombies == []


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))
