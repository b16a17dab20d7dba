"""nodemailer, over SMTP and LMTP, all on one pooled connection."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.clients.door import PROTOCOLS, Door
from tests.clients.letters import LETTERS
from tests.clients.nodemailer_run import nodemailer


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_nodemailer(door: Door, tmp_path: Path, protocol: str) -> None:
    letters = []
    for letter in LETTERS:
        file = tmp_path / letter.name
        file.write_bytes(letter.content)
        letters.append(
            {"file": str(file), "from": letter.mail_from, "to": letter.rcpt_to, "eightBit": letter.eight_bit}
        )
    job = {"port": door.port(protocol), "lmtp": protocol == "lmtp", "letters": letters}
    done = nodemailer(job)
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    for letter, answer in zip(LETTERS, answers, strict=True):
        assert (answer["accepted"], answer["rejected"]) == (list(letter.rcpt_to), [])
        assert answer["response"].startswith("250 2.0.0")
        door.arrived(letter, protocol)
        assert door.declared(letter) == {("8bitmime" if letter.eight_bit else "7bit", letter.utf8)}
