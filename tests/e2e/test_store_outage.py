"""The store freezes, or is stopped, under load: 451 in time, recovery by itself, nothing lost, nothing stuck."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from signal import SIGCONT, SIGSTOP
from statistics import median

import pytest

from tests import front as fronts
from tests.chaos.verdict import Outage, judge
from tests.load import Attempt, Load
from tests.processes import kill
from tests.settingsfile import smtp_route
from tests.sink import Sink
from tests.stores import Store
from tests.wait import until

pytestmark = pytest.mark.timeout(900)  # for --full
TIMEOUT_S = 2.0  # store.timeout_ms: no session waits longer for the store
MARGIN_S = 1.0  # what a busy machine adds
ALERT_S = TIMEOUT_S + MARGIN_S  # after so long everybody knows that the store is down: answers come at once


def latency_s(attempt: Attempt) -> float:
    """How long the client waited for the answer that ended the attempt, at most."""
    return attempt.at - (attempt.dot_at or attempt.began_at)


@pytest.mark.parametrize("how", ["frozen", "stopped"])
def test_outage_under_load(how: str, tmp_path: Path, sink: Sink, full: bool, figures: Callable[[str], None]) -> None:
    """20 s without a store (6 s without --full): the embedded one frozen by SIGSTOP, or an external Redis stopped."""
    outage_s = 20.0 if full else 6.0
    external = Store("redis", tmp_path / "redis").start() if how == "stopped" else None
    store = {"timeout_ms": int(TIMEOUT_S * 1000), "url": external.url if external else ""}
    front = fronts.make(tmp_path, smtp_route(sink.next_hop), store=store).start()
    load = Load(tmp_path, front.address[1], connections=10, rate=150, seconds=outage_s + 60, timeout_s=20).start()
    until(lambda: load.accepted() > 150, 20.0, "load is accepted")

    began_at = time.monotonic()
    if external:
        external.terminate()
    else:
        (pid,) = front.pids("store")
        kill(pid, SIGSTOP)
    gone_at = time.monotonic()
    time.sleep(outage_s)  # the outage itself
    before = load.accepted()
    back_at = time.monotonic()
    if external:
        external.start()
    else:
        kill(pid, SIGCONT)
    until(lambda: load.accepted() > before + 150, 20.0, "accepts again by itself")
    over_at = time.monotonic()
    assert front.running()
    load.terminate(60.0)

    attempts = load.attempts()
    recovered_s = min(a.at for a in attempts if a.outcome == "accepted" and a.at > back_at) - back_at
    during = [attempt for attempt in attempts if began_at < attempt.at < back_at]
    refused = [attempt for attempt in during if attempt.outcome == "refused"]
    late = [attempt for attempt in refused if attempt.began_at > gone_at + ALERT_S]
    waits = [latency_s(attempt) for attempt in attempts]
    assert not [attempt for attempt in attempts if attempt.outcome in {"cut", "unknown"}], "every session was answered"
    assert refused
    assert {attempt.code for attempt in refused} == {451}
    assert {attempt.text[4:9] for attempt in refused} == {"4.3.0"}
    assert max(waits) < TIMEOUT_S + MARGIN_S
    assert late
    assert median(map(latency_s, late)) < 0.2, "at once, when the store is known to be down"
    assert not [attempt for attempt in during if attempt.outcome == "accepted" and attempt.dot_at > gone_at + 0.1]

    front.await_empty_queue()
    # The outcome of what was handed over as the store went down is unknown: the client may have sent it twice.
    verdict = judge(attempts, sink.deliveries(), [Outage("store", began_at - 0.1, over_at)])
    assert verdict.good, verdict.table()
    assert verdict.given_up == 0
    figures(
        f"{outage_s:.0f} s: {len(refused)} x 451, longest wait {max(waits):.2f} s of {TIMEOUT_S:.0f} s, later ones "
        f"{median(map(latency_s, late)) * 1000:.0f} ms; 250 again after {recovered_s:.2f} s; "
        f"{verdict.accepted} accepted, 0 lost, {len(verdict.doubled)} doubled, 0 left"
    )
