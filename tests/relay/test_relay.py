"""The relay end to end on real stores: nothing lost, nothing stuck, doubled only where nobody can know better."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import gevent
import pytest

from mta_front.relay.relay import Relay
from mta_front.settings.model import Settings
from tests.ports import free_port
from tests.relay.attempts import Noted
from tests.relay.hub import eventually
from tests.relay.scripted import ScriptedHop, Talk, late, polite
from tests.relay.shard import RelayProcess, message, settings_for, spool_messages
from tests.sink import Sink
from tests.stores import KINDS, Store

STRUCTURE = {"mta:layout", "mta:{0}:queue", "mta:{0}:layout"}


@pytest.fixture(params=KINDS)
def each_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    with Store(request.param, tmp_path / "store") as store:
        yield store


Run = Callable[[Settings], Relay]


def smtp(*hops: ScriptedHop | Sink, recipients: str = "*", **route: Any) -> dict[str, Any]:
    addresses = [hop.address if isinstance(hop, ScriptedHop) else hop.next_hop for hop in hops]
    return {"recipients": [recipients], "transport": "smtp", "next_hops": addresses} | route


def counts(store: Store, shard: int = 0) -> dict[str, int]:
    key = f"mta:{{{shard}}}:"
    groups = store.ask("XINFO", "GROUPS", f"{key}queue")
    pending = store.ask("XPENDING", f"{key}queue", "relay")[0] if groups else 0
    return {
        "length": store.ask("XLEN", f"{key}queue"),
        "pending": pending,
        "later": store.ask("ZCARD", f"{key}later"),
        "lease": store.ask("ZCARD", f"{key}lease"),
        "dead": store.ask("XLEN", f"{key}dead"),
    }


def all_keys(store: Store) -> set[str]:
    return store.keys()


def settled(store: Store) -> set[str]:
    """Who needs no further attempt, by the record of the one message there is."""
    records = [key for key in all_keys(store) if ":msg:" in key]
    return set(json.loads(store.ask("HGET", records[0], "settled"))) if records else set()


def assert_empty(store: Store) -> None:
    assert counts(store) == dict.fromkeys(("length", "pending", "later", "lease", "dead"), 0)
    left = {key for key in all_keys(store) if ":msg:" in key or ":body:" in key or ":later" in key or ":lease" in key}
    assert left == set()


def fates(noted: Noted) -> Counter[str]:
    return Counter(summary["outcome"] for summary in noted.settlements)


def dead_letters(store: Store) -> list[dict[str, Any]]:
    letters = []
    for _, flat in store.ask("XRANGE", "mta:{0}:dead", "-", "+"):
        fields = dict(zip(flat[::2], flat[1::2], strict=True))
        letters.append({name.decode(): value.decode("utf-8", "replace") for name, value in fields.items()})
    return letters


# -- the usual ---------------------------------------------------------------------------------------------------------


def test_a_thousand_messages_and_the_queue_is_empty(each_store: Store, tmp_path: Path, run: Run, noted: Noted) -> None:
    with Sink(tmp_path, free_port()) as sink:
        settings = settings_for(each_store, smtp(sink))
        spool_messages(settings, 1000)
        run(settings)
        eventually(lambda: len(noted.settlements) == 1000, 20.0)
        assert fates(noted) == {"delivered": 1000}
        deliveries = sink.deliveries()
        assert sorted(each.message_id for each in deliveries) == sorted(f"<{number}@test>" for number in range(1000))
        assert all(each.intact for each in deliveries)
        assert_empty(each_store)


def test_mail_that_was_there_before_the_first_relay_and_mail_that_comes(store: Store, run: Run, noted: Noted) -> None:
    with ScriptedHop() as hop:
        settings = settings_for(store, smtp(hop))
        spool_messages(settings, 3)
        run(settings)
        eventually(lambda: len(hop.bodies) == 3)
        spool_messages(settings, 3, first=3)
        eventually(lambda: len(hop.bodies) == 6)
        eventually(lambda: fates(noted) == {"delivered": 6})
        assert_empty(store)


def test_large_bodies_are_delivered_and_freed(store: Store, tmp_path: Path, run: Run, noted: Noted) -> None:
    with Sink(tmp_path, free_port()) as sink:
        settings = settings_for(store, smtp(sink))
        spool_messages(settings, 5, length_bytes=3_000_000)
        run(settings)
        eventually(lambda: fates(noted) == {"delivered": 5}, 20.0)
        assert all(each.intact and each.size_bytes > 2_900_000 for each in sink.deliveries())
        assert len(sink.deliveries()) == 5
        assert_empty(store)


def test_shards_are_all_drained(store: Store, run: Run, noted: Noted) -> None:
    with ScriptedHop() as hop:
        settings = settings_for(store, smtp(hop), shards=3, concurrency=10)
        for number in range(30):
            spool_messages(settings, 1, [f"{number}@y.example"], first=number)
        run(settings)
        eventually(lambda: fates(noted) == {"delivered": 30})
        used = [shard for shard in range(3) if f"mta:{{{shard}}}:queue" in all_keys(store)]
        assert len(used) == 3
        assert sum(counts(store, shard)["length"] for shard in used) == 0


def test_lmtp_maildir_and_discard(store: Store, tmp_path: Path, run: Run, noted: Noted) -> None:
    with Sink(tmp_path, free_port(), lmtp=True) as sink:
        settings = settings_for(
            store,
            smtp(sink, recipients="lmtp.example", transport="lmtp"),
            {"recipients": ["maildir.example"], "transport": "maildir", "path": tmp_path / "mail"},
            {"recipients": ["*"], "transport": "discard"},
        )
        spool_messages(settings, 1, ["a@lmtp.example", "b@maildir.example", "c@lmtp.example", "d@else.example"])
        run(settings)
        eventually(lambda: fates(noted) == {"delivered": 1})
        (delivery,) = sink.deliveries()
        assert delivery.rcpt_to == ("a@lmtp.example", "c@lmtp.example")
        (file,) = (tmp_path / "mail" / "new").iterdir()
        assert file.read_bytes().endswith(message(0))
        assert_empty(store)


# -- tried again -------------------------------------------------------------------------------------------------------


def test_what_is_deferred_is_tried_again(each_store: Store, tmp_path: Path, run: Run, noted: Noted) -> None:
    with Sink(tmp_path, free_port()) as sink:
        sink.do("defer")
        settings = settings_for(each_store, smtp(sink), schedule_s=[0.1, 0.2])
        spool_messages(settings, 20)
        run(settings)
        eventually(lambda: fates(noted)["deferred"] >= 40)
        sink.do("deliver")
        eventually(lambda: fates(noted)["delivered"] == 20)
        assert len({each.message_id for each in sink.deliveries()}) == len(sink.deliveries()) == 20
        assert_empty(each_store)


def test_who_has_the_message_does_not_get_it_again(store: Store, run: Run, noted: Noted) -> None:
    refusing = partial(polite, RCPT=b"450 4.2.0 later\r\n", DATA=b"554 5.5.1 no recipients\r\n")
    with ScriptedHop() as good, ScriptedHop(refusing) as bad:
        settings = settings_for(store, smtp(good, recipients="good.example"), smtp(bad, recipients="bad.example"))
        spool_messages(settings, 1, ["a@good.example", "b@bad.example"])
        run(settings)
        eventually(lambda: fates(noted)["deferred"] >= 3)
        for talk in bad.talks:
            talk.stream.shutdown(2)
        bad.script = polite
        eventually(lambda: fates(noted)["delivered"] == 1)
        assert len(good.bodies) == 1
        assert len(bad.bodies) == 1
        attempts = [summary["attempt"] for summary in noted.settlements]
        assert attempts == list(range(1, len(attempts) + 1))
        assert_empty(store)


def test_a_next_hop_that_is_down_and_comes_back(store: Store, tmp_path: Path, run: Run, noted: Noted) -> None:
    sink = Sink(tmp_path, free_port())
    settings = settings_for(store, smtp(sink), schedule_s=[0.3])
    spool_messages(settings, 500)
    run(settings)
    eventually(lambda: fates(noted)["deferred"] >= 500)
    with sink:
        eventually(lambda: fates(noted)["delivered"] == 500, 30.0)
        assert len(sink.deliveries()) == 500
    assert_empty(store)


def test_without_a_route_it_waits_for_one(store: Store, run: Run, noted: Noted) -> None:
    with ScriptedHop() as hop:
        spool_messages(settings_for(store, smtp(hop)), 1)
        relay = run(settings_for(store, smtp(hop, recipients="other.example")))
        eventually(lambda: fates(noted)["deferred"] >= 1)
        assert noted.settlements[0]["reply"] == "451 4.3.5 No route for y.example"
        relay.drain(5.0)
        run(settings_for(store, smtp(hop)))
        eventually(lambda: fates(noted)["delivered"] == 1)


# -- failed ------------------------------------------------------------------------------------------------------------


def test_what_fails_is_a_dead_letter_with_reason_and_history(
    each_store: Store, tmp_path: Path, run: Run, noted: Noted
) -> None:
    with Sink(tmp_path, free_port()) as sink:
        settings = settings_for(each_store, smtp(sink))
        sink.do("defer")
        spool_messages(settings, 2, length_bytes=1000, mail_from="")
        spool_messages(settings, 1, length_bytes=200_000, first=2, mail_from="")
        run(settings)
        eventually(lambda: fates(noted)["deferred"] >= 3)
        sink.do("reject")
        eventually(lambda: fates(noted)["buried"] == 3)
    letters = dead_letters(each_store)
    assert len(letters) == 3
    for letter in letters:
        envelope = json.loads(letter["envelope"])
        (failed,) = json.loads(letter["failed"])
        assert letter["reason"] == failed["text"] == "5.7.1 never"
        assert (failed["recipient"], failed["code"], failed["enhanced"]) == ("b@y.example", 550, "5.7.1")
        history = json.loads(letter["history"])
        assert [one["outcome"] for one in history][-2:] == ["deferred", "failed"]
        assert history[0]["text"] == "4.3.0 not now"
        if envelope.get("segments"):
            assert each_store.ask("LLEN", f"mta:{{0}}:body:{envelope['id']}") == envelope["segments"]
        else:
            assert "Message-ID" in letter["body"]
    assert counts(each_store) == {"length": 0, "pending": 0, "later": 0, "lease": 0, "dead": 3}
    assert not [key for key in all_keys(each_store) if ":msg:" in key]


@pytest.mark.parametrize("length_bytes", [1000, 200_000], ids=["small", "large"])
def test_who_failed_is_a_dead_letter_at_once_while_others_are_tried_again(
    each_store: Store, run: Run, noted: Noted, length_bytes: int
) -> None:
    store = each_store

    def script(talk: Talk) -> None:
        polite(talk, FINAL=b"550 5.1.1 unknown\r\n450 4.2.0 later\r\n250 ok\r\n")

    with ScriptedHop(script) as hop:
        settings = settings_for(store, smtp(hop, transport="lmtp"), schedule_s=[0.5])
        recipients = ["failed@y.example", "later@y.example", "good@y.example"]
        spool_messages(settings, 1, recipients, length_bytes, mail_from="")
        run(settings)
        eventually(lambda: fates(noted)["deferred"] == 1)
        (letter,) = dead_letters(store)
        hop.talks[0].stream.shutdown(2)
        hop.script = polite
        eventually(lambda: fates(noted)["bounced"] == 1)
        assert len(hop.bodies) == 2
        assert hop.verbs[1].count("RCPT") == 1
    assert dead_letters(store) == [letter]
    (failed,) = json.loads(letter["failed"])
    assert (failed["recipient"], failed["text"]) == ("failed@y.example", "5.1.1 unknown")
    envelope = json.loads(letter["envelope"])
    assert envelope["rcpt_to"] == ["failed@y.example"]
    assert letter["id"] == envelope["id"] != noted.settlements[0]["id"]
    if envelope.get("segments"):
        body = b"".join(store.ask("LRANGE", f"mta:{{0}}:body:{envelope['id']}", 0, -1))
        assert body == message(0, length_bytes)
    else:
        assert letter["body"].encode() == message(0, length_bytes)
    left = {key for key in all_keys(store) if ":body:" in key or ":msg:" in key}
    assert left == ({f"mta:{{0}}:body:{envelope['id']}"} if length_bytes > 65_536 else set())


def test_what_is_too_old_expires(store: Store, run: Run, noted: Noted) -> None:
    with ScriptedHop(partial(polite, MAIL=b"451 4.3.0 busy\r\n")) as hop:
        settings = settings_for(store, smtp(hop), expire_s=100.0)
        spool_messages(settings, 1, age_s=101.0, mail_from="")
        run(settings)
        eventually(lambda: fates(noted) == {"buried": 1})
    (letter,) = dead_letters(store)
    assert letter["reason"] == "Delivery time expired; last: 4.3.0 busy"


def test_a_body_that_is_gone_is_buried(store: Store, run: Run, noted: Noted) -> None:
    with ScriptedHop() as hop:
        settings = settings_for(store, smtp(hop))
        spool_messages(settings, 1, length_bytes=500_000, mail_from="")
        (body,) = (key for key in all_keys(store) if ":body:" in key)
        store.ask("DEL", body)
        run(settings)
        eventually(lambda: fates(noted) == {"buried": 1})
        assert hop.bodies == []
    (letter,) = dead_letters(store)
    assert letter["reason"] == "5.3.0 The body of the message is lost"


# -- leases ------------------------------------------------------------------------------------------------------------


def test_a_slow_delivery_keeps_its_claim(store: Store, run: Run, noted: Noted) -> None:
    def slow(talk: Talk) -> None:
        talk.say(b"220 hop\r\n")
        for answer in (b"250-hop\r\n250 PIPELINING\r\n", b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n"):
            talk.hear()
            talk.say(answer)
        talk.body()
        time.sleep(3.0)
        talk.say(b"250 at last\r\n")
        talk.hear()

    with ScriptedHop(slow) as hop:
        settings = settings_for(store, smtp(hop), lease_s=1.0)
        spool_messages(settings, 1)
        run(settings)
        run(settings)
        eventually(lambda: fates(noted) == {"delivered": 1})
        assert len(hop.bodies) == 1
        assert_empty(store)


def test_a_relay_that_was_frozen_sends_nothing_that_another_has(store: Store, tmp_path: Path) -> None:
    go_on: list[bool] = []

    def script(talk: Talk) -> None:
        """The first connection gets its 354 only when the other relay is done."""
        mine = talk is hop.talks[0]
        talk.say(b"220 hop\r\n")
        for answer in (b"250-hop\r\n250 PIPELINING\r\n", b"250 ok\r\n", b"250 ok\r\n"):
            talk.hear()
            talk.say(answer)
        talk.hear()
        while mine and not go_on:
            time.sleep(0.01)
        talk.say(b"354 go\r\n")
        talk.body()
        talk.say(b"250 taken\r\n")

    with ScriptedHop(script) as hop:
        settings = settings_for(store, smtp(hop), lease_s=1.0)
        frozen, other = (RelayProcess(tmp_path, settings, name) for name in ("frozen", "other"))
        with frozen, other:
            eventually(lambda: all("relaying" in each.log_text() for each in (frozen, other)), 15.0)
            spool_messages(settings, 1)
            eventually(lambda: hop.talks and "DATA" in hop.verbs[0])
            holder, taker = (frozen, other) if not _idle(frozen, hop) else (other, frozen)
            holder.signal(signal.SIGSTOP)
            eventually(lambda: len(hop.bodies) == 1, 15.0)
            eventually(lambda: [each["outcome"] for each in taker.settled()] == ["delivered"])
            go_on.append(True)
            holder.signal(signal.SIGCONT)
            eventually(lambda: hop.talks[0].ended)
            assert len(hop.bodies) == 1
            assert holder.settled() == []
    assert_empty(store)


def _idle(relay: RelayProcess, hop: ScriptedHop) -> bool:
    """Whether the one connection to the next hop is not this relay's."""
    port = hop.talks[0].stream.getpeername()[1]
    inodes = set()
    for line in Path(f"/proc/{relay.pid}/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[1].split(":")[1], 16) == port:
            inodes.add(f"socket:[{fields[9]}]")
    links = [file.readlink() for file in Path(f"/proc/{relay.pid}/fd").iterdir() if file.is_symlink()]
    return not any(str(link) in inodes for link in links)


def test_a_dead_relay_is_succeeded(store: Store, tmp_path: Path, run: Run, noted: Noted) -> None:
    with Sink(tmp_path, free_port()) as sink:
        sink.do("hang")
        settings = settings_for(store, smtp(sink), lease_s=1.0, concurrency=20)
        spool_messages(settings, 60)
        with RelayProcess(tmp_path, settings, "dies") as dies:
            eventually(lambda: counts(store)["lease"] == 20, 15.0)
            dies.kill()
        sink.do("deliver")
        run(settings)
        eventually(lambda: fates(noted) == {"delivered": 60}, 20.0)
        assert sorted(each.message_id for each in sink.deliveries()) == sorted(f"<{n}@test>" for n in range(60))
        assert_empty(store)


def test_a_dead_relays_progress_is_kept(store: Store, tmp_path: Path, run: Run, noted: Noted) -> None:
    with ScriptedHop() as good, ScriptedHop(hang_up_never) as bad:
        settings = settings_for(
            store, smtp(good, recipients="good.example"), smtp(bad, recipients="bad.example"), lease_s=1.0
        )
        spool_messages(settings, 1, ["a@good.example", "b@bad.example"])
        with RelayProcess(tmp_path, settings, "dies") as dies:
            eventually(lambda: any(":msg:" in key for key in store.keys()), 15.0)  # noqa: SIM118
            dies.kill()
        bad.script = polite
        run(settings)
        eventually(lambda: fates(noted) == {"delivered": 1}, 20.0)
        assert noted.settlements[0]["recipients"] == ["b@bad.example"]
        assert len(good.bodies) == 1
        assert len(bad.bodies) == 1
        assert_empty(store)


def test_of_a_message_in_parts_each_is_kept_when_it_is_done(
    store: Store, tmp_path: Path, run: Run, noted: Noted
) -> None:
    """A next hop that takes one recipient at a time: who had it before the relay died does not get it again."""

    class StuckAtTheThird(Talk):
        def say(self, data: bytes) -> None:
            while b"taken" in data and len(self.bodies) == 3:
                self.hear()
            super().say(data)

    one_each = partial(polite, offer=b"250-hop\r\n250 LIMITS RCPTMAX=1\r\n")
    with ScriptedHop(one_each, talk=StuckAtTheThird) as hop:
        settings = settings_for(store, smtp(hop, max_connections=1), lease_s=1.0)
        spool_messages(settings, 1, ["a@y.example", "b@y.example", "c@y.example"])
        with RelayProcess(tmp_path, settings, "dies") as dies:
            eventually(lambda: settled(store) == {"a@y.example", "b@y.example"}, 15.0)
            dies.kill()
        hop.script = polite
        run(settings)
        eventually(lambda: fates(noted) == {"delivered": 1}, 20.0)
        assert noted.settlements[0]["recipients"] == ["c@y.example"]
        heard = [line for talk in hop.talks for line in talk.heard if line.startswith(b"RCPT")]
        assert Counter(heard) == {b"RCPT TO:<a@y.example>": 1, b"RCPT TO:<b@y.example>": 1, b"RCPT TO:<c@y.example>": 2}
        assert_empty(store)


def test_a_claim_that_we_take_over_from_ourselves_is_not_delivered_twice(store: Store, run: Run, noted: Noted) -> None:
    go_on = threading.Event()
    with ScriptedHop(talk=late(go_on)) as hop:
        settings = settings_for(store, smtp(hop), lease_s=1.0)
        relay = run(settings)
        eventually(lambda: relay.answered)
        gevent.sleep(1.1)  # before that nobody is taken for dead
        spool_messages(settings, 1)
        eventually(lambda: hop.bodies)
        (held,) = store.ask("XPENDING", "mta:{0}:queue", "relay", "-", "+", 10)
        store.ask("ZADD", "mta:{0}:lease", 1, held[0])  # as if nobody had renewed it
        eventually(lambda: store.ask("XPENDING", "mta:{0}:queue", "relay", "-", "+", 10)[0][3] != held[3])
        gevent.sleep(0.3)
        go_on.set()
        eventually(lambda: fates(noted) == {"delivered": 1})
        assert [verbs.count("MAIL") for verbs in hop.verbs] == [1]
        assert_empty(store)


def test_two_relays_share_the_work(store: Store, tmp_path: Path) -> None:
    with Sink(tmp_path, free_port()) as sink:
        settings = settings_for(store, smtp(sink), concurrency=10)
        relays = [RelayProcess(tmp_path, settings, name) for name in ("one", "two")]
        with relays[0], relays[1]:
            eventually(lambda: all("relaying" in relay.log_text() for relay in relays), 15.0)
            spool_messages(settings, 600)
            eventually(lambda: sum(len(relay.settled()) for relay in relays) == 600, 20.0)
            assert all(len(relay.settled()) > 50 for relay in relays)
        assert len({each.message_id for each in sink.deliveries()}) == len(sink.deliveries()) == 600
    assert_empty(store)


def test_what_is_in_hand_is_bounded(store: Store, run: Run) -> None:
    with ScriptedHop(hang_up_never) as hop:
        settings = settings_for(store, smtp(hop), concurrency=10)
        spool_messages(settings, 50)
        relay = run(settings)
        eventually(lambda: len(relay) >= 10)
        gevent.sleep(0.5)
        assert len(relay) <= 13
        assert counts(store)["pending"] <= 13


def hang_up_never(talk: Talk) -> None:
    """Says hello, and nothing more."""
    talk.say(b"220 hop\r\n")
    talk.hear()
    talk.say(b"250-hop\r\n250 PIPELINING\r\n")
    while True:
        talk.hear()


# -- the store goes away -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["frozen", "killed"])
def test_outcomes_are_kept_while_the_store_is_away(each_store: Store, run: Run, noted: Noted, way: str) -> None:
    store = each_store
    answered: list[bool] = []

    class Late(Talk):
        """Takes the body and says 250 when the store is away."""

        def body(self) -> None:
            super().body()
            bodies.append(self.bodies[-1])
            while not answered:
                time.sleep(0.005)

    bodies: list[bytes] = []
    with ScriptedHop(talk=Late) as hop:
        settings = settings_for(store, smtp(hop, max_connections=5), concurrency=5, timeout_ms=500, lease_s=10.0)
        spool_messages(settings, 20)
        relay = run(settings)
        eventually(lambda: len(bodies) == 5)
        store.stop() if way == "frozen" else store.kill_now()
        answered.append(True)
        gevent.sleep(1.5)
        assert noted.settlements == []
        assert len(relay) >= 5
        store.go_on() if way == "frozen" else store.start()
        eventually(lambda: fates(noted) == {"delivered": 20}, 20.0)
        assert len(bodies) == 20
        assert len(set(bodies)) == 20
        eventually(lambda: counts(store)["length"] == 0)
        assert_empty(store)


def test_a_store_that_is_not_there_yet(tmp_path: Path, run: Run, noted: Noted) -> None:
    store = Store("valkey", tmp_path / "store")
    with ScriptedHop() as hop:
        settings = settings_for(store, smtp(hop))
        relay = run(settings)
        gevent.sleep(0.3)
        seen = [relay.answered]
        with store:
            spool_messages(settings, 5)
            eventually(lambda: fates(noted) == {"delivered": 5})
            seen.append(relay.answered)
            relay.drain(5.0)
        assert seen == [False, True]


# -- the end -----------------------------------------------------------------------------------------------------------


def test_draining_finishes_what_is_in_hand_and_takes_no_more(store: Store, run: Run, noted: Noted) -> None:
    go_on = threading.Event()
    with ScriptedHop(talk=late(go_on)) as hop:
        settings = settings_for(store, smtp(hop, max_connections=2), concurrency=4)
        spool_messages(settings, 20)
        relay = run(settings)
        eventually(lambda: len(relay) >= 4)
        drained = gevent.spawn(relay.drain, 10.0)
        gevent.sleep(0.2)
        assert not drained.ready()
        go_on.set()
        assert drained.get(timeout=10.0)
        assert len(relay) == 0
        done = fates(noted)["delivered"]
        assert 4 <= done <= 10
        assert counts(store) == {"length": 20 - done, "pending": 0, "later": 0, "lease": 0, "dead": 0}
        assert store.ask("XINFO", "CONSUMERS", "mta:{0}:queue", "relay") == []
        run(settings)
        eventually(lambda: fates(noted) == {"delivered": 20})


def test_what_comes_while_draining_is_given_back(store: Store, run: Run, noted: Noted) -> None:
    with ScriptedHop() as hop:
        settings = settings_for(store, smtp(hop))
        relay = run(settings)
        eventually(lambda: relay.answered)
        gevent.sleep(0.1)  # it waits for messages now, in the store
        drained = gevent.spawn(relay.drain, 10.0)
        gevent.sleep(0.01)
        spool_messages(settings, 1)
        assert drained.get(timeout=10.0)
        assert hop.bodies == []
        assert counts(store) == {"length": 1, "pending": 0, "later": 1, "lease": 0, "dead": 0}
        run(settings)
        eventually(lambda: fates(noted) == {"delivered": 1})
        assert noted.settlements[0]["attempt"] == 1


def test_draining_has_an_end(store: Store, run: Run, noted: Noted) -> None:
    with ScriptedHop(hang_up_never) as hop:
        settings = settings_for(store, smtp(hop), lease_s=1.0)
        spool_messages(settings, 2)
        relay = run(settings)
        eventually(lambda: len(relay) == 2)
        began_at = time.monotonic()
        assert not relay.drain(0.5)
        assert time.monotonic() - began_at < 1.5
        relay.close()
        hop.script = polite
        run(settings)
        eventually(lambda: fates(noted) == {"delivered": 2}, 20.0)
