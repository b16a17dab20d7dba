"""`serve` without a settings file, in an empty directory: a message lies in the Maildir as it was sent."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.front import Front
from tests.ports import free_port
from tests.processes import clean_environment, python
from tests.smtp_talk import talk
from tests.wait import until

BODIES = {
    "dots": b"Subject: dots\r\n\r\n.\r\n..\r\n.leading\r\n...three\r\nend.\r\n.\r\n",
    "8-bit": "Subject: Grüße\r\n\r\nÜberall 日本語 €\r\n".encode() + bytes(range(0x80, 0x100)) + b"\r\n",
    "long lines": b"Subject: long\r\n\r\n"
    + b"x" * 998
    + b"\r\n"
    + b"y" * 100_000
    + b"\r\n.\r\n"
    + b"." * 70_000
    + b"\r\n",
    "no header": b"\r\nonly a body\r\n",
    "empty lines": b"Subject: empty\r\n\r\n\r\n\r\n\r\n",
    "nothing": b"",
}
TRACE = re.compile(
    rb"Received: from client\.example \(\[127\.0\.0\.1\]\)\r\n"
    rb"\tby \S+ .*with ESMTP id (\S+)\r\n"
    rb"\tfor <b@anywhere\.example>;\r\n"
    rb"\t\w{3}, +\d{1,2} \w{3} \d{4} \d\d:\d\d:\d\d [+-]\d{4}\r\n"
)


class Development(Front):
    """As `mta-front serve` starts it, but for its ports, which parallel tests must not share."""

    def __init__(self, directory: Path) -> None:
        listener = {"name": "mx", "bind": [f"127.0.0.1:{free_port()}"], "relay_domains": ["*"]}
        admin = f"127.0.0.1:{free_port()}"
        tree = {
            "server": {"data_dir": str(directory / "var")},
            "listeners": [listener],
            "admin": {"bind": admin},
        }
        environment = {"MTA_FRONT_LISTENERS": json.dumps([listener]), "MTA_FRONT_ADMIN__BIND": admin}
        super().__init__(directory, tree, environment)
        self.file.unlink()

    def command(self) -> list[str]:
        """No file."""
        return python("-m", "mta_front.cli", "serve")


@pytest.fixture
def development(tmp_path: Path) -> Development:
    """A running development server in a directory of its own."""
    directory = tmp_path / "empty"
    directory.mkdir()
    server = Development(directory)
    server.start()
    return server


def arrived(server: Front, queue_id: str) -> bytes:
    """The message with this id, from `var/mail/new`."""
    new = server.directory / "var" / "mail" / "new"

    def look() -> bytes:
        for path in new.glob("*"):
            content = path.read_bytes()
            if f"id {queue_id}".encode() in content[:600]:
                return content
        return b""

    return until(look, 10.0, f"{queue_id} lies in {new}")


def test_message_lies_in_the_maildir_byte_for_byte(development: Development) -> None:
    """RFC 5321 §4.5.2 (dots), §4.5.3.1.6 (lines of 1,000 and more), RFC 6152 (8-bit), §4.4 (the one header added)."""
    with talk(development.address) as session:
        for name, body in BODIES.items():
            answer = session.send(body, rcpt_to="b@anywhere.example")
            assert answer.code == 250, f"{name}: {answer}"
            queue_id = answer.text.rpartition("queued as ")[2].strip()
            content = arrived(development, queue_id)
            trace = TRACE.match(content[content.index(b"Received:") :])
            assert trace is not None, f"{name}: {content[:400]!r}"
            assert trace.group(1).decode() == queue_id
            assert content.endswith(trace.group() + body), f"{name}: changed on its way"
            before = content[: content.index(b"Received:")]
            assert re.fullmatch(rb"(Return-Path: [^\r]*\r\n|Delivered-To: [^\r]*\r\n)*", before), f"{name}: {before!r}"
        assert session.quit().code == 221
    development.await_empty_queue(5.0)


def test_printed_command_sends_a_message(development: Development) -> None:
    """At start it prints the addresses, where mail will appear, and a one-line command that sends a message."""
    log = development.log_text()
    assert f"127.0.0.1:{development.address[1]}" in log
    assert str(development.directory / "var" / "mail" / "new") in log or "var/mail/new" in log
    commands = [
        line.strip() for line in log.splitlines() if ("python" in line and "smtplib" in line) or "swaks" in line
    ]
    assert commands, f"no command that sends a message\n{log}"
    done = subprocess.run(
        commands[0], shell=True, cwd=development.directory, env=clean_environment(), capture_output=True, timeout=20
    )
    assert done.returncode == 0, f"{commands[0]}: {done.stderr.decode()}"
    new = development.directory / "var" / "mail" / "new"
    until(lambda: list(new.glob("*")), 10.0, f"the message lies in {new}")
