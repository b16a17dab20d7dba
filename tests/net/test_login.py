"""AUTH over the wire: what is offered when, the exchange with each kind of mechanism, and what a hook may answer."""

from __future__ import annotations

import base64
from contextlib import suppress
from typing import Any

import pytest

from mta_front.hooks import AuthRejected, Credentials, Defer, Hooks, Message, Reject, Session
from mta_front.smtp.scram import ScramKeys
from tests.net.live import live
from tests.smtp.sasl_talk import ScramClient, b64
from tests.smtp_talk import Talk

MESSAGE = b"Subject: x\r\n\r\nx\r\n"
KEYS = ScramKeys.of_password("secret", b"0123456789abcdef", 4096)


class Users(Hooks):
    """One user, whose password is "secret"."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def on_auth(self, credentials: Credentials, session: Session) -> Any:
        if credentials.username == "broken":
            raise RuntimeError("the database is away")
        if credentials.username == "gone":
            raise Reject(535, "5.7.8", "Account suspended")
        if credentials.username == "busy":
            raise Defer(454, "4.7.0", "Later")
        if credentials.access_token:
            if credentials.access_token != "token":
                raise AuthRejected(data={"status": "401", "schemes": "bearer"})
            return {"name": credentials.username}
        if credentials.method.startswith("SCRAM"):
            known = credentials.scram(KEYS)
        else:
            known = credentials.validate_password("secret")
        return {"name": credentials.username} if known and credentials.username == "user" else None

    def on_data(self, message: Message, session: Session) -> None:
        self.seen.append((session.user, session.transmission_type))


METHODS = ("PLAIN", "LOGIN", "CRAM-MD5", "XOAUTH2", "OAUTHBEARER", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS", "EXTERNAL")
OPEN: dict[str, Any] = {"auth_methods": METHODS, "allow_insecure_auth": True, "auth_optional": False}


def plain(name: str = "user", password: str = "secret") -> str:
    return "AUTH PLAIN " + b64(f"\0{name}\0{password}")


def test_a_login_opens_the_way_for_mail() -> None:
    hooks = Users()
    with live(hooks, **OPEN) as server, Talk(server.address) as client:
        assert "AUTH PLAIN LOGIN CRAM-MD5 XOAUTH2 OAUTHBEARER SCRAM-SHA-256" in client.greeting().lines
        client.expect("MAIL FROM:<a@b.example>", 530)
        assert str(client.command(plain())) == "235 2.7.0 Authentication successful"
        assert client.send(MESSAGE).code == 250
        assert not any(line.startswith("AUTH") for line in client.expect("EHLO client.example", 250).lines)
        client.expect(plain(), 503)
    assert hooks.seen == [({"name": "user"}, "ESMTPA")]


@pytest.mark.parametrize(
    ("command", "lines", "code"),
    [
        ("AUTH PLAIN", [b64("\0user\0secret")], 235),
        ("AUTH LOGIN", [b64("user"), b64("secret")], 235),
        ("AUTH LOGIN " + b64("user"), [b64("secret")], 235),
        ("auth plain " + b64("\0user\0wrong"), [], 535),
        ("AUTH PLAIN =", [], 501),
        ("AUTH PLAIN not*base64", [], 501),
        ("AUTH LOGIN", ["*"], 501),
        ("AUTH LOGIN", [b64("user"), "!"], 501),
        ("AUTH CRAM-MD5 " + b64("user"), [], 501),
        ("AUTH", [], 501),
        ("AUTH PLAIN a b", [], 501),
        ("AUTH NTLM", [], 504),
        ("AUTH EXTERNAL", [], 504),
        ("AUTH SCRAM-SHA-256-PLUS", [], 504),
        ("AUTH XOAUTH2 " + b64("user=user\1auth=Bearer token\1\1"), [], 235),
        ("AUTH XOAUTH2 " + b64("user=user\1auth=Bearer stale\1\1"), [""], 535),
        ("AUTH OAUTHBEARER " + b64("n,a=user,\1auth=Bearer stale\1\1"), [b64("\1")], 535),
        (plain("gone"), [], 535),
        (plain("busy"), [], 454),
        (plain("broken"), [], 454),
        ("AUTH PLAIN " + "A" * 12_264 + "A" * 20, [], 500),
        ("AUTH LOGIN", ["A" * 12_288], 500),
    ],
)
def test_how_an_exchange_ends_and_that_the_session_goes_on(command: str, lines: list[str], code: int) -> None:
    with live(Users(), **OPEN) as server, Talk(server.address) as client:
        client.greeting()
        answer = client.command(command)
        for line in lines:
            assert answer.code == 334, answer
            answer = client.command(line)
        assert answer.code == code, answer
        client.expect("NOOP", 250)
        client.expect("MAIL FROM:<a@b.example>", 250 if code == 235 else 530)


def test_the_error_challenge_of_a_token_says_why() -> None:
    with live(Users(), **OPEN) as server, Talk(server.address) as client:
        client.greeting()
        answer = client.command("AUTH XOAUTH2 " + b64("user=user\1auth=Bearer stale\1\1"))
        assert base64.b64decode(answer.text) == b'{"status":"401","schemes":"bearer"}'


@pytest.mark.parametrize(("password", "code"), [("secret", 235), ("wrong", 535)])
def test_scram(password: str, code: int) -> None:
    with live(Users(), **OPEN) as server, Talk(server.address) as client:
        client.greeting()
        scram = ScramClient(password)
        answer = client.command("AUTH SCRAM-SHA-256 " + b64(scram.first()))
        assert answer.code == 334
        answer = client.command(b64(scram.final(base64.b64decode(answer.text))))
        if code == 235:
            assert answer.code == 334
            assert base64.b64decode(answer.text).startswith(b"v=")
            answer = client.command("")
        assert answer.code == code


@pytest.mark.parametrize("line", ["*", "!", "A" * 12_288])
def test_a_client_that_gives_up_in_a_scram_exchange_is_not_logged_in_though_the_hook_swallows_it(line: str) -> None:
    class Careless(Hooks):
        def on_auth(self, credentials: Credentials, session: Session) -> str:
            with suppress(Exception):
                credentials.scram(KEYS)
            return "user"

    with live(Careless(), **OPEN) as server, Talk(server.address) as client:
        client.greeting()
        client.expect("AUTH SCRAM-SHA-256 " + b64(ScramClient("secret").first()), 334)
        assert client.command(line).code in (500, 501)
        client.expect("MAIL FROM:<a@b.example>", 530)


def test_a_hook_that_says_yes_to_scram_without_proof_is_a_bug_and_nobody_is_logged_in() -> None:
    class Blind(Hooks):
        def on_auth(self, credentials: Credentials, session: Session) -> str:
            return "user"

    with live(Blind(), **OPEN) as server, Talk(server.address) as client:
        client.greeting()
        client.expect("AUTH SCRAM-SHA-256 " + b64(ScramClient("secret").first()), 454)
        client.expect("MAIL FROM:<a@b.example>", 530)
        assert len(server.noted.faults) == 1


def test_without_a_hook_nobody_logs_in() -> None:
    with live(Hooks(), **OPEN) as server, Talk(server.address) as client:
        client.greeting()
        client.expect(plain(), 535)


def test_passwords_do_not_cross_the_network_in_clear() -> None:
    with live(Users(), auth_optional=False) as server, Talk(server.address) as client:
        assert not any(line.startswith("AUTH") for line in client.greeting().lines)
        assert str(client.command(plain())).startswith("538 5.7.11")


def test_auth_has_its_place() -> None:
    with live(Users(), **OPEN | {"auth_optional": True}) as server, Talk(server.address) as client:
        assert client.reply().code == 220
        client.expect(plain(), 503)  # RFC 4954 §4: after EHLO
        client.expect("EHLO client.example", 250)
        client.expect("MAIL FROM:<a@b.example>", 250)
        client.expect(plain(), 503)  # … and not within a transaction
        client.expect("RSET", 250)
        client.expect(plain(), 235)
    with live(Users(), **OPEN | {"disabled_commands": ["AUTH"]}) as server, Talk(server.address) as client:
        assert not any(line.startswith("AUTH") for line in client.greeting().lines)
        client.expect(plain(), 502)


def test_logins_are_no_commands_without_a_login() -> None:
    with live(Users(), **OPEN, max_unauthenticated_commands=2) as server, Talk(server.address) as client:
        client.greeting()
        for _ in range(5):
            client.expect(plain(password="wrong"), 535)
        client.expect(plain(), 235)
        client.expect("NOOP", 250)
        client.expect("NOOP", 250)


def test_a_client_that_goes_away_in_the_middle_is_no_fault() -> None:
    with live(Users(), **OPEN) as server:
        with Talk(server.address) as client:
            client.greeting()
            client.expect("AUTH SCRAM-SHA-256 " + b64(ScramClient("secret").first()), 334)
        with Talk(server.address) as client:
            client.greeting()
            client.expect("AUTH LOGIN", 334)
        with Talk(server.address) as client:
            client.greeting()
            client.expect(plain(), 235)
        assert server.noted.faults == []


def test_a_response_has_one_time_however_it_drips() -> None:
    with live(Users(), **OPEN, socket_timeout_s=1.0) as server, Talk(server.address) as client:
        client.greeting()
        client.expect("AUTH LOGIN", 334)
        assert str(client.reply(5)).startswith("421 4.4.2")
        client.ended()


def test_lmtp_has_it_too() -> None:
    hooks = Users()
    with live(hooks, **OPEN, lmtp=True) as server, Talk(server.address) as client:
        client.greeting(verb="LHLO")
        client.expect(plain(), 235)
        assert client.send(MESSAGE).code == 250
    assert hooks.seen == [({"name": "user"}, "LMTPA")]
