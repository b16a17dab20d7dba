"""S1: what durable means. A store that is not fit is sent nothing and acknowledges nothing, from the first connection
on and within one check interval of a change.
"""

from __future__ import annotations

from collections.abc import Callable

import gevent
import pytest

from mta_front.store.client import StoreOptions
from mta_front.store.errors import StoreDown, StoreError, StoreLayoutUnknown, StoreNotDurable, StoreUnknown
from mta_front.store.spool import Spool
from tests.store.middle import Middle
from tests.store.parts import Recorder, put, until
from tests.stores import Store

UNFIT = [
    ("appendonly", "no"),
    ("appendfsync", "everysec"),
    ("appendfsync", "no"),
    ("no-appendfsync-on-rewrite", "yes"),
    ("maxmemory-policy", "allkeys-lru"),
    ("maxmemory-policy", "volatile-ttl"),
    ("maxmemory", "0"),
]


def refusal_of(spool: Spool) -> StoreError:
    """Why it cannot be used."""
    fault = until(lambda: spool.fault, message="the spool to be refused")
    assert fault is not None
    with pytest.raises(type(fault)):
        put(spool)
    return fault


@pytest.mark.parametrize(("name", "value"), UNFIT)
def test_an_unfit_store_is_refused_from_the_start(
    name: str,
    value: str,
    make_store: Callable[..., Store],
    make_spool: Callable[..., Spool],
    events: Recorder,
) -> None:
    store = make_store(**{name: value})
    spool = make_spool(store, up=False)
    fault = refusal_of(spool)
    assert isinstance(fault, StoreNotDurable)
    assert fault.executed is False
    assert fault.reason.startswith(f"{name} is {value}, must be ")
    assert not spool.answered
    assert store.keys() == set()
    assert ("commit-1", False, fault.reason) in events.states


@pytest.mark.parametrize(("name", "value"), UNFIT)
def test_a_store_that_becomes_unfit_is_refused_within_one_interval_and_taken_again(
    name: str,
    value: str,
    store: Store,
    make_spool: Callable[..., Spool],
) -> None:
    fit = store.ask("CONFIG", "GET", name)[1]
    spool = make_spool(store, check_interval_s=0.2)
    put(spool)
    store.ask("CONFIG", "SET", name, value)
    gevent.sleep(0.2)
    with pytest.raises(StoreNotDurable):  # the check goes before the batch: nothing is stored any more
        put(spool)
    assert store.ask("XLEN", "mta:{0}:queue") == 1
    refusal_of(spool)
    assert spool.answered, "it was up once"
    store.ask("CONFIG", "SET", name, fit)
    until(lambda: spool.fault is None)
    put(spool)


def test_between_two_checks_nothing_is_asked(store: Store, make_spool: Callable[..., Spool]) -> None:
    spool = make_spool(store)

    def asked() -> int:
        lines = store.ask("INFO", "commandstats").decode().splitlines()
        return sum(int(line.split("calls=")[1].split(",")[0]) for line in lines if line.startswith("cmdstat_config"))

    before = asked()
    for _ in range(20):
        put(spool)
    assert asked() == before


@pytest.mark.parametrize("how", ["acl", "renamed"])
def test_a_store_that_hides_its_config_is_refused_unless_told(
    how: str, kind: str, make_store: Callable[..., Store], make_spool: Callable[..., Spool]
) -> None:
    if how == "acl":
        store = make_store()
        store.ask("ACL", "SETUSER", "front", "on", ">pw", "~*", "+@all", "-config")
        options = {"username": "front", "password": "pw"}
    else:
        store = make_store(rename_command='CONFIG" "')
        options = {}
    fault = refusal_of(make_spool(store, up=False, **options))
    assert isinstance(fault, StoreNotDurable)
    assert "hides its CONFIG" in fault.reason
    assert "durability_unchecked" in fault.reason
    put(make_spool(store, durability_unchecked=True, **options))


def test_unchecked_does_not_mean_that_a_bad_answer_is_ignored(
    make_store: Callable[..., Store], make_spool: Callable[..., Spool]
) -> None:
    store = make_store(appendfsync="everysec")
    assert isinstance(refusal_of(make_spool(store, up=False, durability_unchecked=True)), StoreNotDurable)


def test_memory_asks_for_no_fsync_but_still_never_evicts(
    make_store: Callable[..., Store], make_spool: Callable[..., Spool]
) -> None:
    store = make_store(appendonly="no")
    spool = make_spool(store, durability="memory", check_interval_s=0.1)
    put(spool)
    store.ask("CONFIG", "SET", "maxmemory-policy", "allkeys-random")
    until(lambda: isinstance(spool.fault, StoreNotDurable))


def test_a_store_without_limit_is_taken_when_allowed(
    make_store: Callable[..., Store], make_spool: Callable[..., Spool]
) -> None:
    put(make_spool(make_store(maxmemory="0"), allow_unbounded_store=True))


def test_a_replica_is_refused(store: Store, make_spool: Callable[..., Spool]) -> None:
    store.ask("REPLICAOF", "127.0.0.1", "1")
    fault = refusal_of(make_spool(store, up=False))
    assert isinstance(fault, StoreDown)
    assert fault.reason == "not the master: slave"


def test_a_master_that_is_demoted_is_noticed_by_the_check_too(store: Store, make_spool: Callable[..., Spool]) -> None:
    spool = make_spool(store, check_interval_s=0.1)
    store.ask("REPLICAOF", "127.0.0.1", "1")
    fault = until(lambda: spool.fault)
    assert fault is not None
    assert "slave" in fault.reason


def test_a_newer_layout_is_not_touched(store: Store, make_spool: Callable[..., Spool]) -> None:
    store.ask("SET", "mta:{0}:layout", "2")
    fault = refusal_of(make_spool(store, up=False))
    assert isinstance(fault, StoreLayoutUnknown)
    assert store.keys() == {"mta:{0}:layout"}


def test_the_layout_is_written_for_each_shard(store: Store, make_spool: Callable[..., Spool]) -> None:
    make_spool(store, shards=3)
    assert store.keys() == {"mta:{0}:layout", "mta:{1}:layout", "mta:{2}:layout"}
    assert store.ask("GET", "mta:{1}:layout") == b"1"


@pytest.mark.parametrize("kind", ["valkey"], indirect=True)  # Redis 7.0 has no WAITAOF
def test_waitaof_must_confirm_too(store: Store, make_spool: Callable[..., Spool]) -> None:
    with Middle(store) as middle:
        spool = make_spool(store, url=middle.url)
        assert put(spool)
        middle.change = lambda piece: piece.replace(b"*2\r\n:1\r\n:0\r\n", b"*2\r\n:0\r\n:0\r\n")
        with pytest.raises(StoreUnknown, match="fsync"):
            put(spool)
        middle.change = lambda piece: piece
        assert put(spool)
    assert store.ask("XLEN", "mta:{0}:queue") == 3, "the unknown one was stored after all"


def test_options_come_from_the_settings() -> None:
    from mta_front.config import Settings

    settings = Settings.model_validate(
        {"store": {"url": "redis://u:p@h:1/2", "durability": "memory", "shards": 4, "timeout_ms": 700}}
    )
    options = StoreOptions.of(settings, "redis://h:1/2")
    assert (options.url, options.username, options.password) == ("redis://h:1/2", "u", "p")
    assert (options.durability, options.shards, options.timeout_ms) == ("memory", 4, 700)
