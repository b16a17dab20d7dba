"""A real store of each kind for each test, and spools and queues that are closed after it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from mta_front.store.client import Link, StoreOptions
from mta_front.store.queue import Queue
from mta_front.store.spool import Spool
from tests.store.parts import Recorder, until
from tests.stores import KINDS, Store


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Redis (7.0), valkey (9)."""
    return str(request.param)


@pytest.fixture
def make_store(kind: str, tmp_path: Path) -> Callable[..., Store]:
    """`make_store(appendfsync="everysec")`: a running store."""
    count = 0

    def make(**settings: Any) -> Store:
        nonlocal count
        count += 1
        return Store(kind, tmp_path / f"store-{count}", **settings).start()

    return make


@pytest.fixture
def store(make_store: Callable[..., Store]) -> Store:
    """A running store that is fit."""
    return make_store()


@pytest.fixture
def events() -> Iterator[Recorder]:
    """What was reported; a fault fails the test."""
    recorder = Recorder()
    yield recorder
    assert recorder.faults == []


@pytest.fixture
def make_link(events: Recorder) -> Iterator[Callable[..., Link]]:
    """`make_link(url, tag="limits", timeout_ms=500)`: a started link."""
    made: list[Link] = []

    def make(url: str, *, tag: str = "", scripts: Sequence[str] = (), together: bool = False, **options: Any) -> Link:
        chosen = StoreOptions(url=url, **options)
        made.append(Link(chosen, "test", events, tag=tag, scripts=scripts, together=together))
        made[-1].start()
        until(lambda: made[-1].answered, message="the link to be up")
        return made[-1]

    yield make
    for link in made:
        link.close()


@pytest.fixture
def make_spool(events: Recorder) -> Iterator[Callable[..., Spool]]:
    """`make_spool(store, timeout_ms=500)`: a started spool. `url=`: another way there; `up=False`: do not wait."""
    made: list[Spool] = []

    def make(
        store: Store, *, up: bool = True, budget_bytes: int = 2**26, body_expiry_s: float = 300.0, **options: Any
    ) -> Spool:
        chosen = StoreOptions(**({"url": store.url} | options))
        spool = Spool(chosen, events, budget_bytes=budget_bytes, body_expiry_s=body_expiry_s)
        made.append(spool)
        spool.start()
        if up:
            until(lambda: spool.answered, message="the spool to be up")
        return spool

    yield make
    for spool in made:
        spool.close()


@pytest.fixture
def make_queue(events: Recorder) -> Iterator[Callable[..., Queue]]:
    """`make_queue(store, "relay-1", lease_s=1.0)`: a started queue of shard 0."""
    made: list[Queue] = []

    def make(store: Store, consumer: str = "relay-1", lease_s: float = 60.0, **options: Any) -> Queue:
        queue = Queue(StoreOptions(**({"url": store.url} | options)), 0, consumer, lease_s, events)
        made.append(queue)
        queue.start()
        until(lambda: queue.answered, message="the queue to be up")
        return queue

    yield make
    for queue in made:
        queue.close()


@pytest.fixture
def spool(store: Store, make_spool: Callable[..., Spool]) -> Spool:
    """A started spool on `store`."""
    return make_spool(store)


@pytest.fixture
def queue(store: Store, make_queue: Callable[..., Queue]) -> Queue:
    """A started queue on `store`: consumer relay-1, leases of 60 s."""
    return make_queue(store)
