"""The agent port over real TCP: what HAProxy gets, and what somebody with bad manners gets."""

from __future__ import annotations

import os
import re
import resource
import signal
import socket
import time
from pathlib import Path
from typing import Any

from tests.master.driven import Driven
from tests.ports import free_port
from tests.wait import until


class Asked(Driven):
    """A master with an agent port."""

    def __init__(self, directory: Path, plan: dict[str, Any] | None = None, **sections: Any) -> None:
        self.agent_port = free_port()
        super().__init__(directory, plan, admin={"agent_check": f"127.0.0.1:{self.agent_port}"}, **sections)

    def said(self) -> bytes:
        """What the agent says, up to its end of the connection; b"" when nobody is there."""
        try:
            with socket.create_connection(("127.0.0.1", self.agent_port), timeout=5.0) as client:
                return b"".join(iter(lambda: client.recv(100), b""))
        except ConnectionError:  # refused; or it waited in the queue when the port was closed
            return b""

    def await_said(self, line: bytes) -> None:
        """Until it says so."""
        until(lambda: self.said() == line, message=f"the agent says {line!r}")


def test_in_service_then_drain_from_the_signal_to_the_end(tmp_path: Path) -> None:
    """`drain` comes while the workers still accept, and stays until nobody is left to be asked."""
    front = Asked(tmp_path, {"worker": {"drain_s": 0.5}}, server={"drain_grace_s": 1.0}).start()
    assert front.said() == b"ready up 100%\n"
    front.signal(signal.SIGTERM)
    front.await_said(b"drain\n")
    assert front.ask()[1] in [note["pid"] for note in front.notes("ready")], "the grace has only begun"
    heard = {front.said()}
    while front.running():
        heard.add(front.said())
    assert heard == {b"drain\n", b""}
    assert front.wait() == 0


def test_maint_until_every_slot_accepts_and_while_one_does_not(tmp_path: Path) -> None:
    pace = {"first_s": 1.0, "longest_s": 1.0, "good_life_s": 0.0}
    front = Asked(tmp_path, {"worker": {"role": "hang"}}, pace=pace, server={"workers": 2}).launch()
    front.await_said(b"maint\n")
    front.end()

    (tmp_path / "second").mkdir()
    front = Asked(tmp_path / "second", pace=pace, server={"workers": 2}).start()
    front.await_said(b"ready up 100%\n")
    os.kill(front.pids("worker")[0], signal.SIGKILL)
    front.await_said(b"maint\n")
    front.await_said(b"ready up 100%\n")


def test_after_a_restart_on_the_same_address_it_is_ready_again(tmp_path: Path) -> None:
    front = Asked(tmp_path).start()
    assert front.terminate() == 0
    front.start()
    assert front.said() == b"ready up 100%\n"


def test_it_reads_nothing_and_waits_for_nobody(tmp_path: Path) -> None:
    """Silent clients, rude ones and those that are gone at once; its answers stay quick and nothing is logged."""
    front = Asked(tmp_path, server={"workers": 1}).start()
    silent = [socket.create_connection(("127.0.0.1", front.agent_port), timeout=5.0) for _ in range(300)]
    for _ in range(200):
        with socket.create_connection(("127.0.0.1", front.agent_port), timeout=5.0) as rude:
            rude.send(b"GET / HTTP/1.1\r\n" * 100)
    began_at = time.monotonic()
    assert front.said() == b"ready up 100%\n"
    assert time.monotonic() - began_at < 2.0
    for client in silent:
        assert client.recv(100) == b"ready up 100%\n"
        assert client.recv(100) == b"", "it closed at once"
        client.close()
    assert front.ready()
    assert not [line for line in front.lines() if line["level"] == "error"]
    assert not re.search("Traceback", front.log_text())


def test_out_of_descriptors_it_waits_and_goes_on(tmp_path: Path) -> None:
    front = Asked(tmp_path, server={"workers": 1}).start()
    (admin,) = until(lambda: front.pids("admin"), message="the admin has told that it is ready")

    soft, hard = resource.prlimit(admin, resource.RLIMIT_NOFILE)
    resource.prlimit(admin, resource.RLIMIT_NOFILE, (3, hard))
    with socket.create_connection(("127.0.0.1", front.agent_port), timeout=5.0) as client:
        client.settimeout(0.5)
        try:
            said = client.recv(100)
        except TimeoutError:
            said = b""
        assert said == b"", "nobody can be accepted"
        resource.prlimit(admin, resource.RLIMIT_NOFILE, (soft, hard))
        client.settimeout(5.0)
        assert client.recv(100) == b"ready up 100%\n"
    assert "Traceback" not in front.log_text()
