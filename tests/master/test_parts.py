"""The master's parts by themselves: times, locks, lanes, lines."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest

from mta_front.master.backoff import Pace
from mta_front.master.control import LONGEST_LINE_BYTES, Control
from mta_front.master.heartbeat import Heartbeat
from mta_front.master.holder import holder_of_port
from mta_front.master.lanes import Lanes
from mta_front.master.lock import FileLock, Held
from mta_front.master.supervisor import how_it_ended


def test_a_booting_child_has_the_boot_timeout_and_a_ready_one_the_heartbeat() -> None:
    heart = Heartbeat(born_at=100.0, boot_timeout_s=60.0, timeout_s=30.0)
    heart.heard(110.0)  # beats do not prolong the boot
    assert heart.lateness(159.9) == ""
    assert heart.lateness(160.0) == "not ready after 60 s"
    heart.ready(155.0)
    heart.heard(155.0)
    assert heart.lateness(184.9) == ""
    assert heart.lateness(185.0) == "silent for 30 s"
    heart.forgive(5.0)
    assert heart.lateness(189.9) == ""


def test_waits_grow_up_to_a_bound() -> None:
    pace = Pace(first_s=0.1, longest_s=5.0)
    assert [round(pace.delay_s(lives, was_ready=True), 3) for lives in range(1, 10)] == [
        *(0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0)
    ]
    assert pace.delay_s(1, was_ready=False) == 0.1
    assert pace.delay_s(10_000, was_ready=False) == 5.0


def test_a_lock_is_held_until_closed_and_names_its_holder(tmp_path: Path) -> None:
    lock = FileLock.take(tmp_path / "lock")
    lock.write("pid 7\n")
    with pytest.raises(Held) as caught:
        FileLock.take(tmp_path / "lock", timeout_s=0.05)
    assert caught.value.holder == "pid 7"
    lock.close()
    FileLock.take(tmp_path / "lock").close()


def test_a_lock_is_inherited_by_a_child(tmp_path: Path) -> None:
    lock = FileLock.take(tmp_path / "lock")
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, pass_fds=[lock.fd]) as child:
        lock.close()
        with pytest.raises(Held):
            FileLock.take(tmp_path / "lock")
        child.communicate()
    FileLock.take(tmp_path / "lock").close()


def test_a_lock_does_not_follow_a_link(tmp_path: Path) -> None:
    """A directory that others may write to must not let a master that is root write elsewhere."""
    (tmp_path / "target").write_text("precious")
    (tmp_path / "lock").symlink_to(tmp_path / "target")
    with pytest.raises(OSError):
        FileLock.take(tmp_path / "lock")


def test_a_removed_lock_file_is_not_mistaken_for_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    first = FileLock.take(path)
    path.unlink()
    second = FileLock.take(path)
    first.remove()
    assert path.exists(), "it is the second one's now"
    second.remove()
    assert not path.exists()


def test_lanes_are_the_lowest_free_numbers(tmp_path: Path) -> None:
    lanes = Lanes(tmp_path)
    assert [lanes.take() for _ in range(3)] == [0, 1, 2]
    lanes.give_back(1)
    assert [lanes.take() for _ in range(2)] == [1, 3]


def test_a_lane_that_another_process_holds_is_left_out(tmp_path: Path) -> None:
    lanes, others = Lanes(tmp_path), Lanes(tmp_path)
    assert others.take() == 0
    assert lanes.take() == 1
    others.give_back(0)
    assert lanes.take() == 0


def test_a_start_waits_for_old_lanes_and_forgets_what_they_counted(tmp_path: Path) -> None:
    old = Lanes(tmp_path)
    lane = old.take()
    old.note(lane, "pid 7 (worker 0)\n")
    counter = old.metrics_dir / "counter_0.db"
    counter.touch()
    new = Lanes(tmp_path)
    assert new.start_anew(0.05) == ["pid 7 (worker 0)"]
    assert counter.exists()
    old.give_back(lane)
    assert new.start_anew(0.05) == []
    assert not counter.exists()
    assert new.take() == 0


@pytest.fixture
def line() -> tuple[Control, socket.socket]:
    ours, theirs = socket.socketpair()
    return Control(ours), theirs


def test_lines_arrive_whole_however_they_are_cut(line: tuple[Control, socket.socket]) -> None:
    control, child = line
    with child:
        got = []
        for byte in b'{"beat": 1}\n{"sessions": 12}\n{"be':
            child.send(bytes([byte]))
            got += control.receive() or []
        assert got == [{"beat": 1}, {"sessions": 12}]
        child.send(b'at": 1}\n')
        assert control.receive() == [{"beat": 1}]
        assert control.receive() == []
    assert control.receive() is None
    control.close()


@pytest.mark.parametrize("nonsense", [b"not json\n", b"[1]\n", b"\xff\xff\n", b"x" * (LONGEST_LINE_BYTES + 10)])
def test_a_child_that_talks_nonsense_is_not_listened_to(line: tuple[Control, socket.socket], nonsense: bytes) -> None:
    control, child = line
    with child:
        child.sendall(nonsense)
        got: list[dict[str, object]] | None = []
        while got == []:
            got = control.receive()
        assert got is None
    control.close()


def test_a_child_that_does_not_read_holds_nobody_up(line: tuple[Control, socket.socket]) -> None:
    control, child = line
    with child:
        for number in range(3000):
            control.inform(status={"number": number, "filler": "x" * 1000})
        control.order(do="stop")
        child.setblocking(False)
        received = b""
        while True:
            control.flush()
            try:
                received += child.recv(1 << 20)
            except BlockingIOError:
                break
        lines = received.splitlines()
        assert lines[-1] == b'{"do": "stop"}', "orders are kept"
        assert len(lines) < 1500, "news are replaced by newer ones"
    control.order(do="stop")  # a child that is gone is no error
    control.close()


def test_how_a_process_ended_in_words() -> None:
    assert [how_it_ended(status) for status in (0, 70 << 8, 9, 15)] == [
        "exit 0",
        "exit 70",
        "signal SIGKILL",
        "signal SIGTERM",
    ]


def test_who_listens_on_a_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        assert holder_of_port(port).startswith(f"pid {os.getpid()} (")
    assert holder_of_port(port) == "another process"
