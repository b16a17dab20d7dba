"""msmtp, over SMTP and LMTP. It has neither BODY=8BITMIME nor SMTPUTF8: octets above 127 come undeclared."""

from __future__ import annotations

import subprocess

import pytest

from tests.clients.door import PROTOCOLS, Door
from tests.clients.letters import EIGHT_BIT, LARGE, PLAIN, UTF8, Letter
from tests.needs import program


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_msmtp(door: Door, protocol: str) -> None:
    for letter in (PLAIN, EIGHT_BIT, LARGE):
        done = msmtp(door, protocol, letter)
        assert done.returncode == 0, done.stderr
        door.arrived(letter, protocol)

    done = msmtp(door, protocol, UTF8)
    assert done.returncode != 0
    assert b"553 5.6.7" in done.stderr, "RFC 6531 §3.5: such an address needs SMTPUTF8"
    assert len(door.messages()) == 3


def msmtp(door: Door, protocol: str, letter: Letter) -> subprocess.CompletedProcess[bytes]:
    """Send a letter, as a Unix program is given one. It pipelines MAIL, RCPT and DATA where that is offered."""
    return subprocess.run(
        [
            *(program("msmtp"), "--file=/dev/null", "--host=127.0.0.1", f"--port={door.port(protocol)}"),
            *(f"--protocol={protocol}", "--domain=client.example", "--timeout=30", "--tls=off", "--auth=off"),
            *("--set-from-header=off", "--set-date-header=off", "--set-msgid-header=off"),
            *(f"--from={letter.mail_from}", "--", *letter.rcpt_to),
        ],
        input=letter.unix,
        capture_output=True,
        timeout=60,
    )
