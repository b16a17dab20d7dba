"""The examples about logging in: each runs as a program, and smtplib logs in to it, over TLS."""

from __future__ import annotations

import base64
import json
import smtplib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.library.examples import MESSAGE, Running, running
from tests.library.securely import trusting_anybody, upgraded
from tests.smtp.sasl_talk import ScramClient, b64
from tests.smtp_talk import talk
from tests.wait import until


@contextmanager
def smtp(example: Running) -> Iterator[smtplib.SMTP]:
    """A client that has said STARTTLS."""
    with smtplib.SMTP(*example.address, timeout=20) as client:
        client.starttls(context=trusting_anybody())
        client.ehlo()
        yield client


def refused(client: smtplib.SMTP, name: str, password: str) -> str:
    """What a login that fails is answered."""
    with pytest.raises(smtplib.SMTPAuthenticationError) as caught:
        client.login(name, password)
    assert isinstance(caught.value.smtp_error, bytes)
    return f"{caught.value.smtp_code} {caught.value.smtp_error.decode()}"


def said(client: smtplib.SMTP, mail_from: str = "a@b.example") -> str:
    """What one message is answered."""
    client.mail(mail_from)
    client.rcpt("c@d.example")
    code, text = client.data(MESSAGE)
    return f"{code} {text.decode()}"


def test_login(tmp_path: Path) -> None:
    with running("login.py", tmp_path) as example:
        for method in ("PLAIN", "LOGIN"):
            with smtp(example) as client:
                assert client.esmtp_features["auth"].split() == ["PLAIN", "LOGIN"]
                client.esmtp_features["auth"] = method
                assert refused(client, "user", "wrong") == "535 5.7.8 Invalid credentials"
                assert refused(client, "nobody", "secret") == "535 5.7.8 Invalid credentials"
                client.login("user", "secret")
                client.sendmail("a@b.example", ["c@d.example"], MESSAGE)
        assert example.end() == ""


def test_user_object(tmp_path: Path) -> None:
    with running("user_object.py", tmp_path) as example:
        with smtp(example) as client:
            assert refused(client, "bob", "secret").startswith("535 ")
            client.login("alice", "secret")
            assert client.mail("bob@ours.example") == (553, b"5.7.1 You are alice@ours.example")
            left = 1000
            while left >= len(MESSAGE):
                left -= len(MESSAGE)
                assert said(client, "alice@ours.example") == f"250 2.0.0 {left} bytes are left"
            assert said(client, "alice@ours.example") == "552 5.2.2 Your quota is used up"
        assert example.end() == ""


def test_cram_md5(tmp_path: Path) -> None:
    with running("cram_md5.py", tmp_path) as example:
        with smtp(example) as client:
            assert client.esmtp_features["auth"].split() == ["CRAM-MD5"]
            assert refused(client, "user", "wrong").startswith("535 ")
            assert refused(client, "nobody", "").startswith("535 ")
            client.login("user", "secret")
            client.sendmail("a@b.example", ["c@d.example"], MESSAGE)
        assert example.end() == ""


def test_scram(tmp_path: Path) -> None:
    """Smtplib does not speak it: msmtp does (tests/clients), and a client written from the RFC."""
    with running("scram.py", tmp_path) as example:
        for name, password, code in (("user", "secret", 235), ("user", "wrong", 535), ("nobody", "x", 535)):
            with upgraded(example.address, trusting_anybody()) as client:
                scram = ScramClient(password, name=name)
                answer = client.expect("AUTH SCRAM-SHA-256 " + b64(scram.first()), 334)
                answer = client.command(b64(scram.final(base64.b64decode(answer.text))))
                if code == 235:
                    assert base64.b64decode(answer.text) == b"v=" + b64(scram.server_signature).encode()
                    answer = client.command("")
                assert answer.code == code
        assert example.end() == ""


def test_xoauth2(tmp_path: Path) -> None:
    challenges: list[bytes] = []

    def token(text: str) -> str:
        return f"user=user@example.com\1auth=Bearer {text}\1\1"

    def expired(challenge: bytes | None = None) -> str:
        if challenge is None:
            return token("ya29.old")
        challenges.append(challenge)
        return ""

    with running("xoauth2.py", tmp_path) as example:
        with smtp(example) as client:
            with pytest.raises(smtplib.SMTPAuthenticationError, match="Invalid token"):
                client.auth("XOAUTH2", expired)
            client.auth("XOAUTH2", lambda challenge=None: token("ya29.good"))
            client.sendmail("a@b.example", ["c@d.example"], MESSAGE)
        assert example.end() == ""
    [challenge] = challenges
    assert json.loads(challenge) == {"status": "401", "schemes": "bearer", "scope": "https://mail.example.com/"}


def test_auth_errors(tmp_path: Path) -> None:
    with running("auth_errors.py", tmp_path) as example:
        with smtp(example) as client:
            assert client.mail("a@b.example") == (530, b"5.7.0 Please log in before you send mail")
            client.esmtp_features["auth"] = "PLAIN"
            assert refused(client, "mallory", "secret") == "554 5.7.1 Account suspended"
            assert refused(client, "user", "wrong") == "535 5.7.8 Invalid username or password"
            assert refused(client, "busy", "secret") == "454 4.7.0 The directory is away, come again"
            client.login("user", "secret")
            client.sendmail("a@b.example", ["c@d.example"], MESSAGE)
        with talk(example.address) as impatient:
            assert [impatient.command("NOOP").code for _ in range(11)] == [250] * 10 + [421]
        assert example.end() == ""


def test_failed_logins(tmp_path: Path) -> None:
    with running("failed_logins.py", tmp_path) as example:
        with smtp(example) as client:
            client.esmtp_features["auth"] = "PLAIN"
            client.login("user", "secret")
        for _ in range(5):
            with smtp(example) as client:
                client.esmtp_features["auth"] = "PLAIN"
                assert refused(client, "user", "guess") == "535 5.7.8 Invalid credentials"
        with upgraded(example.address, trusting_anybody()) as sent_away:
            answer = sent_away.command("AUTH PLAIN " + b64("\0user\0secret"))
            assert str(answer) == "421 4.7.0 Too many failed logins, come again later"
            sent_away.ended()

        def is_let_in() -> bool:
            with upgraded(example.address, trusting_anybody()) as client:
                return client.command("AUTH PLAIN " + b64("\0user\0secret")).code == 235

        until(is_let_in, message="a second later all is well", every_s=0.1)
        assert example.end() == ""


def test_several_methods(tmp_path: Path) -> None:
    with running("several_methods.py", tmp_path) as example:
        for method in ("PLAIN", "LOGIN", "CRAM-MD5"):
            with smtp(example) as client:
                client.esmtp_features["auth"] = method
                assert refused(client, "user", "wrong").startswith("535 ")
                client.login("user", "secret")
                assert said(client) == f"250 2.0.0 taken from user, by {method}"
        with smtp(example) as client:
            client.auth("XOAUTH2", lambda challenge=None: "user=user\1auth=Bearer ya29.good\1\1")
            assert said(client) == "250 2.0.0 taken from user, by XOAUTH2"
        with upgraded(example.address, trusting_anybody()) as talking:
            scram = ScramClient("secret")
            answer = talking.expect("AUTH SCRAM-SHA-256 " + b64(scram.first()), 334)
            talking.expect(b64(scram.final(base64.b64decode(answer.text))), 334)
            talking.expect("", 235)
            assert talking.send(MESSAGE).text == "2.0.0 taken from user, by SCRAM-SHA-256"
        assert example.end() == ""


def test_optional_login(tmp_path: Path) -> None:
    with running("optional_login.py", tmp_path) as example:
        with smtp(example) as client:
            assert client.sendmail("a@b.example", ["bob@ours.example"], MESSAGE) == {}
            with pytest.raises(smtplib.SMTPRecipientsRefused, match="Log in to send to others"):
                client.sendmail("a@b.example", ["c@d.example"], MESSAGE)
            client.login("user", "secret")
            assert client.sendmail("a@b.example", ["c@d.example"], MESSAGE) == {}
        assert example.end() == ""
