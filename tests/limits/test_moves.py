"""The Redis of limits restarts, loses its data, fails over, or hands its slot on, all in the middle of load: no session
fails that need not, and the counts are right again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.front import Front
from tests.limits.fleet import CLIENT, a_fleet, codes, limits, mode, rush
from tests.limits.visits import Visits
from tests.stores import Store
from tests.topologies import Cluster, Trio
from tests.wait import until

LIMIT, HELD = 50, 30
LEASE_S = 5.0

Moves = Iterator[tuple[str, Callable[[], object]]]
"""The URL of a Redis, and what happens to it."""


@contextmanager
def restarted(directory: Path) -> Moves:
    store = Store("redis", directory).start()

    def restart() -> None:
        store.kill_now()
        store.start()

    yield store.url, restart


@contextmanager
def emptied(directory: Path) -> Moves:
    store = Store("redis", directory, appendonly="no").start()

    def restart() -> None:
        store.kill_now()
        store.start()

    yield store.url, restart


@contextmanager
def failed_over(directory: Path) -> Moves:
    trio = Trio(directory)

    def fail_over() -> None:
        master = trio.master()
        master.kill_now()
        trio.await_master(master)

    yield trio.url, fail_over


@contextmanager
def slot_moved(directory: Path) -> Moves:
    cluster = Cluster(directory, replicas=0)

    def move() -> None:
        owner = cluster.owner("limits")
        cluster.move("limits", next(node for node in cluster.nodes[:3] if node is not owner))

    yield cluster.url, move


HOW = {how.__name__: how for how in (restarted, emptied, failed_over, slot_moved)}


@pytest.mark.parametrize("how", HOW)
def test_counts_are_right_again(how: str, tmp_path: Path, full: bool, figures: Callable[[str], None]) -> None:
    if how == "emptied" and not full:
        pytest.skip("only with --full: much like a restart")
    with ExitStack() as stack:
        url, happens = stack.enter_context(HOW[how](tmp_path / "limits"))
        mail = Store("redis", tmp_path / "mail").start()
        given = limits(
            url=url, timeout_ms=250, slow_ms=100, lease_s=LEASE_S, connections={"per_address": LIMIT, "per_user": 0}
        )
        fleet = a_fleet(tmp_path, mail, given, count=2)
        holding = stack.enter_context(rush(fleet, [CLIENT] * HELD))
        assert set(codes(holding)) == {220}
        visits = stack.enter_context(Visits(fleet[0]))
        visits.await_more(50)
        began_at = time.monotonic()
        happens()
        over_at = time.monotonic()
        took_s = _await_exact(fleet, over_at)
        visits.await_more(50)
        waits_s = visits.waits_s(began_at, time.monotonic())  # and nobody was refused
        for talk in holding:
            talk.expect("NOOP", 250)
    figures(
        f"{how}: it took {over_at - began_at:.1f} s; right again {took_s:.1f} s later; {len(waits_s)} clients came "
        f"meanwhile, all let in, the slowest in {max(waits_s) * 1000:.0f} ms"
    )


def _await_exact(fleet: list[Front], since: float) -> float:
    """Until no worker does without the store, and all masters together let in as many as may be; never more."""
    until(lambda: all(mode(front) == "shared" for front in fleet), LEASE_S, "limits are shared again")

    def exact() -> bool:
        with rush(fleet, [CLIENT] * LIMIT) as talks:
            let_in = codes(talks).count(220)
        assert let_in <= LIMIT - HELD
        return let_in == LIMIT - HELD

    until(exact, LEASE_S, "the counts are right", every_s=0.1)
    return time.monotonic() - since
