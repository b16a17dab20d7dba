"""Whatever was smuggled into a message, and however we took it: who gets it from us sees one message (DECISIONS W7)."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from mta_front.smtp.client import ClientConnection
from mta_front.smtp.transaction import Transaction
from tests.dialogs import load_dialog
from tests.smtp.lax import LaxReceiver
from tests.smtp.owner import Owner, run
from tests.smtp.relayed import Sending, carry

WIRE = Path(__file__).parent.parent / "wire" / "smuggling"
DIALOGS = {path.stem: load_dialog(path) for path in sorted(WIRE.glob("*.txt"))}
OFFERS = {
    "DATA": [b"PIPELINING"],
    "DATA in turn": [],
    "BDAT": [b"PIPELINING", b"CHUNKING"],
    "BDAT in turn": [b"CHUNKING"],
}
ENVELOPE = [b"MAIL FROM:<a@x>", b"RCPT TO:<b@y>"]


def taken(name: str) -> list[bytes]:
    """The messages that our own receiver made of a dialog: as it is, and its content sent as a chunk."""
    dialog = DIALOGS[name]
    steps = b"".join(data for data, _ in dialog.turns())
    found = run([steps], **dialog.options).messages
    content = steps.partition(b"DATA\r\n")[2].rpartition(b"\r\n.\r\n")[0]
    return found + by_bdat(content + b"\r\n", dialog.options) if content else found


def by_bdat(content: bytes, options: dict[str, object]) -> list[bytes]:
    hello = b"EHLO c\r\nMAIL FROM:<a@x>\r\nRCPT TO:<b@y>\r\n"
    return run([hello + b"BDAT %d LAST\r\n" % len(content) + content], **options).messages


@pytest.mark.parametrize("offer", OFFERS)
@pytest.mark.parametrize("name", DIALOGS)
def test_one_message_stays_one(name: str, offer: str) -> None:
    for message in taken(name):
        for size in (len(message) or 1, 1, 3) if len(message) < 1000 else (65_536, 999):
            lax = LaxReceiver(*OFFERS[offer])
            pieces = [message[start : start + size] for start in range(0, len(message), size)]
            sending = Sending(Transaction("a@x", ["b@y"]), pieces)
            carry(ClientConnection("front.example"), lax, [sending], partial(min, size))
            assert [outcome.kind for outcome in sending.transaction.outcomes if outcome] == ["delivered"]
            assert lax.envelopes == [ENVELOPE]
            assert len(lax.messages) == 1


def test_something_is_there_to_be_smuggled() -> None:
    """The receiver is lax enough: sent with no more than RFC 5321 asks for, most of these are two messages to it."""
    fooled = set()
    for name in DIALOGS:
        for message in taken(name):
            lax = LaxReceiver()
            lax.receive(b"MAIL FROM:<a@x>\r\nRCPT TO:<b@y>\r\nDATA\r\n")
            lax.receive(message.replace(b"\r\n.", b"\r\n..") + b".\r\n")
            if len(lax.messages) > 1:
                fooled.add(name.partition("_")[0] + name.partition("_")[2])
    assert len(fooled) >= 6, fooled


def test_our_own_receiver_sees_one_too() -> None:
    for name in DIALOGS:
        for message in taken(name):
            owner = Owner(bare_newline="reject")
            heard = owner.heard
            script = b"EHLO c\r\nMAIL FROM:<a@x>\r\nRCPT TO:<b@y>\r\nDATA\r\n"
            transaction = Transaction("a@x", ["b@y"])
            owner.receive(script + transaction.encoder.encode(message) + transaction.encoder.finish())
            assert len(heard.messages) == 1, name
