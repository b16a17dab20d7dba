"""Group commit over one connection: who travels together, and what each learns when something goes wrong."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest

from mta_front.store import scripts
from mta_front.store.client import Call, Link, StoreOptions
from mta_front.store.errors import StoreDown, StoreError, StoreFull, StoreRefused, StoreUnknown
from tests.store.middle import Middle
from tests.store.parts import Recorder, until
from tests.stores import Store


@pytest.fixture
def make_link(events: Recorder) -> Iterator[Callable[..., Link]]:
    """`make_link(url, timeout_ms=500, commits=True)`: a started link with the scripts of a spool."""
    made: list[Link] = []

    def make(url: str, *, up: bool = True, timeout_ms: int = 2000, **how: Any) -> Link:
        scripts_of_spool = [*scripts.FOR_COMMITS, *scripts.FOR_BODIES]
        link = Link(StoreOptions(url=url, timeout_ms=timeout_ms), "test", events, scripts=scripts_of_spool, **how)
        made.append(link)
        link.start()
        if up:
            until(lambda: link.answered, message="the link to be up")
        return link

    yield make
    for link in made:
        link.close()


def outcome(link: Link, *command: Any) -> Any:
    """The reply, or the error."""
    try:
        return link.call(Call(list(command)))
    except StoreError as error:
        return error


def at_once(link: Link, commands: list[list[Any]]) -> list[Any]:
    """All in one turn of the loop; the outcome of each."""
    greenlets = [gevent.spawn(outcome, link, *command) for command in commands]
    gevent.joinall(greenlets, timeout=10, raise_error=True)
    return [greenlet.value for greenlet in greenlets]


def test_greenlets_of_one_turn_travel_together(store: Store, make_link: Callable[..., Link], events: Recorder) -> None:
    link = make_link(store.url, commits=True, together=True)
    assert sorted(at_once(link, [["INCR", "n"]] * 50)) == list(range(1, 51))
    assert events.batches == [50]


def test_batches_are_bounded_in_number_and_bytes(
    store: Store, make_link: Callable[..., Link], events: Recorder
) -> None:
    link = make_link(store.url, commits=True, together=True)
    at_once(link, [["INCR", "n"]] * 600)
    assert max(events.batches) <= 256
    assert sum(events.batches) == 600
    events.batches.clear()
    calls = [Call(["RPUSH", "l", b"x" * 300_000], size_bytes=300_000) for _ in range(10)]
    for call in calls:
        link.post(call)
    assert [link.wait(call) for call in calls] == list(range(1, 11))
    assert events.batches == [3, 3, 3, 1]


@pytest.mark.parametrize("together", [True, False], ids=["transaction", "pipeline"])
def test_each_call_has_an_outcome_of_its_own(store: Store, make_link: Callable[..., Link], together: bool) -> None:
    link = make_link(store.url, together=together)
    store.ask("SET", "text", "x")
    found = at_once(link, [["INCR", "n"], ["INCR", "text"], ["LPUSH", "text", "y"], ["INCR", "n"]])
    assert found[0] == 1
    assert found[3] == 2
    assert isinstance(found[1], StoreRefused)
    assert "not an integer" in found[1].reason
    assert isinstance(found[2], StoreRefused)
    assert "WRONGTYPE" in found[2].reason


def test_a_command_that_spoils_the_transaction_leaves_the_others_alone(
    store: Store, make_link: Callable[..., Link]
) -> None:
    link = make_link(store.url, together=True)
    found = at_once(link, [["INCR", "n"], ["NONSENSE"], ["INCR", "n"]])
    assert (found[0], found[2]) == (1, 2)
    assert isinstance(found[1], StoreRefused)


def test_forgotten_scripts_are_loaded_again(store: Store, make_link: Callable[..., Link]) -> None:
    link = make_link(store.url, together=True)
    for _ in range(2):
        store.ask("SCRIPT", "FLUSH")
        calls = [scripts.open_body(f"body:{number}", 60_000, [b"x"], lambda call: None) for number in range(20)]
        for call in calls:
            link.post(call)
        assert [link.wait(call) for call in calls] == [1] * 20
        store.ask("FLUSHALL")
    assert link.fault is None


def test_a_full_store_says_so_and_the_link_stays_up(
    make_store: Callable[..., Store], make_link: Callable[..., Link]
) -> None:
    store = make_store(maxmemory="3mb")
    link = make_link(store.url, together=True)
    store.ask("CONFIG", "SET", "maxmemory", "100kb")
    found = at_once(link, [["RPUSH", "l", "x"], ["GET", "l2"], ["RPUSH", "l", "y"], ["UNLINK", "l"]])
    assert isinstance(found[0], StoreFull)
    assert isinstance(found[2], StoreFull)
    assert found[1] is None
    assert found[3] == 0
    store.ask("CONFIG", "SET", "maxmemory", "512mb")
    assert outcome(link, "RPUSH", "l", "x") == 1


def test_nothing_is_taken_while_there_is_no_store(
    store: Store, make_link: Callable[..., Link], events: Recorder
) -> None:
    store.kill_now()
    link = make_link(store.url, up=False)
    waited = time.monotonic()
    assert isinstance(outcome(link, "PING"), StoreDown), "waited for the first attempt"
    began = time.monotonic()
    assert isinstance(outcome(link, "PING"), StoreDown)
    assert time.monotonic() - began < 0.005, "and from then on fails at once"
    assert began - waited < 1.0
    until(lambda: len(events.states) == 1)
    assert events.states[0][:2] == ("test", False)
    store.start()
    until(lambda: link.fault is None)
    assert outcome(link, "PING") == b"PONG"
    assert events.states[1:] == [("test", True, "")]


def test_kill_in_the_middle_makes_what_was_sent_unknown_and_is_never_sent_again(
    store: Store, make_link: Callable[..., Link]
) -> None:
    link = make_link(store.url)
    store.stop()
    sent = [gevent.spawn(outcome, link, "INCR", "n") for _ in range(5)]
    until(lambda: link.busy_since)
    waiting = [gevent.spawn(outcome, link, "INCR", "n") for _ in range(5)]
    gevent.sleep(0.02)
    store.kill_now()
    gevent.joinall([*sent, *waiting], timeout=5, raise_error=True)
    assert [type(each.value) for each in sent] == [StoreUnknown] * 5
    assert [type(each.value) for each in waiting] == [StoreDown] * 5
    store.start()
    until(lambda: link.fault is None)
    assert store.ask("GET", "n") is None


def test_a_lost_answer_is_unknown_and_what_was_executed_stays_executed_once(
    store: Store, make_link: Callable[..., Link]
) -> None:
    with Middle(store) as middle:
        link = make_link(middle.url)
        middle.cut_after = lambda piece: b"INCR" in piece
        found = at_once(link, [["INCR", "n"]])
        assert isinstance(found[0], StoreUnknown)
        assert store.ask("GET", "n") == b"1"


def test_a_connection_closed_while_idle_costs_nobody_anything(store: Store, make_link: Callable[..., Link]) -> None:
    link = make_link(store.url)
    assert outcome(link, "INCR", "n") == 1
    store.kill_now()
    store.start()
    assert outcome(link, "INCR", "n") == 2


def test_an_idle_link_tells_that_the_store_is_gone(
    store: Store, make_link: Callable[..., Link], events: Recorder
) -> None:
    link = make_link(store.url)
    store.kill_now()
    until(lambda: link.fault, 3.0)
    assert events.states[0] == ("test", True, "")
    assert all(not up for _, up, _ in events.states[1:])


def test_a_frozen_store_keeps_nobody_longer_than_the_time_out(store: Store, make_link: Callable[..., Link]) -> None:
    link = make_link(store.url, timeout_ms=400)
    store.stop()

    def timed() -> tuple[float, Any]:
        began = time.monotonic()
        found = outcome(link, "INCR", "n")
        return time.monotonic() - began, found

    began = time.monotonic()
    greenlets = []
    while time.monotonic() - began < 1.5:  # before, around and after the time-out
        greenlets.append(gevent.spawn(timed))
        gevent.sleep(0.01)
    gevent.joinall(greenlets, timeout=5, raise_error=True)
    waits = [each.value[0] for each in greenlets]
    assert max(waits) < 0.5
    assert isinstance(greenlets[0].value[1], StoreUnknown), "it was sent"
    assert max(waits[42:]) < 0.02, "once it is known to be frozen, nobody waits"
    assert {type(each.value[1]) for each in greenlets[5:]} == {StoreDown}, "these were not"
    store.go_on()
    until(lambda: link.fault is None, 5.0)
    assert store.ask("GET", "n") == b"1", "what was sent is executed late; nothing else was ever sent"


def test_a_call_with_less_time_than_others_gives_up_alone(store: Store, make_link: Callable[..., Link]) -> None:
    link = make_link(store.url, timeout_ms=3000)
    store.stop()
    patient = gevent.spawn(outcome, link, "INCR", "n")
    until(lambda: link.busy_since)
    hasty = Call(["INCR", "n"])
    began = time.monotonic()
    with pytest.raises(StoreDown):
        link.call(hasty, began + 0.2)
    assert 0.15 < time.monotonic() - began < 0.4
    store.go_on()
    assert patient.get(timeout=2) == 1
    assert store.ask("GET", "n") == b"1", "nobody waited for the hasty one: it was not sent any more"


def test_a_store_that_became_a_replica_is_left_and_comes_back(
    store: Store, make_link: Callable[..., Link], events: Recorder
) -> None:
    link = make_link(store.url, together=True)
    assert outcome(link, "INCR", "n") == 1
    store.ask("REPLICAOF", "127.0.0.1", "1")
    found = at_once(link, [["INCR", "n"], ["INCR", "n"]])
    assert [type(each) for each in found] == [StoreDown, StoreDown], "not executed, and nobody else to ask"
    assert link.fault is not None
    assert "slave" in link.fault.reason
    store.ask("REPLICAOF", "NO", "ONE")
    until(lambda: link.fault is None)
    assert outcome(link, "INCR", "n") == 2


def test_a_busy_store_is_asked_again_in_time(make_store: Callable[..., Store], make_link: Callable[..., Link]) -> None:
    store = make_store(busy_reply_threshold="50")
    link = make_link(store.url)
    with store.client() as client:
        connection = client.connection_pool.get_connection()
        connection.send_command("EVAL", "while true do end", 0)
        gevent.sleep(0.15)
        asked = gevent.spawn(outcome, link, "INCR", "n")
        gevent.sleep(0.2)
        assert not asked.ready()
        store.ask("SCRIPT", "KILL")
        assert asked.get(timeout=2) == 1
        connection.disconnect()


def test_what_the_store_never_takes_is_refused_in_time(
    make_store: Callable[..., Store], make_link: Callable[..., Link]
) -> None:
    store = make_store(cluster_enabled="yes")  # without slots every key is CLUSTERDOWN
    link = make_link(store.url, timeout_ms=400)
    began = time.monotonic()
    assert isinstance(outcome(link, "INCR", "n"), StoreDown)
    assert time.monotonic() - began < 0.5


def test_a_store_that_loads_its_data_is_not_up_yet(
    make_store: Callable[..., Store], make_link: Callable[..., Link]
) -> None:
    store = make_store(key_load_delay="3000", loading_process_events_interval_bytes="1024")
    with store.client() as client:
        client.mset({f"key:{number}": "x" * 100 for number in range(300)})
    store.ask("BGREWRITEAOF")
    until(lambda: store.ask("INFO", "persistence").count(b"aof_rewrite_in_progress:0"))
    store.kill_now()
    link = make_link(store.url, up=False)
    super(Store, store).start()
    until(lambda: link.fault is not None and "LOADING" in link.fault.reason, 5.0)
    until(lambda: link.fault is None, 10.0)
    assert outcome(link, "GET", "key:7") == b"x" * 100


def test_close_ends_all_waits(store: Store, make_link: Callable[..., Link]) -> None:
    link = make_link(store.url)
    store.stop()
    waiting = [gevent.spawn(outcome, link, "INCR", "n") for _ in range(3)]
    until(lambda: link.busy_since)
    waiting.append(gevent.spawn(outcome, link, "INCR", "n"))
    gevent.sleep(0.01)
    link.close()
    gevent.joinall(waiting, timeout=1, raise_error=True)
    assert [type(each.value) for each in waiting] == [StoreUnknown] * 3 + [StoreDown]
    assert isinstance(outcome(link, "PING"), StoreDown)


def test_a_waiter_that_was_killed_disturbs_nobody(store: Store, make_link: Callable[..., Link]) -> None:
    link = make_link(store.url)
    store.stop()
    waiting = [gevent.spawn(outcome, link, "INCR", "n") for _ in range(3)]
    until(lambda: link.busy_since)
    waiting[1].kill()
    store.go_on()
    gevent.joinall(waiting, timeout=2, raise_error=True)
    assert (waiting[0].value, waiting[2].value) == (1, 3)
