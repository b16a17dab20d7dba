"""Dialogs of the sending side: what it says in answer to what, and what it makes of it, whatever the cuts."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mta_front.smtp.client import ClientConnection
from mta_front.smtp.transaction import Transaction
from tests.smtp.client_dialogs import (
    ENVELOPE,
    GO,
    PIPELINING,
    SENT,
    Dialog,
    Mail,
    Message,
    bytewise,
    check,
    say,
    shown,
    whole,
)

DIALOGS = {
    "one message in two groups": Dialog(
        [(ENVELOPE, b"250 ok\r\n250 ok\r\n354 go\r\n"), (SENT, b"250 2.0.0 queued as 1\r\n")],
        [["delivered 250 2.0.0 queued as 1"]],
    ),
    "without PIPELINING one command at a time": Dialog(
        [
            (b"MAIL FROM:<a@x>\r\n", b"250 ok\r\n"),
            (b"RCPT TO:<b@y>\r\n", b"250 ok\r\n"),
            (b"RCPT TO:<c@y>\r\n", b"550 5.1.1 no\r\n"),
            (b"DATA\r\n", GO),
            (SENT, b"250 done\r\n"),
        ],
        [["delivered 250 done", "failed 550 5.1.1 no"]],
        [Message(("b@y", "c@y"))],
        offer=b"250 hop\r\n",
    ),
    "without PIPELINING no DATA when nobody is accepted, and RSET before the next": Dialog(
        [
            (b"MAIL FROM:<a@x>\r\n", b"250 ok\r\n"),
            (b"RCPT TO:<b@y>\r\n", b"450 4.2.1 later\r\n"),
            (b"RSET\r\n", b"250 ok\r\n"),
            (b"MAIL FROM:<a@x>\r\n", b"250 ok\r\n"),
            (b"RCPT TO:<b@y>\r\n", b"250 ok\r\n"),
            (b"DATA\r\n", GO),
            (SENT, b"250 done\r\n"),
        ],
        [["deferred 450 4.2.1 later"], ["delivered 250 done"]],
        [Message(), Message()],
        offer=b"250 hop\r\n",
    ),
    "without PIPELINING a refused MAIL ends it": Dialog(
        [(b"MAIL FROM:<a@x>\r\n", b"550 5.7.1 not you\r\n")],
        [["failed 550 5.7.1 not you", "failed 550 5.7.1 not you"]],
        [Message(("b@y", "c@y"))],
        offer=b"250 hop\r\n",
    ),
    "the null reverse-path": Dialog(
        [(b"MAIL FROM:<>\r\nRCPT TO:<b@y>\r\nDATA\r\n", b"250 ok\r\n250 ok\r\n354 go\r\n"), (SENT, b"250 done\r\n")],
        [["delivered 250 done"]],
        [Message(mail_from="")],
    ),
    "the next message leaves with the end of this one (RFC 2920)": Dialog(
        [
            (ENVELOPE, b"250 ok\r\n250 ok\r\n354 go\r\n"),
            (SENT + ENVELOPE, b"250 first\r\n250 ok\r\n250 ok\r\n354 go\r\n"),
            (SENT, b"250 second\r\n"),
        ],
        [["delivered 250 first"], ["delivered 250 second"]],
        [Message(), Message()],
    ),
    "the first of two is refused at its end, the second is delivered": Dialog(
        [
            (ENVELOPE, b"250 ok\r\n250 ok\r\n354 go\r\n"),
            (SENT + ENVELOPE, b"554 5.6.0 spam\r\n250 ok\r\n250 ok\r\n354 go\r\n"),
            (SENT, b"250 second\r\n"),
        ],
        [["failed 554 5.6.0 spam"], ["delivered 250 second"]],
        [Message(), Message()],
    ),
    "4xx for MAIL applies to all": Dialog(
        [(ENVELOPE[:-6] + b"RCPT TO:<c@y>\r\nDATA\r\n", b"451 4.3.0 later\r\n503 no\r\n503 no\r\n503 no\r\n")],
        [["deferred 451 4.3.0 later", "deferred 451 4.3.0 later"]],
        [Message(("b@y", "c@y"))],
    ),
    "5xx for MAIL applies to all, and nothing needs a RSET": Dialog(
        [
            (ENVELOPE, b"550 5.7.1 no\r\n503 no\r\n503 no\r\n"),
            (ENVELOPE, b"250 ok\r\n250 ok\r\n354 go\r\n"),
            (SENT, b"250 done\r\n"),
        ],
        [["failed 550 5.7.1 no"], ["delivered 250 done"]],
        [Message(), Message()],
    ),
    "all recipients refused, DATA refused: RSET travels with the next group": Dialog(
        [
            (ENVELOPE, b"250 ok\r\n550 5.1.1 unknown\r\n554 5.5.1 no valid recipients\r\n"),
            (b"RSET\r\n" + ENVELOPE, b"250 reset\r\n250 ok\r\n250 ok\r\n354 go\r\n"),
            (SENT, b"250 done\r\n"),
        ],
        [["failed 550 5.1.1 unknown"], ["delivered 250 done"]],
        [Message(), Message()],
    ),
    "all recipients refused, DATA accepted: the lone dot (RFC 2920 §3.1)": Dialog(
        [
            (ENVELOPE, b"250 ok\r\n550 5.1.1 unknown\r\n354 go\r\n"),
            (b".\r\n" + ENVELOPE, b"554 nothing\r\n250 ok\r\n250 ok\r\n354 go\r\n"),
            (SENT, b"250 done\r\n"),
        ],
        [["failed 550 5.1.1 unknown"], ["delivered 250 done"]],
        [Message(), Message()],
    ),
    "MAIL refused, a recipient taken, DATA accepted: no dot for it, the connection ends": Dialog(
        [(ENVELOPE, b"451 later\r\n250 ok\r\n354 go\r\n")],
        [["deferred 451 later"]],
        closed="protocol error: DATA was accepted after a refusal",
    ),
    "DATA refused applies to those accepted": Dialog(
        [(ENVELOPE[:-6] + b"RCPT TO:<c@y>\r\nDATA\r\n", b"250 ok\r\n250 ok\r\n550 5.1.1 no\r\n451 4.3.0 full\r\n")],
        [["deferred 451 4.3.0 full", "failed 550 5.1.1 no"]],
        [Message(("b@y", "c@y"))],
    ),
    "552 for RCPT is too many recipients": Dialog(
        [
            (ENVELOPE[:-6] + b"RCPT TO:<c@y>\r\nDATA\r\n", b"250 ok\r\n250 ok\r\n552 too many\r\n354 go\r\n"),
            (SENT, b"250 done\r\n"),
        ],
        [["delivered 250 done", "deferred 452 too many"]],
        [Message(("b@y", "c@y"))],
    ),
    "552 5.2.2 for RCPT is a full mailbox": Dialog(
        [(ENVELOPE, b"250 ok\r\n552 5.2.2 mailbox full\r\n554 none\r\n")],
        [["failed 552 5.2.2 mailbox full"]],
    ),
    "LMTP: a reply for each recipient that was accepted": Dialog(
        [
            (
                b"MAIL FROM:<a@x>\r\nRCPT TO:<b@y>\r\nRCPT TO:<c@y>\r\nRCPT TO:<d@y>\r\nDATA\r\n",
                b"250 ok\r\n250 ok\r\n550 5.1.1 no\r\n250 ok\r\n354 go\r\n",
            ),
            (SENT, b"250 2.0.0 stored\r\n452 4.2.2 full\r\n"),
        ],
        [["delivered 250 2.0.0 stored", "failed 550 5.1.1 no", "deferred 452 4.2.2 full"]],
        [Message(("b@y", "c@y", "d@y"))],
        lmtp=True,
    ),
    "LMTP: the connection breaks between two replies": Dialog(
        [
            (ENVELOPE[:-6] + b"RCPT TO:<c@y>\r\nDATA\r\n", b"250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n"),
            (SENT, b"250 stored\r\n"),
            (b"", b"EOF"),
        ],
        [["delivered 250 stored", "deferred the next hop closed the connection ?"]],
        [Message(("b@y", "c@y"))],
        lmtp=True,
        closed="the next hop closed",
    ),
    "LMTP: DATA accepted for nobody": Dialog(
        [(ENVELOPE, b"250 ok\r\n550 5.1.1 no\r\n354 go\r\n")],
        [["failed 550 5.1.1 no"]],
        lmtp=True,
        closed="protocol error: DATA",
    ),
    "LMTP does not fall back to HELO": Dialog(
        [(b"", b"220 hop\r\n"), (b"LHLO me.example\r\n", b"500 what?\r\n")],
        [["-"]],
        lmtp=True,
        hello=False,
        closed="what?",
    ),
    "HELO when EHLO is unknown": Dialog(
        [
            (b"", b"220 hop\r\n"),
            (b"EHLO me.example\r\n", b"502 what?\r\n"),
            (b"HELO me.example\r\n", b"250 hop\r\n"),
            (b"MAIL FROM:<a@x>\r\n", b"250 ok\r\n"),
            (b"RCPT TO:<b@y>\r\n", b"250 ok\r\n"),
            (b"DATA\r\n", GO),
            (SENT, b"250 done\r\n"),
        ],
        [["delivered 250 done"]],
        [Message(size_bytes=9, body_type="8bitmime")],
        hello=False,
    ),
    "EHLO refused for now": Dialog(
        [(b"", b"220 hop\r\n"), (b"EHLO me.example\r\n", b"450 4.7.1 later\r\n")],
        [["-"]],
        hello=False,
        closed="4.7.1 later",
    ),
    "HELO refused": Dialog(
        [
            (b"", b"220 hop\r\n"),
            (b"EHLO me.example\r\n", b"500 no\r\n"),
            (b"HELO me.example\r\n", b"550 5.7.1 go away\r\n"),
        ],
        [["-"]],
        hello=False,
        closed="5.7.1 go away",
    ),
    "a greeting of several lines": Dialog(
        [(b"", b"220-hop\r\n220-rules\r\n220 apply\r\n"), (b"EHLO me.example\r\n", b"250 hop\r\n")],
        [["-"]],
        [],
        hello=False,
    ),
    "554 as the greeting": Dialog(
        [(b"", b"554 5.3.2 no mail here\r\n")], [["-"]], hello=False, closed="5.3.2 no mail here"
    ),
    "parameters as offered": Dialog(
        [
            (
                b"MAIL FROM:<a@x> SIZE=1234 BODY=8BITMIME SMTPUTF8\r\nRCPT TO:<b@y>\r\nDATA\r\n",
                b"250 ok\r\n250 ok\r\n354 go\r\n",
            ),
            (SENT, b"250 done\r\n"),
        ],
        [["delivered 250 done"]],
        [Message(size_bytes=1234, body_type="8bitmime", smtp_utf8=True)],
        offer=b"250-hop\r\n250-size 2000\r\n250-8bitmime\r\n250-SMTPUTF8\r\n250-XODD=1 2\r\n250 PIPELINING\r\n",
    ),
    "no parameter that is not offered": Dialog(
        [(ENVELOPE, b"250 ok\r\n250 ok\r\n354 go\r\n"), (SENT, b"250 done\r\n")],
        [["delivered 250 done"]],
        [Message(size_bytes=1234, body_type="8bitmime", smtp_utf8=True)],
    ),
    "too large for the next hop": Dialog(
        [],
        [["failed 552 5.3.4 The message has 2001 octets, the next hop takes 2000"]],
        [Message(size_bytes=2001)],
        offer=b"250-hop\r\n250 SIZE 2000\r\n",
    ),
    "a binary message is not spoilt by DATA": Dialog(
        [],
        [["failed 554 5.6.1 A binary message, and the next hop does not offer BINARYMIME"]],
        [Message(body_type="binarymime")],
        offer=b"250-hop\r\n250 BINARYMIME\r\n",
    ),
    "SIZE 0 and nonsense are no limit": Dialog(
        [(b"MAIL FROM:<a@x> SIZE=2001\r\n", b"550 no\r\n")],
        [["failed 550 no"]],
        [Message(size_bytes=2001)],
        offer=b"250-hop\r\n250-SIZE 0\r\n250 SIZE " + b"9" * 3000 + b"\r\n",
    ),
    "UTF-8 addresses are not sent to who cannot take them": Dialog(
        [(ENVELOPE, b"250 ok\r\n250 ok\r\n354 go\r\n"), (SENT, b"250 done\r\n")],
        [["failed 553 5.6.7 The address is not ASCII and the next hop does not offer SMTPUTF8", "delivered 250 done"]],
        [Message(("ü@y", "b@y"))],
    ),
    "UTF-8 addresses": Dialog(
        [
            ("MAIL FROM:<ä@x> SMTPUTF8\r\nRCPT TO:<ü@y>\r\nDATA\r\n".encode(), b"250 ok\r\n250 ok\r\n354 go\r\n"),
            (SENT, b"250 done\r\n"),
        ],
        [["delivered 250 done"]],
        [Message(("ü@y",), mail_from="ä@x", smtp_utf8=True)],
        offer=b"250-hop\r\n250-SMTPUTF8\r\n250 PIPELINING\r\n",
    ),
    "an address with a line end cannot become a command": Dialog(
        [(ENVELOPE, b"250 ok\r\n250 ok\r\n354 go\r\n"), (SENT, b"250 done\r\n")],
        [["failed 501 5.1.3 The address has control characters", "delivered 250 done"]],
        [Message(("e@y>\r\nRCPT TO:<evil@z", "b@y"))],
    ),
    "a sender with a line end": Dialog(
        [], [["failed 501 5.1.7 The address has control characters"]], [Message(mail_from="a@x>\r\nQUIT\r\n<")]
    ),
    "an address that is no UTF-8": Dialog(
        [],
        [["failed 501 5.1.3 The address is not UTF-8"]],
        [Message(("\udc80@y",))],
        offer=b"250-hop\r\n250 SMTPUTF8\r\n",
    ),
    "421 for MAIL closes, and another connection may try": Dialog(
        [(ENVELOPE, b"421 4.3.2 shutting down\r\n")],
        [["deferred 421 4.3.2 shutting down"]],
        closed="4.3.2 shutting down",
        lost=True,
    ),
    "421 for a recipient: the refused one stays refused": Dialog(
        [(ENVELOPE[:-6] + b"RCPT TO:<c@y>\r\nDATA\r\n", b"250 ok\r\n550 5.1.1 no\r\n421 4.3.2 down\r\n")],
        [["failed 550 5.1.1 no", "deferred 421 4.3.2 down"]],
        [Message(("b@y", "c@y"))],
        closed="4.3.2 down",
    ),
    "421 for the message: certainly not delivered": Dialog(
        [(ENVELOPE, b"250 ok\r\n250 ok\r\n354 go\r\n"), (SENT, b"421 4.3.0 no\r\n")],
        [["deferred 421 4.3.0 no"]],
        closed="4.3.0 no",
    ),
    "421 out of the blue": Dialog([(b"", b"421 4.4.2 idle\r\n")], [], [], closed="4.4.2 idle"),
    "a reply to nothing": Dialog([(b"", b"250 hi\r\n")], [], [], closed="protocol error: a reply to nothing: 250 hi"),
    "lost before the end: deferred, and another connection may try": Dialog(
        [(ENVELOPE, b"250 ok\r\n250 ok\r\n"), (b"", b"EOF")],
        [["deferred the next hop closed the connection"]],
        closed="the next hop closed",
        lost=True,
    ),
    "lost after the end: nobody knows": Dialog(
        [(ENVELOPE, b"250 ok\r\n250 ok\r\n354 go\r\n"), (SENT, b"EOF")],
        [["deferred the next hop closed the connection ?"]],
        closed="the next hop closed",
    ),
    "lost with two under way: the first is uncertain, the second is not": Dialog(
        [(ENVELOPE, b"250 ok\r\n250 ok\r\n354 go\r\n"), (SENT + ENVELOPE, b"EOF")],
        [["deferred the next hop closed the connection ?"], ["deferred the next hop closed the connection"]],
        [Message(), Message()],
        closed="the next hop closed",
        lost=True,
    ),
    "2xx for DATA": Dialog(
        [(ENVELOPE, b"250 ok\r\n250 ok\r\n250 ok\r\n")],
        [["deferred protocol error: 250 in answer to DATA"]],
        closed="protocol error",
        lost=True,
    ),
    "3xx for RCPT": Dialog(
        [(ENVELOPE, b"250 ok\r\n354 ok\r\n250 ok\r\n")],
        [["deferred protocol error: 354 in answer to RCPT"]],
        closed="protocol error",
        lost=True,
    ),
    "3xx for the message": Dialog(
        [(ENVELOPE, b"250 ok\r\n250 ok\r\n354 go\r\n"), (SENT, b"354 more\r\n")],
        [["deferred protocol error: 354 in answer to the end of data ?"]],
        closed="protocol error",
    ),
    "not SMTP at all": Dialog(
        [(b"", b"HTTP/1.1 400 Bad Request\r\n")], [["-"]], hello=False, closed="protocol error: not a reply"
    ),
    "quit": Dialog([], [], [], quits=True),
}


@pytest.mark.parametrize("cut", [whole, bytewise], ids=["whole", "bytewise"])
@pytest.mark.parametrize("name", DIALOGS)
def test_dialog(name: str, cut: Callable[[bytes], Iterable[bytes]]) -> None:
    check(DIALOGS[name], cut)


def after_354() -> tuple[ClientConnection, Transaction]:
    client, transactions = ClientConnection("me.example"), [Transaction("a@x", ("b@y",))]
    client.receive(b"220 hop\r\n")
    client.receive(PIPELINING)
    client.begin(transactions[0])
    client.receive(b"250 ok\r\n250 ok\r\n354 go\r\n")
    assert client.body_wanted is transactions[0]
    client.data_to_send()
    return client, transactions[0]


def test_a_refusal_within_the_body_counts_and_closes() -> None:
    client, transaction = after_354()
    client.write(b"x" * 100)
    client.receive(b"550 5.7.1 enough\r\n")
    assert client.closed
    assert shown(transaction) == ["failed 550 5.7.1 enough"]
    client.write(b"x" * 100)
    client.finish()
    assert client.data_to_send() == b""


def test_an_acceptance_within_the_body_is_not_believed() -> None:
    client, transaction = after_354()
    client.write(b"x" * 100)
    client.receive(b"250 2.0.0 thank you\r\n")
    assert client.closed
    assert transaction.lost
    assert shown(transaction) == ["deferred protocol error: a reply to nothing: 250 2.0.0 thank you"]


def test_the_driver_gives_up_before_the_final_dot() -> None:
    client, transaction = after_354()
    client.write(b"x" * 100)
    client.lost("the claim is no longer ours")
    assert client.data_to_send() == b""
    assert shown(transaction) == ["deferred the claim is no longer ours"]


def test_quit_is_answered() -> None:
    client = ClientConnection("me.example")
    client.receive(b"220 hop\r\n")
    client.receive(PIPELINING)
    assert client.idle
    client.quit()
    assert not client.can_begin
    client.receive(b"221 bye\r\n")
    assert client.closed


def hostile() -> Iterable[bytes]:
    yield b"2" * 100_000
    yield b"220-" + b"x" * 5000
    for line in (b"220-x\r\n", b"220-\n", b"250-" + b"y" * 4000 + b"\r\n"):
        yield line * (200_000 // len(line))
    yield b"\r\n" * 1000
    yield b"\x00\xff" * 5000


@pytest.mark.parametrize("data", list(hostile()), ids=range(7))
def test_a_flood_ends_the_connection_in_bounded_memory(data: bytes) -> None:
    client = ClientConnection("me.example")
    for start in range(0, len(data), 1000):
        client.receive(data[start : start + 1000])
        assert len(client._reader._buffer) <= 6000
    assert client.closed
    assert client.reason.startswith("protocol error: ")
    assert len(client.reason) < 500


REPLIES = st.one_of(
    st.sampled_from(
        [
            b"250 ok\r\n",
            b"354 go\r\n",
            b"550 no\r\n",
            b"450 later\r\n",
            b"421 bye\r\n",
            b"250-a\r\n250 b\r\n",
            PIPELINING,
        ]
    ),
    st.binary(max_size=20),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(REPLIES, max_size=20), st.booleans(), st.booleans())
def test_whatever_the_next_hop_says_each_message_ends_with_outcomes(
    answers: list[bytes], lmtp: bool, ends: bool
) -> None:
    client = ClientConnection("me.example", lmtp=lmtp)
    mails = [Mail("a@x", ("b@y", "c@y")) for _ in range(5)]
    waiting = list(mails)
    client.receive(b"220 hop\r\n")
    client.receive(PIPELINING if ends else b"250 hop\r\n")
    for answer in answers:
        say(client, waiting)
        client.receive(answer)
    say(client, waiting)
    client.receive(b"")
    assert client.closed
    for transaction in mails[: len(mails) - len(waiting)]:
        assert transaction.done
        assert None not in transaction.outcomes
