"""The whole of it on Sentinels and on a Cluster: a master is killed under load, and each 250 arrives all the same."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import front as fronts
from tests.chaos.verdict import Outage, judge
from tests.load import Load
from tests.settingsfile import smtp_route
from tests.sink import Sink
from tests.topologies import HOST, Cluster, Trio
from tests.wait import until

pytestmark = pytest.mark.timeout(300)
SHARDS = 3


@pytest.mark.parametrize("kind", ["sentinel", "cluster"])
def test_a_master_dies_under_load(
    kind: str, tmp_path: Path, sink: Sink, figures: Callable[[str], None], full: bool
) -> None:
    if kind == "cluster" and not full:
        pytest.skip("14 s more; tests/store/test_cluster.py kills a master of a Cluster in every run")
    servers = Trio(tmp_path) if kind == "sentinel" else Cluster(tmp_path, cluster_require_full_coverage="no")
    store = {"url": servers.url, "durability": "fsync+replicated:1", "timeout_ms": 2000, "shards": SHARDS}
    front = fronts.make(tmp_path, smtp_route(sink.next_hop), store=store).start()
    load = Load(tmp_path, front.address[1], connections=10, rate=100, seconds=90, timeout_s=20).start()
    until(lambda: load.accepted() > 100, 20.0, "load is accepted")

    began_at = time.monotonic()
    if isinstance(servers, Trio):
        old = servers.master()
        old.kill_now()
        new = servers.await_master(old)
        old.start().ask("REPLICAOF", HOST, new.port)
    else:
        busiest = max(map(str, range(SHARDS)), key=lambda shard: taken(servers, shard))
        old = servers.owner(busiest)
        old.kill_now()
        servers.await_owner(busiest, old)
        old.start()
    before, back_at = load.accepted(), time.monotonic()
    until(lambda: load.accepted() > before + 200, 30.0, "accepts again by itself")
    load.terminate(60.0)
    until(lambda: entries(servers) == 0, 30.0, "all is relayed")
    attempts = load.attempts()
    verdict = judge(attempts, sink.deliveries(), [Outage("store", began_at - 0.1, time.monotonic())])
    assert verdict.good, verdict.table()
    refused = [attempt for attempt in attempts if attempt.outcome == "refused"]
    assert {attempt.code for attempt in refused} == {451}
    longest_s = max(attempt.at - (attempt.dot_at or attempt.began_at) for attempt in attempts)
    assert longest_s < 3.0
    figures(
        f"{verdict.accepted} accepted, 0 lost, {len(verdict.doubled)} doubled, {len(refused)} x 451, longest wait "
        f"{longest_s:.2f} s; a new master after {back_at - began_at:.1f} s"
    )


def taken(cluster: Cluster, shard: str) -> int:
    """How many messages came into this shard since the start."""
    words = cluster.owner(shard).ask("XINFO", "STREAM", f"mta:{{{shard}}}:queue")
    return int(dict(zip(words[::2], words[1::2], strict=True))[b"entries-added"])


def entries(servers: Trio | Cluster) -> int:
    """What is left in the queues of all shards."""

    def length(shard: int) -> int:
        master = servers.master() if isinstance(servers, Trio) else servers.owner(str(shard))
        return int(master.ask("XLEN", f"mta:{{{shard}}}:queue"))

    return sum(map(length, range(SHARDS)))
