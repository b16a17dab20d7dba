"""Every way to end: in order, in bounded time, with the right code, and with nothing left."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from tests.master.driven import Driven
from tests.processes import all_pids, kill, state
from tests.wait import until


def order_of_ends(front: Driven) -> list[str]:
    wanted = {
        "worker ended": "worker",
        "relay ended": "relay",
        "admin ended": "admin",
        "embedded store stopped": "store",
    }
    return [wanted[event] for event in front.events() if event in wanted]


def test_term_drains_workers_then_relays_then_admin_then_the_store(tmp_path: Path) -> None:
    plan = {"worker": {"drain_s": 0.5}, "relay": {"drain_s": 0.2}}
    front = Driven(tmp_path, plan, server={"drain_grace_s": 0.3, "drain_timeout_s": 6.0}).start()
    front.signal(signal.SIGTERM)
    assert front.wait() == 0
    assert order_of_ends(front) == ["worker", "worker", "relay", "admin", "store"]
    for note in front.notes("drain", "worker"):
        order, timeout_s, grace_s = note["more"][0]
        assert (order, round(timeout_s), round(grace_s, 1)) == ("drain", 6, 0.3)
    (note,) = front.notes("drain", "relay")
    assert 5.0 <= note["more"][0][1] <= 6.0, "what is left of the time, but no less than 5 s"
    front.assert_all_ended()


def test_readiness_goes_at_once_and_connections_are_taken_until_the_grace_ends(tmp_path: Path) -> None:
    plan = {"worker": {"drain_s": 3.0}}
    front = Driven(tmp_path, plan, server={"workers": 1, "drain_grace_s": 1.0, "drain_timeout_s": 6.0}).start()
    front.signal(signal.SIGTERM)
    began = time.monotonic()
    until(lambda: front.get("/readyz")[0] == 503, 0.9, "unready at once", every_s=0.001)
    assert json.loads(front.get("/readyz")[1]) == {"ready": False, "reasons": ["draining"]}
    assert front.get("/livez")[0] == 200
    assert front.ask()[0] == 0, "a balancer needs a moment to see it: until then we serve"
    assert time.monotonic() - began < 0.9


def test_the_master_lets_go_of_its_sockets_when_the_grace_ends(tmp_path: Path) -> None:
    """Workers close theirs; if the master kept its own, clients would wait in a queue that nobody empties."""
    plan = {"worker": {"drain_s": 2.5}}
    front = Driven(tmp_path, plan, server={"workers": 1, "drain_grace_s": 0.3, "drain_timeout_s": 6.0}).start()
    front.signal(signal.SIGTERM)

    def refused() -> bool:
        try:
            socket.create_connection(front.address, timeout=1.0).close()
        except ConnectionRefusedError:
            return True
        return False

    until(refused, 2.0, "connections are refused while sessions still drain")
    assert front.running()


def test_int_stops_at_once(tmp_path: Path) -> None:
    front = Driven(tmp_path, {"worker": {"drain_s": 60.0}}, server={"drain_timeout_s": 60.0}).start()
    began = time.monotonic()
    front.signal(signal.SIGINT)
    assert front.wait(5.0) == 0
    assert time.monotonic() - began < 3.0
    assert order_of_ends(front)[-1] == "store"
    front.assert_all_ended()


def test_ctrl_c_in_a_terminal_is_for_the_master_alone(tmp_path: Path) -> None:
    """The terminal sends INT to the whole foreground process group; workers and store must not go on their own."""
    front = Driven(tmp_path).start()
    os.killpg(front.pid, signal.SIGINT)
    assert front.wait(5.0) == 0
    assert {line["how"] for line in front.lines() if "how" in line} == {"exit 0"}
    assert order_of_ends(front)[-1] == "store"


def test_a_second_signal_does_not_wait_any_longer(tmp_path: Path) -> None:
    front = Driven(tmp_path, {"worker": {"drain_s": 60.0}}, server={"drain_timeout_s": 60.0}).start()
    front.signal(signal.SIGTERM)
    front.await_event("draining")
    assert front.running()
    front.signal(signal.SIGTERM)
    assert front.wait(5.0) == 0
    front.assert_all_ended()


def test_who_does_not_end_in_time_is_killed(tmp_path: Path) -> None:
    front = Driven(tmp_path, {"worker": {"never_ends": True}}, server={"drain_timeout_s": 0.5, "workers": 1}).start()
    front.signal(signal.SIGTERM)
    assert front.wait(10.0) == 0
    front.await_event("killed: did not end in time")
    front.assert_all_ended()


def test_a_child_that_is_deaf_does_not_hold_up_a_stop(tmp_path: Path) -> None:
    front = Driven(tmp_path, {"relay": {"role": "hang"}}, server={"workers": 1}).launch()
    until(lambda: front.notes("hang", "relay"), message="it hangs")
    front.signal(signal.SIGINT)
    assert front.wait(8.0) == 0
    front.assert_all_ended()


def test_nobody_is_replaced_while_all_end(tmp_path: Path) -> None:
    front = Driven(tmp_path, {"worker": {"drain_s": 1.0}}, server={"workers": 2}).start()
    front.signal(signal.SIGTERM)
    front.await_event("draining")
    kill(front.notes("ready")[0]["pid"])
    assert front.wait() == 0
    assert front.events().count("worker started") == 2


def test_the_store_is_replaced_even_while_workers_drain(tmp_path: Path) -> None:
    """A session that may end its message needs the store for it."""
    front = Driven(tmp_path, {"worker": {"drain_s": 1.5}}, server={"workers": 1}).start()
    front.signal(signal.SIGTERM)
    front.await_event("draining")
    kill(front.pids("store")[0])
    front.await_event("embedded store up", count=2, timeout_s=1.4)
    assert front.wait() == 0


def test_kill_9_of_the_master_leaves_nothing(tmp_path: Path) -> None:
    plan = {"worker": {"freeze_after_s": 0.0}}  # not even one whose hub hangs and cannot see the end of file
    front = Driven(tmp_path, plan, server={"workers": 2}).launch()
    until(lambda: len(front.notes("ready")) == 2 and front.notes("ready", "relay"), message="all run")
    front.await_event("embedded store up")
    assert len(front.tree()) == 6
    front.signal(signal.SIGKILL)
    front.wait()
    front.assert_all_ended(2.0)


def test_a_master_can_start_right_after_the_kill_of_another(tmp_path: Path) -> None:
    """It waits for what the other left: a worker that keeps the port, a store that keeps the files."""
    front = Driven(tmp_path).start()
    for _ in range(3):
        kill(front.pid)
        front.wait()
        front.start()
    assert front.terminate() == 0


def test_as_pid_1(tmp_path: Path) -> None:
    """In a container: strangers are reaped without a word, TERM works, and the code comes through."""
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-pf", "--mount-proc", "true"], capture_output=True).returncode:
        pytest.skip("no right to make a PID namespace")
    # --kill-child: so that nothing stays when a test fails
    before = (unshare, "-pf", "--mount-proc", "--kill-child")
    front = Driven(tmp_path, {"worker": {"role": "parent"}}, server={"workers": 1}, before=before).start()
    assert front.status()["pid"] == 1
    inside = next(pid for pid in all_pids() if _is_first_in_namespace(pid, front))
    until(lambda: front.notes("orphaned"), message="a worker's grandchild has lost its parent")
    until(lambda: not _zombies_below(inside), message="and is reaped when it ends")
    assert "worker died" not in front.events()
    os.kill(inside, signal.SIGTERM)
    assert front.wait() == 0
    front.assert_all_ended()


def _is_first_in_namespace(pid: int, front: Driven) -> bool:
    try:
        status = Path(f"/proc/{pid}/status").read_text("utf-8")
    except OSError:
        return False
    inner = next((line.split()[1:] for line in status.splitlines() if line.startswith("NSpid:")), [])
    return len(inner) == 2 and inner[1] == "1" and pid in front.tree()


def _zombies_below(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text("utf-8").split()
    return [int(child) for child in children if state(int(child)) == "Z"]
