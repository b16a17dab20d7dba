"""kill -9 of a worker with a thousand sessions: what they held is free within one lease time, for the whole fleet."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from tests.limits.fleet import CLIENT, a_fleet, came, codes, held, limits, rush
from tests.processes import kill
from tests.stores import Store
from tests.wait import until

SESSIONS = 1000
LEASE_S = 3.0
BUSY_S = 1.5  # what a loaded machine adds


def test_what_a_killed_worker_held_is_free_in_time(tmp_path: Path, figures: Callable[[str], None]) -> None:
    store = Store("redis", tmp_path / "redis").start()
    given = limits(connections={"per_address": SESSIONS, "per_user": 0}, lease_s=LEASE_S)
    killed, other = a_fleet(tmp_path, store, given, count=2)
    with rush([killed], [CLIENT] * SESSIONS) as talks:
        assert codes(talks) == [220] * SESSIONS
        with came(other) as refused:
            assert refused.reply().code == 421
        (pid,) = killed.pids("worker")
        kill(pid)
        killed_at = time.monotonic()

        def let_in() -> bool:
            with came(other) as talk:
                return talk.reply().code == 220

        until(let_in, LEASE_S + BUSY_S, "somebody is let in again", every_s=0.02)
        took_s = time.monotonic() - killed_at
    until(lambda: killed.pids("worker"), 10.0, "the master has started another worker")
    until(lambda: held(store, CLIENT) == 0, 10.0, "nobody holds anything")
    with rush([killed, other], [CLIENT] * (SESSIONS + 50)) as talks:
        assert codes(talks).count(220) == SESSIONS
    figures(f"kill -9 of a worker with {SESSIONS} sessions, leases of {LEASE_S} s: all free again after {took_s:.2f} s")
