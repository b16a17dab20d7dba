"""What the core owes its owner, whatever comes in and whatever the owner answers.

Inside a message come only Segment, Answered, End and Abandoned; outside of one never Segment, End or Abandoned; what
is closed takes nothing more.
"""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from mta_front.smtp import events, replies
from mta_front.smtp.connection import Connection, ConnectionOptions
from mta_front.smtp.replies import Reply

WORDS = [
    b"EHLO c\r\n", b"EHLO\r\n", b"HELO c\r\n", b"LHLO c\r\n", b"MAIL FROM:<a@b.c>\r\n", b"RCPT TO:<d@e.f>\r\n",
    b"MAIL FROM:<a@b.c> BODY=BINARYMIME\r\n", b"DATA\r\n", b"hi\r\n.\r\n", b".\r\n", b"BDAT 3\r\nabc", b"BDAT 0\r\n",
    b"BDAT 0 LAST\r\n", b"BDAT 2 LAST\r\nxy", b"BDAT x\r\n", b"BDAT 9\r\n123456789", b"RSET\r\n", b"RSET x\r\n",
    b"NOOP\r\n", b"QUIT\r\n", b"VRFY x\r\n", b"XX\r\n", b"GET / HTTP/1.1\r\n", b"STARTTLS\r\n", b"AUTH PLAIN\r\n",
    b"AUTH PLAIN AAAA\r\n", b"*\r\n", b"A" * 600 + b"\r\n", b"A" * 13_000 + b"\r\n",
]  # fmt: skip
REFUSALS = [Reply(550, "5.0.0", "x"), Reply(450, "4.0.0", "x"), Reply(421, "4.0.0", "x")]
ENDS = (events.Segment, events.End, events.Abandoned)


class Owner:
    """Answers by dice, and holds the core to its word."""

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice
        self.lmtp = dice.random() < 0.3
        disabled = dice.choice([(), (), (), ("BDAT",), ("RSET",), ("EHLO", "LHLO"), ("DATA",), ("NOOP",)])
        options = ConnectionOptions(
            lmtp=self.lmtp,
            size_bytes=dice.choice([0, 5]),
            max_recipients=dice.choice([0, 2]),
            disabled_commands=frozenset(disabled),
        )
        self.connection = Connection(options)
        self.connection.reply(replies.banner("mx"))
        self.in_message = False

    def answer(self) -> Reply:
        return self.dice.choice([*[replies.OK] * 20, *REFUSALS])

    def receive(self, data: bytes) -> None:
        self.connection.receive(data)
        while (event := self.connection.next_event()) is not None:
            assert isinstance(event, (*ENDS, events.Answered)) if self.in_message else not isinstance(event, ENDS), (
                event
            )
            self.take(event)

    def take(self, event: events.Event) -> None:
        connection = self.connection
        if isinstance(event, events.End):
            self.in_message = False
            connection.reply_each([event.refusal or self.answer()] * (2 if self.lmtp else 1))
        elif isinstance(event, events.Abandoned):
            self.in_message = False
        elif isinstance(event, events.Data):
            answer = self.answer()
            self.in_message = answer.code < 400
            connection.reply(replies.START_MAIL_INPUT if self.in_message else answer)
        elif isinstance(event, events.Auth | events.Response):
            connection.reply(self.dice.choice([replies.challenge(b"x"), replies.AUTH_FAILED, replies.AUTH_SUCCEEDED]))
        elif isinstance(event, events.StartTls):
            connection.reply(Reply(454, "4.7.0", "no"))
        elif not isinstance(event, events.Answered | events.Segment):
            connection.reply(self.answer())


@given(st.integers(0, 1 << 32))
@settings(deadline=None, max_examples=600)
def test_the_core_keeps_its_word(seed: int) -> None:
    dice = random.Random(seed)
    owner = Owner(dice)
    hello = b"LHLO c\r\n" if owner.lmtp else b"EHLO c\r\n"
    stream = b"".join([hello, WORDS[4], WORDS[5], *dice.choices(WORDS, k=dice.randint(1, 25))])
    while stream:
        size = dice.choice([1, 2, 7, 50, 1 << 20])
        owner.receive(stream[:size])
        stream = stream[size:]
    if owner.connection.closed:
        before = owner.connection.buffered_bytes
        owner.receive(b"x" * 1000)
        assert owner.connection.buffered_bytes == before
