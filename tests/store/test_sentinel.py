"""A store behind Sentinels: whom we find, and what becomes of messages when another becomes the master."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

import gevent
import pytest

from mta_front.store.client import Call, Link, StoreOptions
from mta_front.store.errors import StoreDown, StoreUnknown
from mta_front.store.spool import Spool
from tests.ports import free_port
from tests.store.parts import Load, Recorder, until
from tests.topologies import HOST, Trio, in_step

QUEUE = "mta:{0}:queue"
COUNTED = "fsync+replicated:1"


@pytest.fixture
def trio(tmp_path: Path) -> Trio:
    """A master, one replica, three Sentinels."""
    return Trio(tmp_path)


def test_seeds_that_are_dead_frozen_or_behind_are_passed_over(
    trio: Trio, make_link: Callable[..., Link], events: Recorder
) -> None:
    frozen, behind, good = trio.sentinels
    frozen.signal(signal.SIGSTOP)
    behind.ask("SENTINEL", "REMOVE", "mail")
    behind.ask("SENTINEL", "MONITOR", "mail", HOST, trio.stores[1].port, 2)  # a replica: it says so itself
    ports = [free_port(), frozen.port, behind.port, good.port]
    url = f"redis+sentinel://{','.join(f'{HOST}:{port}' for port in ports)}/mail"
    began = time.monotonic()
    link = make_link(url, timeout_ms=1000)
    assert time.monotonic() - began < 1.2
    assert link.call(Call(["SET", "k", "v"])) == b"OK"
    assert trio.stores[0].ask("GET", "k") == b"v"
    frozen.signal(signal.SIGCONT)
    unknown = Link(StoreOptions(url=trio.url.replace("/mail", "/male")), "test", events)
    unknown.start()
    until(lambda: unknown.fault)
    assert str(unknown.fault) == "no Sentinel knows the master"
    unknown.close()


def test_a_master_that_was_replaced_without_noticing_is_left(
    trio: Trio, make_link: Callable[..., Link], events: Recorder
) -> None:
    """It was cut off from its Sentinels, and goes on taking what will be lost."""
    link = make_link(trio.url, check_interval_s=0.2)
    old, new = trio.stores
    new.ask("REPLICAOF", "NO", "ONE")
    for sentinel in trio.sentinels[:2]:
        sentinel.ask("SENTINEL", "REMOVE", "mail")
        sentinel.ask("SENTINEL", "MONITOR", "mail", HOST, new.port, 2)
    until(lambda: ("test", False, "the store has another master") in events.states)
    until(lambda: link.up_since)
    link.call(Call(["SET", "k", "v"]))
    assert (old.ask("EXISTS", "k"), new.ask("EXISTS", "k")) == (0, 1)


def test_a_master_that_is_killed_under_load_loses_nothing_that_was_acknowledged(
    trio: Trio, make_spool: Callable[..., Spool], figures: Callable[[str], None], full: bool
) -> None:
    """As many replicas are counted as can be promoted: here one, so it has all that was acknowledged."""
    outages = []
    with Load(make_spool(trio, durability=COUNTED, timeout_ms=2000)) as load:
        for number in range(20 if full else 1):
            until(lambda: len(load.acknowledged) >= 200 * (number + 1), 30.0)  # noqa: B023
            old = trio.master()
            killed_at = time.monotonic()
            old.kill_now()
            new = trio.await_master(old)
            old.start().ask("REPLICAOF", HOST, new.port)  # Sentinel does it too, after 8 s
            outages.append(load.await_success_after(time.monotonic()) - killed_at)
            until(lambda: all(each.knows(3, 1) for each in trio.sentinels), 20.0)
    found = {fields[1].decode() for _, fields in new.ask("XRANGE", QUEUE, "-", "+")}
    assert not load.acknowledged - found
    assert load.longest_s < 2.5
    figures(
        f"{len(outages)} fail-overs: {len(load.acknowledged)} acknowledged, 0 lost, {load.failed} refused or unknown; "
        f"no message taken for {max(outages):.1f} s at most; longest wait {load.longest_s:.2f} s"
    )


def test_a_planned_fail_over_under_load(
    tmp_path: Path, make_spool: Callable[..., Spool], figures: Callable[[str], None], full: bool
) -> None:
    """The old master serves on for a moment, and only its replicas tell that it is none."""
    if not full:
        pytest.skip("12 s: Sentinel waits long before it makes a replica of the old one")
    trio = Trio(tmp_path)
    with Load(make_spool(trio, durability=COUNTED, timeout_ms=2000)) as load:
        until(lambda: len(load.acknowledged) >= 200, 10.0)
        old = trio.master()
        began = time.monotonic()
        trio.sentinels[0].ask("SENTINEL", "FAILOVER", "mail")
        new = trio.await_master(old)
        until(lambda: in_step(new, 1), 20.0)
        outage_s = load.await_success_after(time.monotonic(), 20.0) - began
    found = {fields[1].decode() for _, fields in new.ask("XRANGE", QUEUE, "-", "+")}
    assert not load.acknowledged - found
    figures(f"{len(load.acknowledged)} acknowledged, 0 lost, {load.failed} refused or unknown, {outage_s:.1f} s")


def test_a_frozen_replica_is_no_250_and_leaves_few_copies(trio: Trio, make_spool: Callable[..., Spool]) -> None:
    spool = make_spool(trio, durability=COUNTED, timeout_ms=400)
    master, replica = trio.stores
    replica.stop()
    with Load(spool, greenlets=10) as load:
        load.acknowledged.clear()
        time_over = time.monotonic() + 2.0
        until(lambda: time.monotonic() > time_over, 3.0)
        assert not load.acknowledged
        assert load.longest_s < 0.8
        assert {StoreUnknown, StoreDown} == set(map(type, load.errors))
        stored = master.ask("XLEN", QUEUE)
        assert stored <= 2 * 10 + 10, "who was refused at once left nothing"
        replica.go_on()
        until(lambda: load.acknowledged, 5.0, "it goes on")


def test_a_replica_that_is_gone(trio: Trio, make_spool: Callable[..., Spool], events: Recorder) -> None:
    spool = make_spool(trio, durability=COUNTED, timeout_ms=400)
    until(lambda: events.replicas == [(1, 1)] * 2)
    trio.stores[1].kill_now()
    with Load(spool, greenlets=3) as load:
        until(lambda: spool.fault is not None, 3.0)
        assert spool.fault is not None
        assert spool.fault.reason == "0 of 1 replicas confirmed in time"
        load.acknowledged.clear()
        gevent.sleep(0.5)
        assert not load.acknowledged
