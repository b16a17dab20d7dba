"""swaks, over SMTP and LMTP. It has neither BODY=8BITMIME nor SMTPUTF8: octets above 127 come undeclared."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.clients.door import PROTOCOLS, Door
from tests.clients.letters import EIGHT_BIT, LARGE, PLAIN, UTF8, Letter
from tests.needs import program


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_swaks(door: Door, tmp_path: Path, protocol: str) -> None:
    for letter in (PLAIN, EIGHT_BIT, LARGE):
        done = swaks(door, tmp_path, protocol, letter)
        assert done.returncode == 0, done.stdout
        door.arrived(letter, protocol)

    done = swaks(door, tmp_path, protocol, UTF8)
    assert done.returncode != 0
    assert "553 5.6.7" in done.stdout, "RFC 6531 §3.5: such an address needs SMTPUTF8"
    assert len(door.messages()) == 3


def swaks(door: Door, directory: Path, protocol: str, letter: Letter) -> subprocess.CompletedProcess[str]:
    """Send a letter; swaks prints the dialog, but not the message. It ends any file with one more line end."""
    file = directory / letter.name
    file.write_bytes(letter.unix.removesuffix(b"\n"))
    return subprocess.run(
        [
            *(program("swaks"), "--protocol", {"smtp": "ESMTP", "lmtp": "LMTP"}[protocol]),
            *("--server", "127.0.0.1", "--port", str(door.port(protocol)), "--helo", "client.example"),
            *("--from", letter.mail_from, "--to", ",".join(letter.rcpt_to)),
            *("--data", f"@{file}", "--suppress-data", "--timeout", "30"),
        ],
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=60,
    )
