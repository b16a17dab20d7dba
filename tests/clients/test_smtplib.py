"""Python's smtplib, over SMTP and LMTP."""

from __future__ import annotations

import smtplib

import pytest

from tests.clients.door import PROTOCOLS, Door
from tests.clients.letters import LETTERS, Letter

CLIENTS = {"smtp": smtplib.SMTP, "lmtp": smtplib.LMTP}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_smtplib(door: Door, protocol: str) -> None:
    """All on one connection."""
    with CLIENTS[protocol]("127.0.0.1", door.port(protocol), "client.example", timeout=30.0) as client:
        for letter in LETTERS:
            assert client.sendmail(letter.mail_from, letter.rcpt_to, letter.content, options(letter)) == {}
            if protocol == "lmtp":  # smtplib.LMTP reads one answer, where RFC 2033 §4.2 has one for each recipient
                assert [client.getreply()[0] for _ in letter.rcpt_to[1:]] == [250] * (len(letter.rcpt_to) - 1)
    for letter in LETTERS:
        door.arrived(letter, protocol)
        assert door.declared(letter) == {("8bitmime" if letter.eight_bit else "7bit", letter.utf8)}


def options(letter: Letter) -> list[str]:
    """What smtplib is to add to MAIL."""
    return ["BODY=8BITMIME"] * letter.eight_bit + ["SMTPUTF8"] * letter.utf8
