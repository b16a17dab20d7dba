"""Reports to senders, end to end: on a real store, through a relay, into a real Postfix."""

from __future__ import annotations

import email
import json
from functools import partial
from pathlib import Path
from typing import Any

from tests.clients.postfix_relay import PostfixRelay
from tests.ports import free_port
from tests.relay.attempts import Noted
from tests.relay.hub import eventually
from tests.relay.scripted import OFFER, ScriptedHop, Talk, polite
from tests.relay.shard import message, settings_for, spool_messages
from tests.relay.test_relay import all_keys, assert_empty, counts, dead_letters, fates, smtp
from tests.sink import Sink
from tests.stores import Store

REFUSING = partial(polite, RCPT=b"550 5.1.1 unknown\r\n", DATA=b"554 5.5.1 no recipients\r\n")
DEFERRING = partial(polite, RCPT=b"450 4.2.0 later\r\n", DATA=b"554 5.5.1 no recipients\r\n")


def back(hop: ScriptedHop) -> dict[str, Any]:
    """The route to senders."""
    return smtp(hop, recipients="x.example")


def parsed(body: bytes) -> tuple[Any, Any]:
    """A report, and the fields of its first recipient."""
    report = email.message_from_bytes(body)
    assert report.get_content_type() == "multipart/report"
    status: Any = report.get_payload(1)
    return report, status.get_payload(1)


def test_a_failure_is_reported_and_leaves_nothing(store: Store, run: Any, noted: Noted) -> None:
    with ScriptedHop() as home, ScriptedHop(REFUSING) as away:
        settings = settings_for(store, back(home), smtp(away))
        spool_messages(settings, 1)
        run(settings)
        eventually(lambda: fates(noted) == {"bounced": 1, "delivered": 1})
        (body,) = home.bodies
        assert home.talks[0].heard[1] == b"MAIL FROM:<> SIZE=%d" % len(body)
        assert home.talks[0].heard[2] == b"RCPT TO:<a@x.example>"
    report, fields = parsed(body)
    assert (fields["Action"], fields["Status"]) == ("failed", "5.1.1")
    assert message(0) in body
    assert noted.settlements[0]["reports"] == ["failure"]
    assert report["Message-ID"] == f"<{noted.settlements[1]['id']}@front.example>"
    assert_empty(store)


def test_of_a_large_message_the_header_goes_back(store: Store, run: Any, noted: Noted) -> None:
    with ScriptedHop() as home, ScriptedHop(REFUSING) as away:
        settings = settings_for(store, back(home), smtp(away))
        spool_messages(settings, 1, length_bytes=2_000_000)
        run(settings)
        eventually(lambda: len(home.bodies) == 1)
        eventually(lambda: fates(noted)["delivered"] == 1)
        assert len(home.bodies[0]) < 3000
        assert b"\r\nMessage-ID: <0@test>\r\n" in home.bodies[0]
        assert_empty(store)


def test_who_failed_is_reported_at_once_and_only_once(store: Store, run: Any, noted: Noted) -> None:
    with ScriptedHop() as home, ScriptedHop(REFUSING) as bad, ScriptedHop(DEFERRING) as late:
        routes = [back(home), smtp(bad, recipients="bad.example"), smtp(late, recipients="late.example")]
        settings = settings_for(store, *routes)
        spool_messages(settings, 1, ["b@bad.example", "l@late.example"])
        run(settings)
        eventually(lambda: len(home.bodies) == 1)
        eventually(lambda: fates(noted)["deferred"] >= 3)
        for talk in late.talks:
            talk.stream.shutdown(2)
        late.script = polite
        eventually(lambda: fates(noted)["bounced"] == 1)
        assert len(home.bodies) == 1
        assert len(late.bodies) == 1
        assert b"l@late.example" not in home.bodies[0]
        assert dead_letters(store) == []
        assert_empty(store)


def test_a_delay_is_reported_once(store: Store, run: Any, noted: Noted) -> None:
    with ScriptedHop() as home, ScriptedHop(DEFERRING) as late:
        settings = settings_for(store, back(home), smtp(late), delay_warning_s=100.0)
        spool_messages(settings, 1, age_s=90.0)
        spool_messages(settings, 1, age_s=110.0, first=1)
        run(settings)
        eventually(lambda: fates(noted)["deferred"] >= 8)
        (body,) = home.bodies
        _, fields = parsed(body)
        assert fields["Action"] == "delayed"
        assert "Will-Retry-Until" in fields
        assert b"Message-ID: <1@test>" in body


def test_a_success_is_reported_where_the_next_hop_does_not(store: Store, run: Any, noted: Noted) -> None:
    with (
        ScriptedHop() as home,
        ScriptedHop() as plain,
        ScriptedHop(partial(polite, offer=OFFER.replace(b"8BITMIME", b"DSN"))) as able,
    ):
        routes = [back(home), smtp(plain, recipients="plain.example"), smtp(able, recipients="able.example")]
        settings = settings_for(store, *routes)
        wanted = {"notify": ["SUCCESS"]}
        both = ["p@plain.example", "a@able.example"]
        spool_messages(settings, 1, both, dsn={"envid": "E1", "rcpt": dict.fromkeys(both, wanted)})
        run(settings)
        eventually(lambda: fates(noted)["delivered"] == 2)
        (body,) = home.bodies
        _, fields = parsed(body)
        assert (fields["Final-Recipient"], fields["Action"]) == ("rfc822; p@plain.example", "relayed")
        assert b"able.example" not in body
        assert b"RCPT TO:<a@able.example> NOTIFY=SUCCESS" in able.talks[0].heard
        assert_empty(store)


def test_a_report_that_fails_is_a_dead_letter_and_nobody_is_told(store: Store, run: Any, noted: Noted) -> None:
    with ScriptedHop(REFUSING) as hop:
        settings = settings_for(store, smtp(hop))
        spool_messages(settings, 1)
        run(settings)
        eventually(lambda: fates(noted) == {"bounced": 1, "buried": 1})
        (letter,) = dead_letters(store)
        assert json.loads(letter["envelope"])["rcpt_to"] == ["a@x.example"]
        assert counts(store)["length"] == 0


def test_a_lost_body_is_said(store: Store, run: Any, noted: Noted) -> None:
    with ScriptedHop() as home, ScriptedHop() as away:
        settings = settings_for(store, back(home), smtp(away))
        spool_messages(settings, 1, length_bytes=500_000)
        (body,) = (key for key in all_keys(store) if ":body:" in key)
        store.ask("DEL", body)
        run(settings)
        eventually(lambda: fates(noted) == {"bounced": 1, "delivered": 1})
        report, fields = parsed(home.bodies[0])
        assert fields["Status"] == "5.3.0"
        assert len(report.get_payload()) == 2


def test_outcomes_and_their_report_wait_together_for_the_store(store: Store, run: Any, noted: Noted) -> None:
    """The store dies while the next hop refuses: what is written later is written once."""
    gone: list[bool] = []

    class Refusing(Talk):
        def say(self, data: bytes) -> None:
            if data.startswith(b"550") and not gone:
                store.kill_now()
                gone.append(True)
            super().say(data)

    with ScriptedHop() as home, ScriptedHop(REFUSING, talk=Refusing) as away:
        settings = settings_for(store, back(home), smtp(away), timeout_ms=500, lease_s=10.0)
        spool_messages(settings, 1, length_bytes=100_000)
        run(settings)
        eventually(lambda: gone)
        store.start()
        eventually(lambda: fates(noted) == {"bounced": 1, "delivered": 1}, 20.0)
        assert len(home.bodies) == 1
        assert_empty(store)


def test_postfix_takes_reports_and_passes_them_on(
    store: Store, run: Any, noted: Noted, tmp_path: Path, open_directory: Path
) -> None:
    sink = Sink(tmp_path, free_port(), keep=True, offer=["SMTPUTF8", "8BITMIME"]).start()
    postfix = PostfixRelay(open_directory, sink.port, "smtp").start()
    with ScriptedHop(partial(REFUSING, offer=OFFER.replace(b"SIZE 0", b"SMTPUTF8"))) as away:
        home = {"recipients": ["x.example"], "transport": "smtp", "next_hops": [f"127.0.0.1:{postfix.port}"]}
        settings = settings_for(store, home, smtp(away))
        spool_messages(settings, 1)
        spool_messages(settings, 1, ["ü@y.example"], first=1, smtp_utf8=True)
        spool_messages(settings, 1, first=2, mail_from="ä@x.example", smtp_utf8=True)
        run(settings)
        eventually(lambda: fates(noted) == {"bounced": 3, "delivered": 3}, 30.0)
        eventually(lambda: len(sink.deliveries()) == 3, 30.0, "Postfix has passed all on")
    contents = [path.read_bytes() for path in sink.kept.iterdir()]
    for number in range(3):
        assert any(b"Message-ID: <%d@test>" % number in one for one in contents) or number == 1
    for one in contents:
        report = email.message_from_bytes(one)
        assert report.get_content_type() == "multipart/report"
        assert len(report.get_payload()) == 3
    assert sorted(each.rcpt_to for each in sink.deliveries()) == [("a@x.example",)] * 2 + [("ä@x.example",)]
    assert_empty(store)
