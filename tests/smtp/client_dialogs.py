"""Dialogs of the sending side: what it is to say in answer to what, and what it is to make of it, whatever the cuts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from mta_front.smtp.client import ClientConnection
from mta_front.smtp.params import MailDsn, RcptDsn
from mta_front.smtp.transaction import Transaction

BODY = b"Subject: x\r\n\r\n.dot\r\n"
SENT = b"Subject: x\r\n\r\n..dot\r\n.\r\n"
PIPELINING = b"250-hop\r\n250 PIPELINING\r\n"
GO = b"354 go\r\n"
ENVELOPE = b"MAIL FROM:<a@x>\r\nRCPT TO:<b@y>\r\nDATA\r\n"


@dataclass
class Message:
    """One transaction of a dialog; its body is BODY."""

    recipients: Sequence[str] = ("b@y",)
    mail_from: str = "a@x"
    size_bytes: int = 0
    body_type: str = "7bit"
    smtp_utf8: bool = False
    require_tls: bool = False
    dsn: MailDsn = field(default_factory=MailDsn)
    rcpt_dsn: dict[str, RcptDsn] = field(default_factory=dict)


@dataclass
class Dialog:
    """`turns`: what the client is to say, then what the next hop answers. `outcomes`: per message, per recipient."""

    turns: list[tuple[bytes, bytes]]
    outcomes: list[list[str]]
    messages: list[Message] = field(default_factory=lambda: [Message()])
    lmtp: bool = False
    closed: str = ""  # the reason, or its beginning
    lost: bool = False  # of the last message
    quits: bool = False
    hello: bool = True  # the turns begin with a usual greeting and `offer`
    offer: bytes = PIPELINING
    secure: bool = False


def whole(answer: bytes) -> Iterable[bytes]:
    yield answer


def bytewise(answer: bytes) -> Iterable[bytes]:
    yield from (answer[i : i + 1] for i in range(len(answer)))


class Mail(Transaction):
    """A transaction that knows its body."""

    body = BODY


def say(client: ClientConnection, waiting: list[Mail]) -> bytes:
    """Do all that can be done now, as a driver would; returns what is to be sent."""
    out = b""
    while True:
        out += client.data_to_send()
        if isinstance(client.body_wanted, Mail):
            client.write(client.body_wanted.body)
            client.finish()
        elif waiting and client.can_begin:
            client.begin(waiting.pop(0))
        else:
            return out


def play(dialog: Dialog, cut: Callable[[bytes], Iterable[bytes]] = whole) -> tuple[ClientConnection, list[Mail]]:
    client = ClientConnection("me.example", lmtp=dialog.lmtp)
    if dialog.secure:
        client.secured("verified")
    mails = [Mail(**vars(message)) for message in dialog.messages]
    waiting = list(mails)
    verb = b"LHLO" if dialog.lmtp else b"EHLO"
    opening = [(b"", b"220 hop ESMTP\r\n"), (verb + b" me.example\r\n", dialog.offer)] if dialog.hello else []
    for said, answer in [*opening, *dialog.turns]:
        assert say(client, waiting) == said
        if answer == b"EOF":
            client.receive(b"")
        else:
            for piece in cut(answer):
                client.receive(piece)
    if dialog.quits:
        client.quit()
    rest = say(client, waiting)
    assert rest == (b"QUIT\r\n" if dialog.quits else b"")
    return client, mails


def shown(transaction: Transaction) -> list[str]:
    """Each outcome: `?` is uncertain, `passed`: what is to be reported is the next hop's business."""
    marks = {(True, False): " ?", (False, True): " passed"}
    return [f"{o.kind} {o}{marks.get((o.uncertain, o.dsn_passed), '')}" if o else "-" for o in transaction.outcomes]


def check(dialog: Dialog, cut: Callable[[bytes], Iterable[bytes]]) -> None:
    """Play it; everything is as it says, and nothing is left over."""
    client, transactions = play(dialog, cut)
    assert [shown(t) for t in transactions] == (dialog.outcomes if dialog.messages else [])
    assert client.closed == bool(dialog.closed), client.reason
    assert client.reason.startswith(dialog.closed)
    assert (bool(transactions) and transactions[-1].lost) == dialog.lost
    if client.closed:
        assert not client.can_begin
        assert not client.data_to_send()
    for transaction in transactions:
        assert transaction.done == (None not in transaction.outcomes)
