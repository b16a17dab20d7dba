"""The backend `redis`, on a real redis-server; and the secret that the fleet shares."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import gevent
import pytest

from mta_front.policy.auth.backend import Unavailable, User
from mta_front.policy.auth.build import build
from mta_front.policy.auth.chain import Chain
from mta_front.settings.auth import Auth
from mta_front.store.options import StoreOptions
from tests.policy.auth.people import CHEAP_ARGON2, PASSWORD, SCRAM_KEYS, SESSION, ScramClient, cram, plain
from tests.stores import Store

METHODS = ["PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-256"]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """As an operator's Redis for users may be: it need not be as durable as one for mail."""
    return Store("redis", tmp_path / "redis", appendonly="no", maxmemory="0").start()


class Front:
    """A chain on the store, and what it reported."""

    def __init__(self, store: Store, timeout_ms: int = 2000) -> None:
        self.reports: list[str] = []
        auth = Auth.model_validate({"backends": ["redis"], "redis": {"methods": METHODS, "timeout_ms": timeout_ms}})
        self.chain: Chain = build(auth, StoreOptions(url=store.url, prefix="t"), report=self.reports.append)


@pytest.fixture
def front(store: Store) -> Iterator[Front]:
    made = Front(store)
    yield made
    made.chain.close()


def test_yes_and_no(store: Store, front: Front) -> None:
    store.ask("HSET", "t:user:ann", "password", CHEAP_ARGON2, "addresses", "ann@example.net, *@lists.example.net")
    store.ask("HSET", "t:user:jürgen", "password", "{PLAIN}" + PASSWORD)
    verify = front.chain.verify
    assert front.chain.methods == set(METHODS)
    assert verify(plain("ann"), SESSION) == User("ann", ("ann@example.net", "*@lists.example.net"))
    assert verify(plain("ann", "wrong"), SESSION) is None
    assert verify(plain("nobody"), SESSION) is None
    assert verify(cram("jürgen"), SESSION) == User("jürgen")
    store.ask("DEL", "t:user:ann")
    assert verify(plain("ann"), SESSION) is None, "at once"
    store.ask("HSET", "t:user:bob", "password", SCRAM_KEYS)
    assert verify(ScramClient(PASSWORD).credentials("bob"), SESSION) == User("bob")
    assert verify(ScramClient(PASSWORD).credentials("nobody"), SESSION) is None


@pytest.mark.parametrize(
    "fields", [("password", "hunter22"), ("password", "{PLAIN}hunter22", "addresses", "no address")]
)
def test_a_user_that_is_not_understood_is_nobody_and_reported_once(
    store: Store, front: Front, fields: tuple[str, ...]
) -> None:
    store.ask("HSET", "t:user:ann", *fields)
    for _ in range(3):
        assert front.chain.verify(plain("ann", "hunter22"), SESSION) is None
    assert front.reports == ["auth.redis: password or addresses of 'ann' are not understood"]


def test_many_at_once_share_the_connection(store: Store, front: Front) -> None:
    store.ask("HSET", "t:user:ann", "password", "{PLAIN}" + PASSWORD)
    logins = [gevent.spawn(front.chain.verify, plain("ann"), SESSION) for _ in range(200)]
    gevent.joinall(logins, timeout=20, raise_error=True)
    assert {login.value for login in logins} == {User("ann")}
    connections = [line for line in store.ask("CLIENT", "LIST").decode().splitlines() if "cmd=hmget" in line]
    assert len(connections) == 1


def test_a_redis_that_is_away_or_frozen_is_not_waited_for(store: Store) -> None:
    front = Front(store, timeout_ms=300)
    store.ask("HSET", "t:user:ann", "password", "{PLAIN}" + PASSWORD)
    assert front.chain.verify(plain("ann"), SESSION) == User("ann")
    store.stop()
    began = time.monotonic()
    with pytest.raises(Unavailable):
        front.chain.verify(plain("ann"), SESSION)
    assert time.monotonic() - began < 5
    store.go_on()
    eventually(lambda: front.chain.verify(plain("ann"), SESSION) == User("ann"))
    store.kill_now()
    with pytest.raises(Unavailable):
        front.chain.verify(plain("ann"), SESSION)
    store.start()
    store.ask("HSET", "t:user:ann", "password", "{PLAIN}" + PASSWORD)
    eventually(lambda: front.chain.verify(plain("ann"), SESSION) == User("ann"))
    front.chain.close()


def eventually(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            if condition():
                return
        except Unavailable:
            pass
        assert time.monotonic() < deadline, "not back"
        gevent.sleep(0.02)


def test_fronts_on_one_store_invent_the_same_salts(store: Store, front: Front) -> None:
    other = Front(store)
    salts = []
    for made in (front, other, front):
        client = ScramClient("guess")
        assert made.chain.verify(client.credentials("nobody"), SESSION) is None
        salts += client.salts
    assert len(salts) == 3
    assert len(set(salts)) == 1
    assert store.ask("TTL", "t:secret") == -1, "and they stay"
    other.chain.close()
