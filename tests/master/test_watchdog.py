"""A worker that stands still is told of, gets no new clients, and is replaced when it is too long; others go on."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.front import Front
from tests.processes import ROOT
from tests.smtp_talk import talk
from tests.wait import until

DISCARD = {"recipients": ["*"], "transport": "discard"}
HOOKS = {"class": "tests.master.spinning:Spinning"}


def lines(front: Front, event: str) -> list[dict[str, Any]]:
    rows = [json.loads(row) for row in front.log_text().splitlines() if row.startswith("{")]
    return [row for row in rows if row["event"] == event]


@pytest.fixture
def spinning(serve: Callable[..., Front]) -> Callable[..., Front]:
    def start(**server: Any) -> Front:
        return serve(DISCARD, hooks=HOOKS, server={"workers": 2} | server)

    return start


def test_a_hook_that_spins_is_named_and_only_its_own_worker_waits(spinning: Callable[..., Front]) -> None:
    front = spinning(block_warn_ms=300, block_kill_s=60.0)
    with talk(front.address) as held:
        held.raw(b"MAIL FROM:<spin-3@client.example>\r\n")
        (line,) = until(lambda: lines(front, "hub stands still"), message="it is reported")
        assert line["where"].startswith(f"{ROOT}/tests/master/spinning.py:")
        assert "in on_mail_from" in line["where"]
        assert "time.perf_counter() < end_at" in line["stack"] or "pass" in line["stack"]
        assert line["session"]
        (told,) = until(lambda: lines(front, "worker stands still"), message="the master knows")
        assert (told["session"], told["where"]) == (line["session"], line["where"])
        for _ in range(20):
            began_at = time.monotonic()
            with talk(front.address) as other:
                other.expect("MAIL FROM:<a@client.example>", 250)
            assert time.monotonic() - began_at < 1.0, "the other worker serves all new clients"
        assert held.reply(10.0).code == 250
    until(lambda: lines(front, "hub moves again"), message="it is over")
    assert lines(front, "worker killed") == []


@pytest.mark.parametrize("sender", ["spin-30", "match-60"])
def test_who_stands_for_too_long_is_replaced_with_his_stack_in_the_log(
    spinning: Callable[..., Front], sender: str
) -> None:
    """Also when no thread of it can run: the stack is then written without the GIL."""
    front = spinning(block_warn_ms=300, block_kill_s=2.0)
    with talk(front.address) as held:
        held.raw(f"MAIL FROM:<{sender}@client.example>\r\n".encode())
        (killed,) = until(lambda: lines(front, "worker killed"), message="it is killed")
        died = until(lambda: lines(front, "worker died"), 2.0, "at once")[0]
        ready = until(lambda: lines(front, "worker ready")[2:], message="and replaced")[0]
    assert killed["reason"] == "silent for 2 s"
    (stood,) = lines(front, "worker stood here")
    assert "spinning.py" in stood["stack"]
    assert "on_mail_from" in stood["stack"]
    assert (died["pid"], died["how"]) == (killed["pid"], "signal SIGKILL")
    assert ready["slot"] == killed["slot"]


def test_a_worker_that_has_served_enough_is_replaced_without_a_gap(serve: Callable[..., Front], tmp_path: Path) -> None:
    front = serve(DISCARD, server={"workers": 1, "max_sessions": 20})
    (before,) = front.pids("worker")
    with talk(front.address) as early:
        for _ in range(60):
            with talk(front.address) as client:
                client.expect("NOOP", 250)
        until(lambda: lines(front, "worker ended"), message="the old one has drained")
        assert early.reply(5.0).code == 421
    renewed = lines(front, "worker is to be replaced")[0]
    assert "sessions served" in renewed["reason"]
    assert int(renewed["reason"].split()[0]) >= 18
    assert front.pids("worker") != [before]
    assert lines(front, "worker died") == []


def test_a_worker_that_holds_too_much_memory_is_replaced(serve: Callable[..., Front]) -> None:
    front = serve(DISCARD, server={"workers": 1, "max_memory_bytes": 1 << 20})
    assert (
        "MiB of memory" in until(lambda: lines(front, "worker is to be replaced"), 10.0, "each holds more")[0]["reason"]
    )
    until(lambda: lines(front, "worker ended"), 20.0, "the old one ends")
    with talk(front.address) as client:
        client.expect("NOOP", 250)
