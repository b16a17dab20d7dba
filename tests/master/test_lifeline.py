"""The child's end of the control socket, in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.processes import Program, python

CHILD = """
from gevent import monkey
monkey.patch_all()
import json, os, socket, sys, gevent
from mta_front.lifeline import Lifeline
control = socket.socket(fileno=int(sys.argv[1]))
def told(*what):
    lifeline.report(told=what)
lifeline = Lifeline(control, drain_timeout_s=30.0, beat_s=0.05)
lifeline.on_drain = lambda *times: told("drain", *times)
lifeline.on_stop = lambda: told("stop")
lifeline.on_cover = lambda slots: told("cover", slots)
lifeline.on_status = lambda status: told("status", status)
lifeline.start()
lifeline.report(ready={"accepting": True})
for sessions in (1, 2, 1, 2, 3):
    lifeline.count(sessions)
gevent.sleep(60)
"""


class Line:
    """The master's end, as a plain blocking socket."""

    def __init__(self, directory: Path) -> None:
        ours, theirs = socket.socketpair()
        ours.settimeout(5.0)
        with theirs:
            self.program = Program(python("-c", CHILD, str(theirs.fileno())), directory / "child.log", directory)
            self.program.popen = subprocess.Popen(
                self.program.argv,
                env=self.program.env,
                cwd=directory,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        self._ours = ours
        self._lines = ours.makefile("rb")

    def next(self, key: str) -> Any:
        """The value of the next line that has this key."""
        while True:
            report = json.loads(self._lines.readline())
            if key in report:
                return report[key]

    def order(self, **order: Any) -> None:
        self._ours.sendall(json.dumps(order).encode() + b"\n")

    def close(self) -> None:
        self._lines.close()
        self._ours.close()


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    made = Line(tmp_path)
    yield made
    made.close()
    made.program.end()


def test_it_beats_and_reports(line: Line) -> None:
    assert line.next("ready") == {"accepting": True}
    assert [line.next("beat") for _ in range(5)] == [1] * 5


def test_orders_become_calls(line: Line) -> None:
    line.next("ready")
    line.order(do="drain", timeout_s=9.0, grace_s=2.0)
    assert line.next("told") == ["drain", 9.0, 2.0]
    line.order(status={"state": "running"})
    assert line.next("told") == ["status", {"state": "running"}]
    line.order(do="cover", slots=[1, 2])
    assert line.next("told") == ["cover", [1, 2]]
    line.order(do="stop")
    assert line.next("told") == ["stop"]


def test_sessions_are_counted_at_once_and_then_together(line: Line) -> None:
    assert [line.next("sessions") for _ in range(2)] == [1, 3]


def test_an_order_that_a_newer_master_may_give_is_ignored(line: Line) -> None:
    line.next("ready")
    line.order(do="dance")
    line.order(do="stop")
    assert line.next("told") == ["stop"]


def test_term_is_an_order_to_drain_at_once_since_others_accept(line: Line) -> None:
    line.next("ready")
    line.program.signal(signal.SIGTERM)
    assert line.next("leaving") == "TERM"
    assert line.next("told") == ["drain", 30.0, 0.0]


def test_it_dies_with_its_master(line: Line) -> None:
    line.next("ready")
    line.close()
    assert line.program.wait(2.0) == os.EX_SOFTWARE
