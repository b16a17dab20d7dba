"""Postfix as a relay in front of us: its smtp(8), with pipelining and without, and its lmtp(8)."""

from __future__ import annotations

import smtplib
from itertools import pairwise
from pathlib import Path

import pytest

from tests.clients.door import Door
from tests.clients.letters import LETTERS
from tests.clients.postfix_relay import PostfixRelay
from tests.clients.test_smtplib import options
from tests.wait import until


@pytest.mark.parametrize(("protocol", "pipelining"), [("smtp", True), ("smtp", False), ("lmtp", True)])
def test_postfix(door: Door, open_directory: Path, protocol: str, pipelining: bool) -> None:
    """It puts its Received: before the message, and leaves the rest as it is. Where DSN is offered it sends ORCPT."""
    relay = PostfixRelay(open_directory, door.port(protocol), protocol, pipelining=pipelining).start()
    with smtplib.SMTP("127.0.0.1", relay.port, "sender.example", timeout=30.0) as client:
        for letter in LETTERS:
            assert client.sendmail(letter.mail_from, letter.rcpt_to, letter.content, options(letter)) == {}
    for letter in LETTERS:
        door.arrived(letter, protocol, added=("Received",))
        assert door.declared(letter) == {("8bitmime" if letter.eight_bit else "7bit", letter.utf8)}

    def after_mail() -> list[str]:
        """What came next after each MAIL: a command of the client, or the answer."""
        return [line[0] for mail, line in pairwise(relay.dialog()) if mail.startswith("> MAIL ")]

    until(lambda: len(after_mail()) == len(LETTERS), 10.0, "Postfix has logged the dialogs")
    assert set(after_mail()) == {">" if pipelining else "<"}
