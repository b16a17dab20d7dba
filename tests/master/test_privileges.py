"""Started as root: ports are bound, keys are read, and then all processes are somebody with no rights."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.master.driven import Driven
from tests.master.test_reload import children, rewrite
from tests.processes import kill
from tests.wait import until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root has rights to give up")

USER = "nobody"


def low_port() -> int:
    """A port that only the privileged may bind, and nobody has."""
    for port in range(1023, 100, -1):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no free port below 1024")


@pytest.fixture
def directory() -> Iterator[Path]:
    """One that others may enter; pytest's own are private."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def others_may_read(library: str = sys.base_prefix) -> tuple[str, ...]:
    """Words in front of a command, so that the user can load this Python: it may lie in the private home of root, which
    is then another one, for this command alone.
    """
    closed = [path for path in (Path(library), *Path(library).parents) if not path.stat().st_mode & 0o001]
    if not closed:
        return ()
    script = (
        f"mount --bind {library} /mnt && mount -t tmpfs -o mode=755 none {closed[-1]} && mkdir -p {library} && "
        f'mount --move /mnt {library} && exec "$@"'
    )
    words = ("unshare", "-m", "sh", "-c", script, "sh")
    if subprocess.run([*words, "true"], capture_output=True).returncode:
        pytest.skip(f"{USER} may not read {library}")
    return words


class Dropping(Driven):
    """A master that drops its privileges."""

    def __init__(self, directory: Path, **sections: Any) -> None:
        super().__init__(directory, before=others_may_read(), **sections)
        shutil.chown(self.notes_dir, USER)


def identity(pid: int) -> dict[str, list[str]]:
    rows = (
        line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text("utf-8").splitlines() if ":\t" in line
    )
    return {name: value.split() for name, value in rows if name in {"Uid", "Gid", "Groups", "NoNewPrivs", "CapEff"}}


def test_every_process_is_the_user_and_can_never_be_more(directory: Path) -> None:
    port = low_port()
    path = directory / "mx.sock"
    path.parent.chmod(0o777)
    listener = {"bind": [f"127.0.0.1:{port}", f"unix:{path}"]}
    front = Dropping(directory, listener=listener, server={"user": USER, "workers": 2, "max_workers": 3}).start()
    user = pwd.getpwnam(USER)
    pids = front.tree()
    assert len(pids) == 6
    for pid in pids:
        found = identity(pid)
        assert found["Uid"] == [str(user.pw_uid)] * 4
        assert found["Gid"] == [str(user.pw_gid)] * 4
        assert "0" not in found["Groups"]
        assert found["NoNewPrivs"] == ["1"]
        assert int(found["CapEff"][0], 16) == 0
    assert (front.data_dir.stat().st_uid, path.stat().st_uid) == (user.pw_uid, user.pw_uid)

    old = front.child("worker", 0)["pid"]
    kill(old)
    until(lambda: front.child("worker", 0)["pid"] not in {0, old}, message="workers are replaced")
    front.signal(signal.SIGTTIN)
    until(lambda: ("worker", 2) in children(front), message="a worker more needs no rights")
    until(lambda: front.ask()[0] == 2, message="it has a socket of the port")
    assert front.terminate() == 0
    front.assert_all_ended()


def test_a_new_port_below_1024_is_left_out_by_a_reload_and_the_rest_applies(directory: Path) -> None:
    front = Dropping(directory, server={"user": USER, "workers": 2, "max_workers": 2}).start()
    first = front.settings["listeners"][0]
    low = {**first, "name": "low", "bind": [f"127.0.0.1:{low_port()}"]}
    rewrite(front, listeners=[first, low], server={"workers": 1})
    front.signal(signal.SIGHUP)
    front.await_event("reloaded")
    assert "port below 1024" in front.await_event("a listener is left out: a restart can open it")["reason"]
    assert sorted(children(front)) == [("admin", 0), ("relay", 0), ("worker", 0)]
    front.ask()


@pytest.mark.parametrize(
    ("server", "code", "why"),
    [
        ({"user": "no-such-user"}, os.EX_CONFIG, "no-such-user"),
        ({"user": USER, "group": "no-such-group"}, os.EX_CONFIG, "no-such-group"),
    ],
)
def test_who_does_not_exist_is_told(directory: Path, server: dict[str, str], code: int, why: str) -> None:
    front = Driven(directory, server=server).launch()
    assert front.wait() == code
    assert why in front.await_event("cannot start")["reason"]


def test_what_was_open_at_the_start_is_closed(tmp_path: Path) -> None:
    before = ("/bin/sh", "-c", 'exec 9</etc/passwd; exec "$@"', "sh")
    front = Driven(tmp_path, before=before, server={"workers": 1}).start()
    for pid in front.tree():
        assert "/etc/passwd" not in {str(fd.readlink()) for fd in Path(f"/proc/{pid}/fd").iterdir()}
