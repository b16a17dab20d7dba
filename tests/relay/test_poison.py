"""S12: what relays die of is buried, what they merely held is delivered, and nobody is suspected for an orderly end."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import gevent

from mta_front.relay.relay import Relay
from tests.relay.attempts import Noted
from tests.relay.hub import eventually
from tests.relay.scripted import ScriptedHop, Talk, late, polite
from tests.relay.shard import RelayProcess, settings_for, spool_messages
from tests.relay.test_relay import assert_empty, counts, dead_letters, fates, hang_up_never, smtp
from tests.stores import Store

DEATHS = "mta:{0}:deaths"


def deaths(store: Store) -> list[int]:
    return sorted(int(count) for count in store.ask("HVALS", DEATHS))


def test_what_relays_die_of_is_buried_and_its_neighbours_are_delivered(store: Store, tmp_path: Path) -> None:
    """The poison is one message among many; the next hop plays the bug: a relay that sends its body is killed."""
    relays: list[RelayProcess] = []
    killed: list[bytes] = []

    def deadly(talk: Talk) -> None:
        talk.say(b"220 hop\r\n")
        while True:
            verb = talk.hear()[:4].upper()
            if verb == b"RCPT" and b"poison" in talk.heard[-1]:
                killed.append(talk.heard[-1])
                relays[-1].kill()
                return
            talk.say({b"EHLO": b"250 hop\r\n", b"DATA": b"354 go\r\n"}.get(verb, b"250 ok\r\n"))
            if verb == b"DATA":
                talk.body()
                talk.say(b"250 taken\r\n")

    with ScriptedHop(deadly) as hop:
        settings = settings_for(store, smtp(hop, max_connections=5), lease_s=1.0, concurrency=20)
        for number in range(15):
            who = "poison@y.example" if number == 7 else f"{number}@y.example"
            spool_messages(settings, 1, [who], first=number, mail_from="")
        for number in range(8):
            with RelayProcess(tmp_path, settings, f"relay-{number}") as relay:
                relays.append(relay)
                eventually(lambda: not relay.running() or counts(store)["length"] == 0, 30.0)
            if counts(store)["length"] == 0:
                break
        (letter,) = dead_letters(store)
        assert letter["reason"].startswith("Poison: 3 relays")
        assert json.loads(letter["envelope"])["rcpt_to"] == ["poison@y.example"]
        assert len(killed) == 3
        assert len(hop.bodies) >= 14
        assert store.ask("HLEN", DEATHS) == 0
    assert counts(store) == {"length": 0, "pending": 0, "later": 0, "lease": 0, "dead": 1}


def test_suspects_are_delivered_one_at_a_time(store: Store, tmp_path: Path) -> None:
    noted = Noted()
    with ScriptedHop(hang_up_never) as hop:
        settings = settings_for(store, smtp(hop, max_connections=10), lease_s=1.0, concurrency=20)
        spool_messages(settings, 6)
        with RelayProcess(tmp_path, settings, "dies") as dies:
            eventually(lambda: counts(store)["lease"] == 6, 15.0)
            dies.kill()
        at_once: list[int] = []
        inside: list[Talk] = []

        class Counted(Talk):
            def body(self) -> None:
                inside.append(self)
                super().body()
                time.sleep(0.05)
                at_once.append(len(inside))
                inside.remove(self)

        hop.script, hop._talk = polite, Counted
        relay = Relay(settings, settings.store.url, noted)
        relay.start()
        eventually(lambda: fates(noted) == {"delivered": 6}, 20.0)
        relay.drain(1.0)
        relay.close()
    assert at_once == [1] * 6
    assert noted.faults == []
    assert_empty(store)
    assert store.ask("HLEN", DEATHS) == 0


def test_a_deferral_ends_the_count(store: Store, tmp_path: Path) -> None:
    """Deaths count in a row: a relay that had it in hand and lived acquits it."""
    noted = Noted()

    def later(talk: Talk) -> None:
        polite(talk, MAIL=b"451 4.3.0 later\r\n")

    with ScriptedHop(hang_up_never) as hop:
        settings = settings_for(store, smtp(hop), lease_s=1.0, schedule_s=[60.0])
        spool_messages(settings, 1)
        with RelayProcess(tmp_path, settings, "dies") as dies:
            eventually(lambda: counts(store)["lease"] == 1, 15.0)
            dies.kill()
        hop.script = later
        relay = Relay(settings, settings.store.url, noted)
        relay.start()
        eventually(lambda: fates(noted) == {"deferred": 1}, 20.0)
        assert store.ask("HLEN", DEATHS) == 0
        relay.drain(1.0)
        relay.close()


def test_nobody_is_suspected_for_a_relay_that_was_told_to_stop(store: Store, tmp_path: Path) -> None:
    """What was in hand at the end of a drain that took too long is given back, and another relay has it at once."""
    noted = Noted()
    with ScriptedHop(hang_up_never) as hop:
        settings = settings_for(store, smtp(hop), lease_s=30.0)
        spool_messages(settings, 3)
        relay = Relay(settings, settings.store.url, noted)
        relay.start()
        eventually(lambda: len(relay) == 3)
        assert not relay.drain(0.2)
        relay.close()
        assert counts(store) == {"length": 3, "pending": 0, "later": 3, "lease": 0, "dead": 0}
        hop.script = polite
        other = Relay(settings, settings.store.url, noted)
        other.start()
        eventually(lambda: fates(noted) == {"delivered": 3}, 10.0)
        other.drain(1.0)
        other.close()
        assert deaths(store) == []
    assert_empty(store)


def test_an_outage_makes_nobody_suspect(store: Store) -> None:
    noted = Noted()
    go_on = threading.Event()
    with ScriptedHop(talk=late(go_on)) as hop:
        settings = settings_for(store, smtp(hop), lease_s=1.0, timeout_ms=500)
        spool_messages(settings, 3)
        relays = [Relay(settings, settings.store.url, noted) for _ in range(2)]
        for relay in relays:
            relay.start()
        eventually(lambda: len(hop.bodies) == 3)
        store.stop()
        gevent.sleep(2.5)  # longer than the leases
        store.go_on()
        gevent.sleep(1.5)
        assert deaths(store) == []
        go_on.set()
        eventually(lambda: fates(noted) == {"delivered": 3}, 20.0)
        assert len(hop.bodies) == 3
        for relay in relays:
            relay.drain(1.0)
            relay.close()


class Counting(Noted):
    """Keeps the counts of shards."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: list[dict[str, float]] = []

    def queue_state(self, shard: int, counts: dict[str, float]) -> None:
        self.counts.append(counts)


def test_one_relay_of_all_reports_on_the_shard_and_another_when_it_leaves(store: Store) -> None:
    with ScriptedHop(hang_up_never) as hop:
        settings = settings_for(store, smtp(hop), lease_s=0.6)
        spool_messages(settings, 3)
        said: list[Any] = [Counting(), Counting()]
        relays = [Relay(settings, settings.store.url, each) for each in said]
        for relay in relays:
            relay.start()
        eventually(lambda: sum(len(each.counts) for each in said) >= 4)
        assert min(len(each.counts) for each in said) == 0
        keeper = 0 if said[0].counts else 1
        assert said[keeper].counts[-1]["length"] == 3
        relays[keeper].drain(0.0)
        relays[keeper].close()
        eventually(lambda: said[1 - keeper].counts)
        relays[1 - keeper].drain(0.0)
        relays[1 - keeper].close()
