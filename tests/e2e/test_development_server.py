"""`serve` without a settings file, in an empty directory: a message lies in the Maildir as it was sent."""

from __future__ import annotations

import json
import re
import smtplib
import stat
import subprocess
from functools import partial
from pathlib import Path

import pytest

from mta_front.development import layer
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
    rb"Received: from client\.example \((?:localhost )?\[127\.0\.0\.1\]\)\r\n"
    rb"\tby \S+ .*with ESMTP id (\S+)\r\n"
    rb"\tfor <b@anywhere\.example>;\r\n"
    rb"\t\w{3}, +\d{1,2} \w{3} \d{4} \d\d:\d\d:\d\d [+-]\d{4}\r\n"
)


class Development(Front):
    """As `mta-front serve` starts it, but for its ports, which parallel tests must not share."""

    def __init__(self, directory: Path) -> None:
        listeners = [{**listener, "bind": [f"127.0.0.1:{free_port()}"]} for listener in layer("./var")["listeners"]]
        admin = f"127.0.0.1:{free_port()}"
        tree = {
            "server": {"data_dir": str(directory / "var")},
            "listeners": listeners,
            "admin": {"bind": admin},
        }
        environment = {"MTA_FRONT_LISTENERS": json.dumps(listeners), "MTA_FRONT_ADMIN__BIND": admin}
        super().__init__(directory, tree, environment)
        self.file.unlink()

    def command(self) -> list[str]:
        """No file."""
        return python("-m", "mta_front.cli", "serve")

    def port(self, name: str) -> int:
        """Of the listener with this name."""
        [bind] = next(listener["bind"] for listener in self.settings["listeners"] if listener["name"] == name)
        return int(bind.rpartition(":")[2])

    def printed_login(self, start: int = 1) -> tuple[str, str]:
        """User and password, as it printed them at its first, second … start."""
        wanted = re.compile(r"^  login +(\S+), password (\S+)$", re.MULTILINE)
        until(lambda: len(wanted.findall(self.log_text())) == start, 10.0, "a login is printed")
        user, password = wanted.findall(self.log_text())[-1]
        return user, password


@pytest.fixture
def development(tmp_path_factory: pytest.TempPathFactory) -> Development:
    """A running development server in a directory of its own. With a longer path its store's socket would move."""
    directory = tmp_path_factory.mktemp("dev")
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


def lies(directory: Path, count: int) -> bool:
    """Whether so many messages lie there."""
    return len(list(directory.glob("*"))) == count


def test_printed_commands_send_messages(development: Development) -> None:
    """At start it prints the addresses, where mail will appear, and commands that send a message: without a login on
    one port, with one on another.
    """
    log = development.log_text()
    for listener in development.settings["listeners"]:
        assert f"://{listener['bind'][0]}" in log
    assert "var/mail/new" in log
    commands = [line.strip() for line in log.splitlines() if "python" in line and "smtplib" in line]
    assert [
        str(development.port(name)) in command for name, command in zip(["mx", "submission"], commands, strict=True)
    ]
    new = development.directory / "var" / "mail" / "new"
    for number, command in enumerate(commands, 1):
        done = subprocess.run(
            command, shell=True, cwd=development.directory, env=clean_environment(), capture_output=True, timeout=20
        )
        assert done.returncode == 0, f"{command}: {done.stderr.decode()}"
        until(partial(lies, new, number), 10.0, f"message {number} lies in {new}")
    development.await_empty_queue(5.0)


def test_logins(development: Development) -> None:
    """Submission wants STARTTLS, then a login, or TLS from the start, then a login; nobody else comes in."""
    user, password = development.printed_login()
    message = "Subject: It works\r\n\r\nHello.\r\n"
    with smtplib.SMTP("127.0.0.1", development.port("submission"), timeout=20) as client:
        client.ehlo()
        assert client.mail("me@example.com")[0] == 530
        assert not client.has_extn("auth")
        client.starttls()
        client.ehlo()
        assert client.mail("me@example.com")[0] == 530
        with pytest.raises(smtplib.SMTPAuthenticationError, match="535"):
            client.login(user, "wrong")
        client.login(user, password)
        assert client.sendmail("me@example.com", "you@example.com", message) == {}
    with smtplib.SMTP_SSL("127.0.0.1", development.port("submissions"), timeout=20) as client:
        client.ehlo()
        assert client.mail("me@example.com")[0] == 530
        client.login(user, password)
        assert client.sendmail("me@example.com", "you@example.com", message) == {}
    with smtplib.LMTP("127.0.0.1", development.port("lmtp")) as client:
        assert client.sendmail("me@example.com", "you@example.com", message) == {}


def test_certificate_user_and_password_outlive_a_restart(development: Development) -> None:
    """Clients that were told them once go on working; only their owner may read them."""
    login = development.printed_login()
    kept = [development.data_dir / path for path in ("tls/development.pem", "auth/users", "auth/dev-password")]
    before = [path.read_bytes() for path in kept]
    assert {stat.S_IMODE(path.stat().st_mode) for path in kept} == {0o600}
    assert login[1].encode() not in before[1]
    development.terminate()
    development.start()
    assert [path.read_bytes() for path in kept] == before
    assert development.printed_login(2) == login
    with smtplib.SMTP_SSL("127.0.0.1", development.port("submissions"), timeout=20) as client:
        client.login(*login)
