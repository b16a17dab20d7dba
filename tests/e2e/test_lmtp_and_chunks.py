"""LMTP and chunks to the whole server: each recipient is answered, what was taken is delivered, nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.front import Front
from tests.settingsfile import OURS, smtp_route
from tests.sink import Sink
from tests.smtp_talk import Talk, talk
from tests.wait import until

MESSAGE = b"Message-ID: <1@x.example>\r\nSubject: x\r\n\r\n.dot\r\n"
HOOKS = """
from mta_front.hooks import Defer, Hooks

class Choosy(Hooks):
    def on_data(self, message, session):
        message.read()
        if session.envelope.mail_from.local_part == "short":
            return ["one answer for all"]
        return [Defer("not now") if r.local_part == "later" else None for r in session.envelope.rcpt_to]
"""


def test_lmtp_takes_the_message_for_those_whom_the_hook_took(
    tmp_path: Path, serve: Callable[..., Front], sink: Sink
) -> None:
    (tmp_path / "choosy.py").write_text(HOOKS)
    front = serve(smtp_route(sink.next_hop), listener={"protocol": "lmtp"}, hooks={"class": "choosy:Choosy"})
    with Talk(front.address) as session:
        session.greeting(verb="LHLO")
        session.envelope("a@client.example", [f"one@{OURS}", f"later@{OURS}", f"two@{OURS}"])
        first = session.body(MESSAGE)
        second, third = session.reply(), session.reply()
        assert (first.code, third.code) == (250, 250)
        assert str(second) == "450 4.7.1 not now"
        assert first.text == third.text
    until(sink.deliveries, 10.0, "delivered")
    front.await_empty_queue(10.0)
    (delivery,) = sink.deliveries()
    assert delivery.rcpt_to == (f"one@{OURS}", f"two@{OURS}")


@pytest.mark.parametrize("protocol", ["smtp", "lmtp"])
def test_a_list_that_does_not_fit_the_recipients_is_never_a_250(
    tmp_path: Path, serve: Callable[..., Front], sink: Sink, protocol: str
) -> None:
    """What is answered 250 is stored: a hook's mistake is 451, and nothing is kept."""
    (tmp_path / "choosy.py").write_text(HOOKS)
    front = serve(smtp_route(sink.next_hop), listener={"protocol": protocol}, hooks={"class": "choosy:Choosy"})
    with Talk(front.address) as session:
        session.greeting(verb="LHLO" if protocol == "lmtp" else "EHLO")
        session.envelope("short@client.example", [f"one@{OURS}", f"two@{OURS}"])
        assert str(session.body(MESSAGE)).startswith("451 4.3.0")
    assert front.queue()["entries"] == 0
    assert sink.deliveries() == []


def test_chunks_are_stored_and_delivered(serve: Callable[..., Front], sink: Sink) -> None:
    front = serve(smtp_route(sink.next_hop))
    with talk(front.address) as session:
        session.expect("MAIL FROM:<a@client.example> BODY=8BITMIME", 250)
        session.expect(f"RCPT TO:<b@{OURS}>", 250)
        session.raw(b"BDAT %d\r\n%sBDAT 0 LAST\r\n" % (len(MESSAGE), MESSAGE))
        assert session.reply().code == 250
        assert "queued as" in session.reply().text
    until(sink.deliveries, 10.0, "delivered")
    front.await_empty_queue(10.0)
