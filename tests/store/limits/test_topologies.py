"""Limits whose store fails over, or moves to another node of a Cluster, in the middle of load."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import gevent

from mta_front.store.limits.rules import AtOnce
from mta_front.store.limits.shared import Limits
from tests.store.limits.parts import LimitsRecorder, a_rate, who
from tests.store.parts import until
from tests.stores import Store
from tests.topologies import Cluster, Trio

FLEET = "mta:{limits}:lease:connections.fleet::all"
HELD = 40


class Sessions:
    """Two workers, sessions that stay and sessions that come and go. In a `with`: that is the load."""

    def __init__(self, make_limits: Callable[..., Limits], url: str) -> None:
        rules = AtOnce("fleet", 1000), a_rate("connection_rate", "fleet", "100000/1s")
        self.workers = [make_limits(url, *rules, lease_s=3.0) for _ in range(2)]
        for number in range(HELD):
            assert self.workers[number % 2].connected(who(f"stays-{number}")).allowed
        self.refused = 0
        self.count = 0
        self.longest_s = 0.0
        self._greenlets: list[gevent.Greenlet] = []

    def __enter__(self) -> Self:
        self._greenlets = [gevent.spawn(self._go_on, number) for number in range(20)]
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        gevent.killall(self._greenlets)

    def _go_on(self, number: int) -> None:
        limits = self.workers[number % 2]
        while True:
            self.count += 1
            session = who(f"{number}-{self.count}")
            try:
                began = time.monotonic()
                self.refused += not limits.connected(session).allowed
                self.longest_s = max(self.longest_s, time.monotonic() - began)
                gevent.sleep(0.01)
            finally:
                limits.closed(session)

    def await_shared(self) -> None:
        """Both workers count together again."""
        until(lambda: all(limits.mode == "shared" for limits in self.workers), 20.0, "the store to be asked again")

    def await_count(self, master: Store, count: int) -> None:
        """So many are held by living workers, and no more."""

        def live() -> int:
            alive = master.ask("ZRANGE", "mta:{limits}:workers", 0, -1)
            return sum(master.ask("ZCOUNT", FLEET, life, life) for life in alive)

        until(lambda: live() == count, 10.0, f"{count} leases")


def test_a_sentinels_failover_under_load(
    tmp_path: Path, make_limits: Callable[..., Limits], events: LimitsRecorder
) -> None:
    trio = Trio(tmp_path)
    sessions = Sessions(make_limits, trio.url)
    with sessions:
        until(lambda: sessions.count > 500)
        old = trio.master()
        old.kill_now()
        new = trio.await_master(old)
        sessions.await_shared()
        before = sessions.count
        until(lambda: sessions.count > before + 500)
    sessions.await_count(new, HELD)
    assert sessions.refused == 0
    assert sessions.longest_s < 2.0, "test_outages measures it"
    assert {mode for mode, _ in events.modes} == {"degraded", "shared"}


def test_a_slot_that_moves_under_load(
    tmp_path: Path, make_limits: Callable[..., Limits], events: LimitsRecorder
) -> None:
    cluster = Cluster(tmp_path, replicas=0)
    sessions = Sessions(make_limits, cluster.url)
    with sessions:
        until(lambda: sessions.count > 500)
        old = cluster.owner("limits")
        new = next(node for node in cluster.nodes if node is not old)
        cluster.move("limits", new)
        sessions.await_shared()
        before = sessions.count
        until(lambda: sessions.count > before + 500)
    sessions.await_shared()
    sessions.await_count(new, HELD)
    assert sessions.refused == 0
    assert sessions.longest_s < 2.0, "test_outages measures it"
