"""What systemd hears from us, what it gives us, and the unit that makes it do so."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.master.driven import Driven
from tests.master.knocking import Knocking
from tests.ports import free_port
from tests.processes import ROOT
from tests.wait import until

UNIT = ROOT / "deploy" / "systemd" / "mta-front.service"


class Systemd:
    """The socket that a unit is to notify."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.setblocking(False)
        self.heard: list[str] = []

    def states(self) -> list[str]:
        """All that was said, the first line of each message."""
        while True:
            try:
                self.heard.append(self._socket.recv(4096).decode())
            except BlockingIOError:
                return [text.split("\n")[0] for text in self.heard]

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    made = Systemd(tmp_path / "notify")
    yield made
    made.close()


def test_what_systemd_hears(tmp_path: Path, systemd: Systemd) -> None:
    env = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "500000"}
    front = Driven(tmp_path, env=env, server={"workers": 1}).start()
    until(lambda: "READY=1" in systemd.states(), message="it is ready")
    assert front.ask()
    until(lambda: systemd.states().count("WATCHDOG=1") >= 4, message="its loop goes round")
    front.signal(signal.SIGHUP)
    until(lambda: systemd.states().count("READY=1") == 2, message="ready again")
    front.signal(signal.SIGUSR2)
    until(lambda: systemd.states().count("READY=1") == 3, 30.0, "and after an upgrade")
    until(lambda: systemd.states()[-3:] == ["WATCHDOG=1"] * 3, message="the watchdog goes on")
    assert front.terminate() == 0
    told = [state for state in systemd.states() if state != "WATCHDOG=1"]
    assert told[:3] == ["READY=1", "RELOADING=1", "READY=1"]
    assert told[-1] == "STOPPING=1"
    (reloading, *_) = [text for text in systemd.heard if text.startswith("RELOADING=1")]
    assert re.search(r"^MONOTONIC_USEC=\d+$", reloading, re.MULTILINE)


def test_it_serves_sockets_that_systemd_opened(tmp_path: Path) -> None:
    """Socket activation, also of ports that we could not bind; over reloads and upgrades."""
    port, own = free_port(), free_port()
    script = (
        "import os, socket, sys\n"
        f"given = socket.create_server(('127.0.0.1', {port}))\n"
        "given.fileno() == 3 or os.dup2(given.fileno(), 3)\n"
        "os.set_inheritable(3, True)\n"
        "os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()))\n"
        "os.execv(sys.argv[1], sys.argv[1:])\n"
    )
    before = (sys.executable, "-c", script)
    listener = {"bind": [f"127.0.0.1:{port}", f"127.0.0.1:{own}"]}
    front = Driven(tmp_path, before=before, listener=listener, server={"workers": 2}).start()
    with Knocking(("127.0.0.1", port)) as knocking:
        for number in (signal.SIGHUP, signal.SIGUSR2):
            front.signal(number)
            count = 1 if number == signal.SIGHUP else 2
            front.await_event("reloaded", count=count, timeout_s=30.0)
    assert knocking.failures == []
    assert knocking.answered > 50
    assert front.terminate() == 0


def test_the_unit_is_one_and_hardened() -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed")
    done = subprocess.run([analyze, "verify", str(UNIT)], capture_output=True, text=True)
    complaints = [line for line in done.stderr.splitlines() if "is not executable" not in line]
    assert complaints == []
    done = subprocess.run([analyze, "security", "--offline=true", str(UNIT)], capture_output=True, text=True)
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert found, done.stdout + done.stderr
    assert float(found.group(1)) <= 1.6
