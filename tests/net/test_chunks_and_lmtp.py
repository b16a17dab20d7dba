"""Chunks (RFC 3030) and LMTP (RFC 2033) through the pump and the hooks."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from mta_front.hooks import Answer, Defer, Hooks, Message, Reject, Reply, Session
from tests.net.live import live
from tests.smtp_talk import Talk
from tests.wait import until


class Kept(Hooks):
    """Keeps messages; gives `answer`."""

    def __init__(self, answer: Answer | Sequence[Answer] = None) -> None:
        self.answer = answer
        self.messages: list[bytes] = []
        self.ended: list[str] = []

    def on_data(self, message: Message, session: Session) -> Answer | Sequence[Answer]:
        try:
            self.messages.append(message.read())
        except ConnectionError as error:
            self.ended.append(type(error).__name__)
            raise
        return self.answer

    def on_close(self, session: Session) -> None:
        self.ended.append("closed")


def begin(client: Talk, *recipients: str) -> None:
    client.expect("MAIL FROM:<a@b.example>", 250)
    for recipient in recipients:
        client.expect(f"RCPT TO:<{recipient}>", 250)


def test_chunks_reach_the_hook_as_one_message() -> None:
    hooks = Kept()
    with live(hooks) as server, Talk(server.address) as client:
        client.greeting()
        begin(client, "c@d.example")
        client.raw(b"BDAT 7\r\na\r\n.\r\nbBDAT 100000 LAST\r\n")
        assert str(client.reply()) == "250 2.0.0 Chunk received"
        client.raw(b"\xff" * 100_000)
        assert str(client.reply()) == "250 2.0.0 Ok"
        assert client.send(b"and DATA\r\n").code == 250
    assert hooks.messages == [b"a\r\n.\r\nb" + b"\xff" * 100_000, b"and DATA\r\n"]


@pytest.mark.parametrize("command", ["RSET", "EHLO again.example", "QUIT"])
def test_a_message_that_is_abandoned_between_chunks_reaches_nobody(command: str) -> None:
    hooks = Kept()
    with live(hooks) as server, Talk(server.address) as client:
        client.greeting()
        begin(client, "c@d.example")
        client.raw(b"BDAT 3\r\nabc")
        assert client.reply().code == 250
        assert client.command(command).code in {250, 221}
        until(lambda: hooks.ended)
        assert hooks.ended[0] == "MessageAbandoned"
        if command != "QUIT":
            assert client.send(b"next\r\n").code == 250
    assert hooks.messages == ([] if command == "QUIT" else [b"next\r\n"])
    assert not server.noted.faults


def test_a_hook_that_swallows_the_end_of_a_message_changes_nothing() -> None:
    class Deaf(Kept):
        def on_data(self, message: Message, session: Session) -> Answer | Sequence[Answer]:
            try:
                return super().on_data(message, session)
            except ConnectionError:
                return "all is well"

    with live(Deaf()) as server, Talk(server.address) as client:
        client.greeting()
        begin(client, "c@d.example")
        client.raw(b"BDAT 3\r\nabcRSET\r\n")
        assert client.reply().code == 250
        assert str(client.reply()) == "250 2.0.0 Ok"
        client.expect("NOOP", 250)
    assert server.noted.accepted == []


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (None, ["250 2.0.0 Ok", "250 2.0.0 Ok", "250 2.0.0 Ok"]),
        ("kept", ["250 2.0.0 kept"] * 3),
        (Reply(451, "4.2.1", "busy"), ["451 4.2.1 busy"] * 3),
        ([None, Reject("no"), Defer(452, "4.2.2", "full")], ["250 2.0.0 Ok", "550 5.7.1 no", "452 4.2.2 full"]),
        (["kept", Reply(550, "5.1.1", "unknown"), "too"], ["250 2.0.0 kept", "550 5.1.1 unknown", "250 2.0.0 too"]),
        (["too", "few"], ["451 4.3.0 Local error in processing, try again later"] * 3),
    ],
)
def test_lmtp_answers_each_recipient(answer: Answer | Sequence[Answer], expected: list[str]) -> None:
    with live(Kept(answer), lmtp=True) as server, Talk(server.address) as client:
        client.greeting(verb="LHLO")
        begin(client, "c@d.example", "e@f.example", "g@h.example")
        client.expect("DATA", 354)
        client.raw(b"x\r\n.\r\n")
        assert [str(client.reply()) for _ in expected] == expected
        client.expect("NOOP", 250)
    taken = sum(line.startswith("250") for line in expected)
    assert [summary["recipients"] for summary in server.noted.accepted] == ([taken] if taken else [])


def test_lmtp_too_big_is_said_for_each_recipient() -> None:
    with live(Kept(), lmtp=True, size_bytes=10) as server, Talk(server.address) as client:
        client.greeting(verb="LHLO")
        begin(client, "c@d.example", "e@f.example")
        client.expect("DATA", 354)
        client.raw(b"x" * 100 + b"\r\n.\r\n")
        assert [client.reply().code, client.reply().code] == [552, 552]
