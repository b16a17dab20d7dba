"""Logging in: what is offered, what `on_auth` is given, what it may answer, and what becomes of the user."""

from __future__ import annotations

import base64
import hmac
import json
import smtplib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mta_front import AuthRejected, Credentials, Defer, Message, Reject, ScramKeys, Session, decoy_keys
from mta_front.smtp.sasl import MECHANISMS
from tests.library.securely import secured, starttls, trusting, trusting_anybody, upgraded
from tests.library.served import BODY, served
from tests.smtp.sasl_talk import ScramClient, b64
from tests.smtp_talk import Talk
from tests.tls.authority import Authority, Pair
from tests.wait import until

OPEN: dict[str, Any] = {"auth_optional": False, "allow_insecure_auth": True}
"""Logins are needed, and TLS is not: most of these tests are about something else."""


def plain(name: str = "user", password: str = "secret", authzid: str = "") -> str:
    """AUTH PLAIN with these."""
    return "AUTH PLAIN " + b64(f"{authzid}\0{name}\0{password}")


def anybody(credentials: Credentials, session: Session) -> str:
    """Lets everybody in who proves to know "secret"; a user is text."""
    if not credentials.validate_password("secret"):
        raise Reject("Invalid credentials")
    return credentials.username


def offered(lines: tuple[str, ...]) -> list[str]:
    """The mechanisms in an answer to EHLO."""
    return [word for line in lines for word in line.split()[1:] if line.split()[0] == "AUTH"]


# -- configuration ---------------------------------------------------------------------------------------------------


@pytest.mark.seed("configuration: authMethods")
def test_the_mechanisms_offered_are_those_of_auth_methods() -> None:
    with served(auth_optional=False, on_auth=anybody) as server, upgraded(server.address, trusting_anybody()) as client:
        assert offered(client.expect("EHLO me.example", 250).lines) == ["PLAIN", "LOGIN"]
        client.expect("AUTH CRAM-MD5", 504)
        client.expect("AUTH NTLM", 504)
        client.expect(plain(), 235)
    some = {"auth_methods": ["cram-md5", "XOAuth2"], **OPEN}
    with served(**some, on_auth=anybody) as server, Talk(server.address) as client:
        assert offered(client.greeting().lines) == ["CRAM-MD5", "XOAUTH2"]
        client.expect(plain(), 504)
    with served(auth_methods=[], **OPEN) as server, Talk(server.address) as client:
        assert offered(client.greeting().lines) == []


@pytest.mark.seed("configuration: authMethods")
def test_each_mechanism_there_is_can_be_named() -> None:
    """What needs TLS or a certificate is offered to who has one."""
    with served(**OPEN, auth_methods=MECHANISMS) as server, Talk(server.address) as client:
        bare = offered(client.greeting().lines)
        starttls(client, trusting_anybody())
        secure = offered(client.expect("EHLO me.example", 250).lines)
    assert set(MECHANISMS) - set(bare) == {"EXTERNAL", "SCRAM-SHA-256-PLUS"}
    assert set(MECHANISMS) - set(secure) == {"EXTERNAL"}


@pytest.mark.seed("configuration: allowInsecureAuth")
def test_without_tls_nobody_logs_in_unless_it_is_allowed() -> None:
    with served(auth_optional=False, on_auth=anybody) as server, Talk(server.address) as client:
        assert offered(client.greeting().lines) == []
        assert client.command(plain()).code == 538
        client.expect("MAIL FROM:<a@b.example>", 530)
        starttls(client, trusting_anybody())
        client.expect(plain(), 235)
        assert client.send(BODY).code == 250
    with served(**OPEN, on_auth=anybody) as server, Talk(server.address) as client:
        assert offered(client.greeting().lines) == ["PLAIN", "LOGIN"]
        client.expect(plain(), 235)


@pytest.mark.seed("configuration: authOptional", "callback: onAuth")
def test_where_a_login_is_optional_it_still_counts() -> None:
    users: list[Any] = []

    def keep(message: Message, session: Session) -> None:
        users.append(session.user)

    given: dict[str, Any] = {**OPEN, "auth_optional": True, "on_auth": anybody, "on_data": keep}
    with served(**given) as server, Talk(server.address) as client:
        client.greeting()
        assert client.send(BODY).code == 250
        client.expect(plain(), 235)
        assert client.send(BODY).code == 250
    assert users == [None, "user"]


@pytest.mark.seed("callback: onAuth", "configuration: authOptional")
@pytest.mark.parametrize("method", sorted(set(MECHANISMS) - {"EXTERNAL", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"}))
def test_without_on_auth_each_login_fails(method: str) -> None:
    answers = {
        "PLAIN": ["\0user\0secret"],
        "LOGIN": ["user", "secret"],
        "CRAM-MD5": ["user 0123456789abcdef0123456789abcdef"],
        "XOAUTH2": ["user=user\1auth=Bearer token\1\1"],
        "OAUTHBEARER": ["n,,\1auth=Bearer token\1\1", "\1"],
    }
    with served(**OPEN, auth_methods=MECHANISMS) as server, Talk(server.address) as client:
        client.greeting()
        answer = client.command(f"AUTH {method}")
        for text in answers[method]:
            assert answer.code == 334
            answer = client.command(b64(text))
        assert str(answer) == "535 5.7.8 Authentication credentials invalid"


@pytest.mark.seed("configuration: maxAllowedUnauthenticatedCommands")
def test_after_a_login_commands_are_not_counted() -> None:
    with served(**OPEN, max_unauthenticated_commands=2, on_auth=anybody) as server, Talk(server.address) as client:
        client.greeting()
        client.expect(plain(), 235)
        for _ in range(10):
            client.expect("NOOP", 250)


# -- what on_auth is given -------------------------------------------------------------------------------------------


class Seeing:
    """An `on_auth` that notes what it is given, and lets everybody in."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []

    def __call__(self, credentials: Credentials, session: Session) -> str:
        names = ("method", "username", "password", "access_token", "challenge", "challenge_response", "authzid")
        self.seen.append({name: getattr(credentials, name) for name in names if getattr(credentials, name)})
        return "somebody"


@pytest.mark.seed("auth: method", "auth: username", "auth: password", "callback: onAuth")
@pytest.mark.parametrize("blocking", [False, True])
def test_plain_and_login(blocking: bool) -> None:
    look = Seeing()
    with served(**OPEN, on_auth=look, blocking_hooks=blocking) as server:
        with Talk(server.address) as client:
            client.greeting()
            client.expect(plain("user", "pässword", "boss"), 235)
        with Talk(server.address) as client:
            client.greeting()
            assert client.expect("AUTH LOGIN", 334).text == b64("Username:")
            assert client.expect(b64("user"), 334).text == b64("Password:")
            client.expect(b64("secret"), 235)
    assert look.seen == [
        {"method": "PLAIN", "username": "user", "password": "pässword", "authzid": "boss"},
        {"method": "LOGIN", "username": "user", "password": "secret"},
    ]


@pytest.mark.seed(
    "auth: method", "auth: username", "auth: challenge", "auth: challengeResponse", "auth: validatePassword"
)
@pytest.mark.parametrize("blocking", [False, True])
@pytest.mark.parametrize("password", ["secret", "wrong"])
def test_cram_md5(blocking: bool, password: str) -> None:
    look = Seeing()

    def judge(credentials: Credentials, session: Session) -> str | None:
        look(credentials, session)
        return credentials.username if credentials.validate_password("secret") else None

    given = {"auth_methods": ["CRAM-MD5"], "blocking_hooks": blocking, **OPEN}
    with served(**given, on_auth=judge) as server, Talk(server.address) as client:
        client.greeting()
        challenge = base64.b64decode(client.expect("AUTH CRAM-MD5", 334).text)
        digest = hmac.new(password.encode(), challenge, "md5").hexdigest()
        client.expect(b64(f"user {digest}"), 235 if password == "secret" else 535)
    [seen] = look.seen
    assert seen == {
        "method": "CRAM-MD5", "username": "user", "challenge": challenge.decode(), "challenge_response": digest
    }  # fmt: skip


@pytest.mark.seed("auth: method", "auth: username", "auth: accessToken")
def test_xoauth2() -> None:
    look = Seeing()
    with served(**OPEN, auth_methods=["XOAUTH2"], on_auth=look) as server, Talk(server.address) as client:
        client.greeting()
        client.expect("AUTH XOAUTH2 " + b64("user=user@ours.example\1auth=Bearer ya29.token\1\1"), 235)
    assert look.seen == [{"method": "XOAUTH2", "username": "user@ours.example", "access_token": "ya29.token"}]


@pytest.mark.parametrize("blocking", [False, True])
@pytest.mark.parametrize(("name", "password", "code"), [("user", "secret", 235), ("user", "no", 535), ("x", "y", 535)])
def test_scram_with_keys_in_place_of_a_password(blocking: bool, name: str, password: str, code: int) -> None:
    keys = {"user": ScramKeys.of_password("secret", b"0123456789abcdef", 4096)}

    def judge(credentials: Credentials, session: Session) -> str | None:
        known = keys.get(credentials.username) or decoy_keys(b"a secret of ours", credentials.username, 4096)
        return credentials.username if credentials.scram(known) else None

    given = {"auth_methods": ["SCRAM-SHA-256"], "blocking_hooks": blocking, **OPEN}
    with served(**given, on_auth=judge) as server, Talk(server.address) as client:
        client.greeting()
        scram = ScramClient(password, name=name)
        answer = client.expect("AUTH SCRAM-SHA-256 " + b64(scram.first()), 334)
        answer = client.command(b64(scram.final(base64.b64decode(answer.text))))
        if answer.code == 334:
            answer = client.command("")
        assert answer.code == code


@pytest.mark.parametrize("blocking", [False, True])
@pytest.mark.parametrize("leaves", [False, True])
def test_a_client_that_gives_up_in_the_middle_of_scram(blocking: bool, leaves: bool) -> None:
    """What `scram` raises then passes through the hook and is nobody's bug."""
    heard: list[BaseException] = []
    raised: list[BaseException] = []

    def judge(credentials: Credentials, session: Session) -> str | None:
        try:
            return credentials.username if credentials.scram(decoy_keys(b"ours", "user", 4096)) else None
        except ConnectionError as error:
            raised.append(error)
            raise

    given = {"auth_methods": ["SCRAM-SHA-256"], "blocking_hooks": blocking, **OPEN}
    with served(**given, on_auth=judge, on_error=lambda error, session: heard.append(error)) as server:
        with Talk(server.address) as client:
            client.greeting()
            client.expect("AUTH SCRAM-SHA-256 " + b64(ScramClient("secret").first()), 334)
            if not leaves:
                client.expect("*", 501)
                client.expect("NOOP", 250)
        until(lambda: server.sessions == 0)
    assert len(raised) == 1
    assert heard == []


def test_external_is_a_client_certificate(
    authority: Authority, client_authority: Authority, pair: Pair, client_pair: Pair, tmp_path: Path
) -> None:
    seen: list[tuple[str, str]] = []

    def judge(credentials: Credentials, session: Session) -> str:
        seen.append((credentials.method, credentials.username))
        return credentials.username

    tls: dict[str, Any] = {"key": pair.key_pem, "cert": pair.chain_pem, "ca": client_authority.pem}
    given = {"auth_methods": ["EXTERNAL"], "request_cert": True, "reject_unauthorized": False, "secure": True, **tls}
    with served(auth_optional=False, on_auth=judge, **given) as server:
        context = trusting(authority, client=client_pair, directory=tmp_path)
        with secured(server.address, context) as client:
            client.expect("AUTH EXTERNAL =", 235)
            assert client.send(BODY).code == 250
        with secured(server.address, trusting(authority)) as client:
            client.expect("AUTH EXTERNAL =", 504)
    assert seen == [("EXTERNAL", "alice")]


# -- what on_auth may answer -----------------------------------------------------------------------------------------

ANSWERS: list[tuple[Any, str]] = [
    ("user", "235 2.7.0 Authentication successful"),
    ({"id": 7}, "235 2.7.0 Authentication successful"),
    (0, "235 2.7.0 Authentication successful"),
    (None, "535 5.7.8 Authentication credentials invalid"),
    (False, "535 5.7.8 Authentication credentials invalid"),
    (Reject("Invalid credentials"), "535 5.7.8 Invalid credentials"),
    (Reject(), "535 5.7.8 Authentication credentials invalid"),
    (Reject(554, "Account suspended"), "554 5.0.0 Account suspended"),
    (Reject(534, "5.7.9", "Use an app password"), "534 5.7.9 Use an app password"),
    (Defer(454, "4.7.0", "Directory is away"), "454 4.7.0 Directory is away"),
    (KeyError("a bug"), "454 4.7.0 Temporary authentication failure"),
]


@pytest.mark.seed("callback: onAuth", "callback: responseCode", "callback: error event")
@pytest.mark.parametrize("blocking", [False, True])
@pytest.mark.parametrize(("answer", "expected"), ANSWERS)
def test_what_on_auth_may_answer(answer: Any, expected: str, blocking: bool) -> None:
    heard: list[BaseException] = []

    def judge(credentials: Credentials, session: Session) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    given = {"on_error": lambda error, session: heard.append(error), "blocking_hooks": blocking, **OPEN}
    with served(**given, on_auth=judge) as server, Talk(server.address) as client:
        client.greeting()
        assert str(client.command(plain())) == expected
        client.expect("MAIL FROM:<a@b.example>", 250 if expected.startswith("235") else 530)
    assert heard == ([answer] if isinstance(answer, KeyError) else [])


@pytest.mark.seed("callback: onAuth", "auth: accessToken")
@pytest.mark.parametrize("blocking", [False, True])
def test_xoauth2_is_told_why(blocking: bool) -> None:
    why = {"status": "401", "schemes": "bearer", "scope": "mail"}

    def judge(credentials: Credentials, session: Session) -> str:
        if credentials.access_token != "good":
            raise AuthRejected("Token expired", data=why)
        return credentials.username

    given = {"auth_methods": ["XOAUTH2"], "blocking_hooks": blocking, **OPEN}
    with served(**given, on_auth=judge) as server, Talk(server.address) as client:
        client.greeting()
        answer = client.expect("AUTH XOAUTH2 " + b64("user=u@ours.example\1auth=Bearer old\1\1"), 334)
        assert json.loads(base64.b64decode(answer.text)) == why
        assert str(client.command("")) == "535 5.7.8 Token expired"
        client.expect("AUTH XOAUTH2 " + b64("user=u@ours.example\1auth=Bearer good\1\1"), 235)


@pytest.mark.seed("session: user", "session: transmissionType")
def test_the_user_is_any_object_and_stays_for_the_session() -> None:
    user = {"id": 123, "quota": 1_000_000}
    seen: list[Any] = []

    def note(*arguments: Any) -> None:
        session = arguments[-1]
        seen.append((session.user, session.transmission_type))

    hooks: dict[str, Any] = dict.fromkeys(("on_mail_from", "on_rcpt_to", "on_data", "on_close"), note)
    given: dict[str, Any] = {"auth_optional": False, "on_auth": lambda credentials, session: user, **hooks}
    with served(**given) as server:
        with upgraded(server.address, trusting_anybody()) as client:
            client.expect(plain(), 235)
            client.expect("EHLO me.example", 250)
            client.send(BODY)
            client.expect("RSET", 250)
        server.close(5)
    assert len(seen) == 4
    assert all(each is user for each, _ in seen)
    assert {transmission for _, transmission in seen} == {"ESMTPSA"}


# -- Python's own client ---------------------------------------------------------------------------------------------


@pytest.mark.seed("callback: onAuth")
@pytest.mark.parametrize("blocking", [False, True])
@pytest.mark.parametrize("method", ["PLAIN", "LOGIN", "CRAM-MD5"])
def test_smtplib_logs_in(method: str, blocking: bool) -> None:
    """In one plain thread, by STARTTLS; a wrong password first."""
    given: dict[str, Any] = {"auth_optional": False, "needs_upgrade": True, "auth_methods": [method]}
    with (
        served(**given, on_auth=anybody, blocking_hooks=blocking) as server,
        smtplib.SMTP(*server.address, timeout=10) as client,
    ):
        client.starttls(context=trusting_anybody())
        with pytest.raises(smtplib.SMTPAuthenticationError, match="Invalid credentials"):
            client.login("user", "wrong")
        client.login("user", "secret")
        assert client.sendmail("a@b.example", ["c@d.example"], BODY) == {}


def test_no_credentials_are_shown() -> None:
    """Not by repr(), and not in the traceback of a bug in the hook."""
    shown: list[str] = []

    def buggy(credentials: Credentials, session: Session) -> str:
        shown.append(repr(credentials) + str(credentials))
        raise KeyError(credentials.method)

    hear: Callable[..., None] = lambda error, session: shown.append(repr(error))  # noqa: E731
    with served(**OPEN, on_auth=buggy, on_error=hear) as server, Talk(server.address) as client:
        client.greeting()
        client.expect(plain("user", "hunter2"), 454)
    assert len(shown) == 2
    assert not any("hunter2" in text for text in shown)
