"""A store that is a Redis Cluster: shards on their nodes, slots that move, masters that die."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest

from mta_front.store.client import Call, Link, StoreOptions
from mta_front.store.errors import StoreError
from mta_front.store.queue import Queue, QueueLinks
from mta_front.store.spool import Spool
from mta_front.store.topology import slot_of
from tests import processes
from tests.ports import free_port
from tests.store.parts import RECIPIENT, Load, Recorder, a_body, put, until
from tests.topologies import HOST, Cluster

SCRIPT = "redis.call('INCR', KEYS[1]); return redis.call('INCR', KEYS[2])"


@pytest.fixture(scope="module")
def shared_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three masters; they take two seconds to become a Cluster, so the tests share them."""
    cluster = Cluster(tmp_path_factory.mktemp("cluster"), replicas=0)
    for node in cluster.nodes:
        processes.started.remove(node)  # else they were ended after the first test
    yield cluster
    for node in cluster.nodes:
        node.end()


@pytest.fixture
def cluster(shared_cluster: Cluster) -> Cluster:
    """The three masters, empty."""
    for node in shared_cluster.nodes:
        node.ask("FLUSHALL")
        node.ask("CONFIG", "SET", "cluster-preferred-endpoint-type", "ip")
    return shared_cluster


def stored(cluster: Cluster, shards: int) -> set[str]:
    """The ids of all messages in the queues."""
    return {
        fields[1].decode()
        for shard in range(shards)
        for _, fields in cluster.owner(str(shard)).ask("XRANGE", f"mta:{{{shard}}}:queue", "-", "+")
    }


@pytest.mark.parametrize("tag", ["0", "17", "limits", "ü", "", "mta:secret"])
def test_slots_are_those_of_redis(cluster: Cluster, tag: str) -> None:
    assert slot_of(tag) == cluster.nodes[0].ask("CLUSTER", "KEYSLOT", tag)


def test_each_shard_is_on_its_node_and_comes_out_whole(
    cluster: Cluster, make_spool: Callable[..., Spool], events: Recorder
) -> None:
    spool = make_spool(cluster, shards=6)
    body = a_body(200_000)
    ids = {put(spool, body if number % 4 == 0 else b"x\r\n", mail_from=f"{number}@a.example") for number in range(40)}
    owners = {cluster.owner(str(shard)).port for shard in range(6)}
    assert len(owners) == 3
    assert stored(cluster, 6) == ids
    options = StoreOptions(url=cluster.url, shards=6)
    links = QueueLinks(options, events)
    links.start()
    queues = [Queue(options, shard, "relay-1", 60.0, events, links=links) for shard in range(6)]
    taken = set()
    for queue in queues:
        queue.start()
        until(lambda: queue.answered)  # noqa: B023
        for claim in queue.take(100, 10):
            assert b"".join(queue.body(claim)) == body if claim.envelope.segments else claim.body == b"x\r\n"
            taken.add(claim.id)
            assert queue.settle(claim, {RECIPIENT: {"outcome": "delivered", "code": 250}}, None)
        queue.close()
    links.close()
    assert taken == ids
    assert links.fault is not None


def test_seeds_that_are_dead_or_frozen_are_passed_over(cluster: Cluster, make_link: Callable[..., Link]) -> None:
    owner = cluster.owner("0")
    frozen = next(node for node in cluster.nodes if node is not owner)
    url = f"redis+cluster://{HOST}:{free_port()},{HOST}:{frozen.port},{HOST}:{owner.port}"
    frozen.stop()
    began = time.monotonic()
    link = make_link(url, tag="0", timeout_ms=1000)
    assert time.monotonic() - began < 1.2
    assert link.call(Call(["SET", "{0}k", "v"])) == b"OK"
    frozen.go_on()


def test_a_url_of_one_server_does_not_fit_a_cluster(cluster: Cluster, events: Recorder) -> None:
    node = next(node for node in cluster.nodes if node is not cluster.owner("0"))
    link = Link(StoreOptions(url=f"redis://{HOST}:{node.port}"), "test", events)
    link.start()
    with pytest.raises(StoreError, match="redis\\+cluster"):
        link.call(Call(["SET", "{0}k", "v"]))
    link.close()


@pytest.mark.parametrize(
    ("together", "endpoints"),
    [(True, "ip"), (False, "ip"), (True, "unknown-endpoint")],
    ids=["transaction", "pipeline", "without-addresses"],
)
def test_a_slot_that_moves_under_load_costs_no_call_and_counts_exactly(
    cluster: Cluster,
    make_link: Callable[..., Link],
    events: Recorder,
    together: bool,
    endpoints: str,
    figures: Callable[[str], None],
    full: bool,
) -> None:
    for node in cluster.nodes:
        node.ask("CONFIG", "SET", "cluster-preferred-endpoint-type", endpoints)
    link = make_link(cluster.url, tag="limits", timeout_ms=2000, scripts=[SCRIPT], together=together)
    source = cluster.owner("limits")
    target = next(node for node in cluster.nodes if node is not source)
    for number in range(100):
        source.ask("SET", f"{{limits}}:other:{number}", "x" * 100)
    sha = source.ask("SCRIPT", "LOAD", SCRIPT).decode()
    failed: list[StoreError] = []
    counted = {"one": 0, "both": 0}
    longest_s = 0.0

    def run(name: str, command: list[Any]) -> None:
        nonlocal longest_s
        while True:
            began = time.monotonic()
            try:
                link.call(Call(list(command)))
                counted[name] += 1
            except StoreError as error:
                failed.append(error)
            longest_s = max(longest_s, time.monotonic() - began)
            gevent.sleep(0.001)

    runs = [gevent.spawn(run, "one", ["INCR", "{limits}:one"]) for _ in range(5)]
    runs += [gevent.spawn(run, "both", ["EVALSHA", sha, 2, "{limits}:a", "{limits}:b"]) for _ in range(5)]
    runs += [gevent.spawn(run, "one", ["INCRBY", "{limits}:one", 1]) for _ in range(5)]
    for _ in range(10 if full else 1):
        gevent.sleep(0.1)
        cluster.move("limits", target, one_by_one=lambda: gevent.sleep(0.001))
        gevent.sleep(0.1)
        source, target = target, source
    before = dict(counted)
    until(lambda: all(counted[name] > before[name] for name in counted))
    gevent.killall(runs)
    until(lambda: not link.busy_since and not link._batches)
    assert not failed
    found = {name: int(source.ask("GET", f"{{limits}}:{name}")) for name in ("one", "a", "b")}
    assert counted["one"] <= found["one"] <= counted["one"] + 10
    assert counted["both"] <= found["a"] <= counted["both"] + 5
    assert found["a"] == found["b"], "a script is one step, also on the way"
    assert calls_of(source, "asking") + calls_of(target, "asking"), "some were asked of the node that takes over"
    figures(f"{sum(counted.values())} calls, none failed, longest {longest_s * 1000:.0f} ms")


def calls_of(node: Any, command: str) -> int:
    """How often the node was given this command."""
    lines = node.ask("INFO", "commandstats").decode().splitlines()
    return sum(int(line.split("calls=")[1].split(",")[0]) for line in lines if line.startswith(f"cmdstat_{command}:"))


def test_a_slot_stuck_half_way_refuses_in_time_what_needs_both_halves(
    cluster: Cluster, make_link: Callable[..., Link]
) -> None:
    link = make_link(cluster.url, tag="limits", timeout_ms=400)
    source = cluster.owner("limits")
    target = next(node for node in cluster.nodes if node is not source)
    for key in ("a", "b"):
        link.call(Call(["SET", f"{{limits}}{key}", "1"]))
    slot = slot_of("limits")
    target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", cluster.id_of(source))
    source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", cluster.id_of(target))
    source.ask("MIGRATE", HOST, target.port, "{limits}a", 0, 1000)
    assert link.call(Call(["GET", "{limits}a"])) == b"1", "asked of the other"
    assert link.call(Call(["GET", "{limits}b"])) == b"1"
    began = time.monotonic()
    with pytest.raises(StoreError) as caught:
        link.call(Call(["MGET", "{limits}a", "{limits}b"]))
    assert caught.value.executed is False
    assert time.monotonic() - began < 0.6
    target.stop()
    began = time.monotonic()
    with pytest.raises(StoreError):
        link.call(Call(["GET", "{limits}a"]))
    assert time.monotonic() - began < 0.6, "nor longer when the other does not answer"
    target.go_on()
    until(lambda: link.fault is None)
    assert link.call(Call(["GET", "{limits}b"])) == b"1"
    for node in (source, target):
        node.ask("CLUSTER", "SETSLOT", slot, "STABLE")


def test_masters_that_are_killed_under_load_lose_nothing_that_was_acknowledged(
    tmp_path: Path, make_spool: Callable[..., Spool], figures: Callable[[str], None], full: bool
) -> None:
    cluster = Cluster(tmp_path, cluster_require_full_coverage="no")
    spool = make_spool(cluster, shards=6, durability="fsync+replicated:1", timeout_ms=2000)
    outages = []
    with Load(spool) as load:
        for number in range(20 if full else 1):
            until(lambda: len(load.acknowledged) >= 300 * (number + 1), 30.0)  # noqa: B023
            shard = str(number % 6)
            old = cluster.owner(shard)
            killed_at = time.monotonic()
            old.kill_now()
            cluster.await_owner(shard, old)
            assert spool.fault is None, "other shards serve on"
            old.start()
            until(lambda: all(links.fault is None for links in map(spool.links, range(6))), 20.0)
            outages.append(time.monotonic() - killed_at)
            until(lambda: old.ask("ROLE")[0] == b"slave" and old.ask("ROLE")[3] == b"connected", 20.0)  # noqa: B023
            load.await_success_after(time.monotonic())
    assert not load.acknowledged - stored(cluster, 6)
    assert load.longest_s < 2.5
    figures(
        f"{len(outages)} fail-overs: {len(load.acknowledged)} acknowledged, 0 lost, {load.failed} refused or unknown; "
        f"whole again after {max(outages):.1f} s at most; longest wait {load.longest_s:.2f} s"
    )
