"""Exim, over SMTP and LMTP, with CHUNKING (RFC 3030) and without."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.clients.door import Door
from tests.clients.exim import Exim
from tests.clients.letters import LETTERS


@pytest.mark.parametrize(("protocol", "chunking"), [("smtp", True), ("smtp", False), ("lmtp", True)])
def test_exim(door: Door, open_directory: Path, protocol: str, chunking: bool) -> None:
    """It puts its Received: before the message, and leaves the rest as it is. It has SMTPUTF8, not BODY=8BITMIME."""
    exim = Exim(open_directory, door.port(protocol), protocol, chunking=chunking)
    for letter in LETTERS:
        log = exim.send(letter)
        chunked = re.findall(r" [=-]> .*? (K )?C=\"250", log)
        assert chunked == ["K " if chunking else ""] * len(letter.rcpt_to), f"K: it was sent by BDAT\n{log}"
        door.arrived(letter, protocol, added=("Received",))
        assert {utf8 for _, utf8 in door.declared(letter)} == {letter.utf8}
