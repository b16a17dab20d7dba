"""Each signal in each state of the master, and what comes of it: the table of docs/operations.md."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.master.driven import Driven
from tests.wait import until

SLOW_DRAIN = {"worker": {"drain_s": 4.0}}

ENDS, GOES_ON = True, False

TABLE: list[tuple[str, signal.Signals, str, bool]] = [
    # state, signal, what the log says next, whether the master ends for it (within seconds, with 0)
    ("starting", signal.SIGTERM, "draining", ENDS),
    ("starting", signal.SIGINT, "stopping", ENDS),
    ("starting", signal.SIGQUIT, "stopping", ENDS),
    ("starting", signal.SIGHUP, "reloaded", GOES_ON),
    ("starting", signal.SIGTTIN, "a worker more", GOES_ON),
    ("starting", signal.SIGTTOU, "a worker fewer", GOES_ON),
    ("starting", signal.SIGUSR1, "logs go to standard error: there is no file to open again", GOES_ON),
    ("starting", signal.SIGUSR2, "master upgraded", GOES_ON),
    ("ready", signal.SIGTERM, "draining", ENDS),
    ("ready", signal.SIGINT, "stopping", ENDS),
    ("ready", signal.SIGQUIT, "stopping", ENDS),
    ("ready", signal.SIGHUP, "reloaded", GOES_ON),
    ("ready", signal.SIGTTIN, "a worker more", GOES_ON),
    ("ready", signal.SIGTTOU, "a worker fewer", GOES_ON),
    ("ready", signal.SIGUSR1, "logs go to standard error: there is no file to open again", GOES_ON),
    ("ready", signal.SIGUSR2, "master upgraded", GOES_ON),
    ("reloading", signal.SIGTERM, "reload refused: all stays as it was", ENDS),
    ("reloading", signal.SIGINT, "reload refused: all stays as it was", ENDS),
    ("reloading", signal.SIGQUIT, "reload refused: all stays as it was", ENDS),
    ("reloading", signal.SIGHUP, "reloaded", GOES_ON),
    ("reloading", signal.SIGTTIN, "a worker more", GOES_ON),
    ("reloading", signal.SIGTTOU, "a worker fewer", GOES_ON),
    ("reloading", signal.SIGUSR1, "logs go to standard error: there is no file to open again", GOES_ON),
    ("reloading", signal.SIGUSR2, "master upgraded", GOES_ON),
    ("draining", signal.SIGTERM, "stopping at once", ENDS),
    ("draining", signal.SIGINT, "stopping at once", ENDS),
    ("draining", signal.SIGQUIT, "stopping at once", ENDS),
    ("draining", signal.SIGHUP, "signal ignored", ENDS),
    ("draining", signal.SIGTTIN, "signal ignored", ENDS),
    ("draining", signal.SIGTTOU, "signal ignored", ENDS),
    ("draining", signal.SIGUSR1, "signal ignored", ENDS),
    ("draining", signal.SIGUSR2, "signal ignored", ENDS),
]


def in_state(directory: Path, state: str) -> Driven:
    plan = SLOW_DRAIN if state == "draining" else {}
    front = Driven(directory, plan, server={"workers": 2, "max_workers": 3})
    if state == "starting":
        front.launch()
        front.await_event("master started")
        return front
    front.start()
    if state == "reloading":
        front.signal(signal.SIGHUP)
        front.await_event("reloading")
    elif state == "draining":
        front.signal(signal.SIGTERM)
        front.await_event("draining")
    return front


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """All rows with `--full`, else those that no other test covers."""
    if "number" in metafunc.fixturenames:
        rows = [row for row in TABLE if metafunc.config.getoption("--full") or row[:2] in ESSENTIAL]
        names = [f"{state}-{number.name}" for state, number, _, _ in rows]
        metafunc.parametrize(("state", "number", "event", "ends"), rows, ids=names)


def test_a_signal_in_a_state(tmp_path: Path, state: str, number: signal.Signals, event: str, ends: bool) -> None:
    front = in_state(tmp_path, state)
    front.signal(number)
    front.await_event(event, timeout_s=30.0)
    if ends:
        assert front.wait(15.0) == 0
        front.assert_all_ended()
    else:
        until(front.ready, 20.0, "it serves")
        front.ask()
        assert front.terminate(20.0) == 0


ESSENTIAL = {
    ("starting", signal.SIGTERM),
    ("starting", signal.SIGHUP),
    ("starting", signal.SIGUSR2),
    ("reloading", signal.SIGINT),
    ("reloading", signal.SIGTTOU),
    ("reloading", signal.SIGUSR2),
    ("draining", signal.SIGHUP),
    ("draining", signal.SIGINT),
}
"""What no other test does; the rest is run with --full."""


def test_the_table_is_complete() -> None:
    states = ("starting", "ready", "reloading", "draining")
    numbers = {signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU}
    numbers |= {signal.SIGUSR1, signal.SIGUSR2}
    assert {(state, number) for state, number, _, _ in TABLE} == {(s, n) for s in states for n in numbers}
