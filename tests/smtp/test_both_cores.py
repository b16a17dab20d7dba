"""The sending core against the receiving one: whatever the message, the offer and the cuts, it arrives as it should."""

from __future__ import annotations

import re
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mta_front.smtp import bodyencoder, events, replies
from mta_front.smtp.client import ClientConnection
from mta_front.smtp.params import MailDsn, RcptDsn
from mta_front.smtp.replies import Reply
from mta_front.smtp.state import Phase
from mta_front.smtp.transaction import Transaction
from tests.smtp.owner import Owner
from tests.smtp.relayed import Sending, carry

LIMIT_BYTES = 24


@pytest.fixture(autouse=True, scope="module")
def _small_chunks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bodyencoder, "CHUNK_BYTES", 8)
        yield


class Judging(Owner):
    """Refuses recipients named no and later, and notes who got what."""

    def __init__(self, extensions: tuple[str, ...], **options: Any) -> None:
        super().__init__(**options)
        self.extensions = extensions
        self.mails: list[events.Mail] = []
        self.taken: list[list[events.Rcpt]] = []

    def answers(self) -> bytes:
        return self.heard.sent

    def _answer(self, event: events.Event) -> None:
        if isinstance(event, events.Mail):
            self.mails.append(event)
            self.taken.append([])
        if isinstance(event, events.Rcpt):
            if event.address.local_part in {"no", "later"}:
                code = 550 if event.address.local_part == "no" else 450
                self.connection.reply(Reply(code, f"{code // 100}.1.1", "not here"))
                return
            self.taken[-1].append(event)
        super()._answer(event)


RECIPIENTS = st.lists(st.sampled_from(["one@y", "two@y", "no@y", "later@y"]), min_size=1, unique=True)
BODIES = st.lists(st.text("a.\r\n", max_size=12).map(str.encode) | st.binary(max_size=12), max_size=6)
MESSAGE = st.tuples(RECIPIENTS, BODIES, st.sampled_from(["7bit", "8bitmime", "binarymime"]))
DSN = {"one@y": RcptDsn(("SUCCESS", "DELAY"), "rfc822;One@y"), "two@y": RcptDsn(("NEVER",))}


def expected(body: bytes, body_type: str, chunks: bool) -> bytes:
    if body_type == "binarymime":
        return body
    body = re.sub(rb"\r\n|\r|\n", b"\r\n", body)
    return body if chunks or not body or body.endswith(b"\r\n") else body + b"\r\n"


@settings(max_examples=200, deadline=None)
@given(
    st.lists(MESSAGE, min_size=1, max_size=4),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["reject", "normalize", "accept"]),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_each_message_arrives_or_has_a_reason(
    messages: list[tuple[list[str], list[bytes], str]],
    pipelining: bool,
    chunking: bool,
    lmtp: bool,
    bare_newline: str,
    limited: bool,
    chance: Random,
) -> None:
    offered = ("8BITMIME", "DSN", *["PIPELINING"] * pipelining, *["CHUNKING", "BINARYMIME"] * chunking)
    server = Judging(offered, lmtp=lmtp, bare_newline=bare_newline, size_bytes=LIMIT_BYTES * limited)
    client = ClientConnection("front.example", lmtp=lmtp)
    sendings = [
        Sending(Transaction("a@x", people, 0, kind, dsn=MailDsn("FULL", "x+y"), rcpt_dsn=DSN), segments)
        for people, segments, kind in messages
    ]
    bodies = [b"".join(segments) for _, segments, _ in messages]
    carry(client, server, sendings, lambda waiting: chance.randint(1, min(waiting, chance.choice([1, 7, 1000]))))

    arrived = iter(zip(server.mails, server.taken, strict=True))
    stored = iter(server.heard.messages)
    for sending, body in zip(sendings, bodies, strict=True):
        transaction = sending.transaction
        if client.closed and not transaction.done:
            continue  # an LMTP connection that a refused chunk ended: the others were not begun
        assert transaction.done
        people = list(transaction.recipients)
        found = [f"{outcome.kind} {outcome.code}" for outcome in transaction.outcomes if outcome]
        if transaction.body_type == "binarymime" and not chunking:
            assert found == ["failed 554"] * len(people)
            continue
        mail, taken = next(arrived)
        assert mail.parameters.body_type == transaction.body_type
        assert mail.parameters.dsn == MailDsn("FULL", "x+y")
        assert [rcpt.address.address for rcpt in taken] == [who for who in people if who[:2] not in {"no", "la"}]
        assert all(rcpt.address.dsn == DSN[rcpt.address.address] for rcpt in taken)
        wanted = expected(body, transaction.body_type, chunking)
        fits = not limited or len(wanted) <= LIMIT_BYTES
        good = "delivered 250" if fits else "failed 552"
        assert found == [{"no@y": "failed 550", "later@y": "deferred 450"}.get(who, good) for who in people]
        if taken and fits:
            assert next(stored) == wanted
    assert next(stored, None) is None
    if client.closed:
        assert lmtp
        assert limited
        assert client.reason.startswith("a chunk was refused")
    else:
        assert next(arrived, None) is None
        assert client.idle
        assert server.connection.phase in (Phase.READY, Phase.MAIL, Phase.RCPT)
        assert server.connection.buffered_bytes == 0


def test_a_commands_words_are_never_taken_from_a_message() -> None:
    """The first chunk waits until somebody is accepted: a refused BDAT whose octets are not dropped is commands."""
    server = Judging(("PIPELINING", "CHUNKING"))
    body = b"RSET\r\nMAIL FROM:<evil@x>\r\nRCPT TO:<one@y>\r\nDATA\r\nspoofed\r\n.\r\n"
    client = ClientConnection("front.example")
    first, second = (Sending(Transaction("a@x", [who]), [body]) for who in ("no@y", "one@y"))
    carry(client, server, [first, second])
    assert [mail.address.address for mail in server.mails] == ["a@x", "a@x"]
    assert server.heard.messages == [body]
    assert replies.RECIPIENT_OK.wire in server.heard.sent
