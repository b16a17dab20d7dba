"""What HAProxy's agent-check is told, without a server: `tests/master/test_agent_port.py` asks it over TCP."""

from __future__ import annotations

from typing import Any

import pytest

from mta_front.observe.agent import capacity_of, line_of
from mta_front.settings.model import Settings

CAPACITY = 400


def status(*sessions: int, **changes: Any) -> dict[str, Any]:
    """The master's words: a worker for each number."""
    children = [{"kind": "worker", "index": slot, "sessions": count} for slot, count in enumerate(sessions)]
    return {"state": "running", "children": [*children, {"kind": "relay", "sessions": 0}]} | changes


@pytest.mark.parametrize(
    ("sessions", "free"),
    [((0, 0), 100), ((1, 0), 100), ((4, 0), 99), ((100, 100), 50), ((399, 0), 1), ((200, 200), 1), ((500, 500), 1)],
)
def test_the_weight_is_what_is_free_and_never_nothing(sessions: tuple[int, ...], free: int) -> None:
    assert line_of(status(*sessions), [], CAPACITY) == b"ready up %d%%\n" % free


def test_draining_whatever_else_is_wrong() -> None:
    assert line_of(status(7, state="draining"), ["draining", "slot 0: no worker accepts"], CAPACITY) == b"drain\n"
    assert line_of(status(state="draining"), [], CAPACITY) == b"drain\n"


def test_maint_while_not_ready() -> None:
    assert line_of(status(0), ["the store has not answered yet"], CAPACITY) == b"maint\n"
    assert line_of({}, ["the master has said nothing yet"], CAPACITY) == b"maint\n"


def test_relays_alone_take_no_connections() -> None:
    assert line_of(status(), [], CAPACITY) == b"maint\n"


@pytest.mark.parametrize(
    ("max_clients", "capacity"),
    [((), 200), ((0,), 200), ((50,), 50), ((50, 30), 80), ((50, 0), 200), ((150, 150), 200)],
)
def test_capacity_is_what_binds_first(max_clients: tuple[int, ...], capacity: int) -> None:
    listeners = [{"name": f"l{n}", "max_clients": most} for n, most in enumerate(max_clients)]
    settings = Settings.model_validate({"server": {"workers": 2, "max_connections": 100}, "listeners": listeners})
    assert capacity_of(settings) == capacity
