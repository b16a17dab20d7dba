"""One port, one data_dir, one pid file: who comes second says who was first, and exits 73."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import socket
import stat
import subprocess
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from mta_front.config import Bind
from mta_front.master.failure import CannotStart
from mta_front.master.lock import hold_data_dir, write_pid_file
from mta_front.master.sockets import open_tcp, open_unix
from tests.master.driven import Driven
from tests.ports import free_port
from tests.processes import clean_environment, kill, python


def reason(front: Driven) -> str:
    return str(front.await_event("cannot start")["reason"])


def directory(parent: Path, name: str) -> Path:
    path = parent / name
    path.mkdir()
    return path


def test_a_second_master_on_the_same_port_says_who_has_it_and_exits_73(tmp_path: Path) -> None:
    first = Driven(directory(tmp_path, "a"), server={"workers": 1}).start()
    bind = f"127.0.0.1:{first.address[1]}"
    second = Driven(directory(tmp_path, "b"), listener={"bind": [bind]}).launch()
    assert second.wait() == os.EX_CANTCREAT
    assert reason(second).startswith(f"cannot bind {bind}: in use by pid ")
    assert "tests.master.driver" in reason(second)
    assert first.ask()[0] == 0
    assert second.pids("store") == []


def test_a_second_master_on_the_same_data_dir_names_the_first_and_exits_73(tmp_path: Path) -> None:
    first = Driven(directory(tmp_path, "a")).start()
    second = Driven(directory(tmp_path, "b"), server={"data_dir": str(first.data_dir)}).launch()
    assert second.wait() == os.EX_CANTCREAT
    assert f"data_dir {first.data_dir} is held by pid {first.pid} (" in reason(second)
    assert first.ready()


def test_a_second_master_on_the_same_pid_file_leaves_it_alone(tmp_path: Path) -> None:
    pid_file = tmp_path / "front.pid"
    first = Driven(directory(tmp_path, "a"), server={"pid_file": str(pid_file)}).start()
    second = Driven(directory(tmp_path, "b"), server={"pid_file": str(pid_file)}).launch()
    assert second.wait() == os.EX_CANTCREAT
    assert reason(second) == f"pid_file {pid_file} is held by pid {first.pid}"
    assert pid_file.read_text() == f"{first.pid}\n"
    assert first.terminate() == 0
    assert not pid_file.exists()


def test_a_pid_file_of_a_killed_master_is_taken_over(tmp_path: Path) -> None:
    pid_file = tmp_path / "front.pid"
    front = Driven(tmp_path, server={"pid_file": str(pid_file)}).start()
    kill(front.pid)
    front.wait()
    assert pid_file.exists()
    front.start()
    assert pid_file.read_text() == f"{front.pid}\n"


def test_the_admin_port_is_ours_alone_too(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        bind = f"127.0.0.1:{other.getsockname()[1]}"
        front = Driven(tmp_path, admin={"bind": bind}).launch()
        assert front.wait() == os.EX_CANTCREAT
        assert reason(front).startswith(f"cannot bind {bind}: in use by pid {os.getpid()} (")


def test_a_port_shared_by_so_reuseport_is_in_use_all_the_same() -> None:
    """The option lets any process of our uid join a port; we never join one, and let nobody join before all is ours."""
    port = free_port()
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", port))
        other.listen()
        with pytest.raises(CannotStart) as caught:
            open_tcp(Bind("tcp", "127.0.0.1", port), 2, 10)
    assert caught.value.exit_code == os.EX_CANTCREAT


def test_of_two_masters_that_race_never_both_get_a_port() -> None:
    context = multiprocessing.get_context("spawn")
    rounds = 200
    ports = [free_port() for _ in range(4)]
    barrier = context.Barrier(2)
    results = [context.Array(ctypes.c_ubyte, rounds) for _ in range(2)]
    racers = [context.Process(target=_race, args=(barrier, ports, won)) for won in results]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join(60.0)
        assert racer.exitcode == 0
    winners = [sum(pair) for pair in zip(*(bytes(won.get_obj()) for won in results), strict=True)]
    assert 2 not in winners
    assert winners.count(1) > rounds // 2


def _race(barrier: Barrier, ports: list[int], won: list[int]) -> None:
    for number in range(len(won)):
        barrier.wait()
        sockets: list[socket.socket] = []
        try:
            sockets = open_tcp(Bind("tcp", "127.0.0.1", ports[number % len(ports)]), 3, 10)
            won[number] = 1
        except CannotStart:
            pass
        barrier.wait()
        for sock in sockets:
            sock.close()


def test_a_stale_unix_socket_is_replaced_and_a_living_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "mx.sock"
    bind = Bind("unix", path=str(path))
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    with open_unix(bind, 0o600, 10) as first:
        with pytest.raises(CannotStart) as caught:
            open_unix(bind, 0o600, 10)
        assert caught.value.exit_code == os.EX_CANTCREAT
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            first.accept()[0].close()


def test_a_file_that_is_no_socket_is_never_removed(tmp_path: Path) -> None:
    path = tmp_path / "mail"
    path.write_text("precious")
    with pytest.raises(CannotStart):
        open_unix(Bind("unix", path=str(path)), 0o600, 10)
    assert path.read_text() == "precious"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give up its rights")
def test_a_port_that_needs_rights_exits_77_and_says_which() -> None:
    code = (
        "import encodings.idna, os, mta_front.config as c, mta_front.master.sockets as s\n"
        "os.setuid(65534)\n"
        "try: s.open_tcp(c.Bind('tcp', '127.0.0.1', 25), 1, 10)\n"
        "except s.CannotStart as failure: print(failure.exit_code, failure.message)\n"
    )
    done = subprocess.run(python("-c", code), capture_output=True, text=True, env=clean_environment(), timeout=30)
    assert done.stdout == (
        "77 cannot bind 127.0.0.1:25: Permission denied (a port below 1024 needs root or CAP_NET_BIND_SERVICE)\n"
    ), done.stderr


def test_an_address_that_is_not_ours_exits_73() -> None:
    with pytest.raises(CannotStart) as caught:
        open_tcp(Bind("tcp", "192.0.2.1", free_port()), 1, 10)
    assert caught.value.exit_code == os.EX_CANTCREAT
    assert "192.0.2.1" in caught.value.message


def test_a_data_dir_that_cannot_be_made_exits_73(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    front = Driven(tmp_path, server={"data_dir": str(tmp_path / "file" / "var")}).launch()
    assert front.wait() == os.EX_CANTCREAT
    assert str(tmp_path / "file" / "var") in reason(front)


def test_a_directory_of_others_is_not_made_private_and_one_where_anybody_writes_is_refused(tmp_path: Path) -> None:
    shared = directory(tmp_path, "shared")
    (shared / "theirs").write_text("")
    shared.chmod(0o755)
    hold_data_dir(shared).remove()
    assert stat.S_IMODE(shared.stat().st_mode) == 0o755
    shared.chmod(0o1777)
    with pytest.raises(CannotStart) as caught:
        hold_data_dir(shared)
    assert caught.value.message == f"data_dir {shared} holds other files, and anybody may write there"
    assert [file.name for file in shared.iterdir()] == ["theirs"]
    assert stat.S_IMODE(shared.stat().st_mode) == 0o1777


def test_a_file_that_is_no_pid_file_is_left_alone(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("my thesis")
    with pytest.raises(CannotStart) as caught:
        write_pid_file(precious)
    assert caught.value.message == f"pid_file {precious} exists and is no pid file"
    assert precious.read_text() == "my thesis"


def test_a_signal_during_a_long_start_is_not_lost(tmp_path: Path) -> None:
    """A start waits for a predecessor's store; whoever wants it to end need not wait as long."""
    front = Driven(tmp_path).start()
    store = front.pids("store")[0]
    os.kill(store, signal.SIGSTOP)  # a dying store that takes its time
    front.signal(signal.SIGTERM)
    front.await_event("admin ended")
    kill(front.pid)
    front.wait()
    front.assert_all_ended()
