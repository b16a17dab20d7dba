"""How a connection to a next hop begins: STARTTLS and what may come with it, logins and who may have the password."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import pytest

from mta_front.smtp.client import ClientConnection
from mta_front.smtp.clientopening import Plan
from mta_front.smtp.saslclient import CLIENT_METHODS, Login
from mta_front.smtp.scram import Conversation, ScramKeys, parse_client_first
from tests.smtp.client_dialogs import bytewise, whole

TLS = "<handshake>"
OFFER = "250-hop\r\n250 STARTTLS"
HELLO = ["220 hop", "EHLO me.example"]
LOGIN = Login("user", "pässword", CLIENT_METHODS)
LONG = Login("user", "t" * 600, ("XOAUTH2",))


def b64(text: str | bytes) -> str:
    return base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


@dataclass
class Beginning:
    """`turns`: what is heard and what is said to that, alternately; TLS stands for what is said in the handshake."""

    turns: list[str]
    plan: Plan = field(default_factory=Plan)
    failure: str = ""  # or its beginning; else it is ready for mail
    lmtp: bool = False
    secure: bool = False
    binding: bytes | None = None


MAY, MUST = Plan("may"), Plan("must")

BEGINNINGS = {
    "may: what offers STARTTLS gets it, and is asked anew what it offers": Beginning(
        [*HELLO, "250-hop\r\n250-AUTH PLAIN\r\n250 STARTTLS", "STARTTLS", "220 go", TLS, "", "EHLO me.example",
         "250-hop\r\n250 SIZE 7", ""],
        MAY,
    ),
    "LMTP too": Beginning(
        ["220 hop", "LHLO me.example", OFFER, "STARTTLS", "220 go", TLS, "", "LHLO me.example",
         "250 hop", ""],
        MAY, lmtp=True,
    ),
    "may: who does not offer it gets mail in clear": Beginning([*HELLO, "250 hop", ""], MAY),
    "may: also who has no EHLO": Beginning([*HELLO, "500 what", "HELO me.example", "250 hop", ""], MAY),
    "may: also who offers it and refuses": Beginning([*HELLO, OFFER, "STARTTLS", "454 later", ""], MAY),
    "none: it is not asked for": Beginning([*HELLO, OFFER, ""]),
    "must: who does not offer it gets nothing": Beginning([*HELLO, "250 hop", ""], MUST, failure="4.7.4 TLS is"),
    "must: nor who has no EHLO": Beginning(
        [*HELLO, "502 what", "HELO me.example", "250 hop", ""], MUST, failure="4.7.4 TLS is required"
    ),
    "must: nor who refuses": Beginning(
        [*HELLO, OFFER, "STARTTLS", "454 later", ""], MUST, failure="4.7.4 TLS is required, and"
    ),
    "over TLS from the first octet there is no STARTTLS": Beginning(
        [*HELLO, OFFER, ""], MUST, secure=True
    ),
    "an answer smuggled in behind the 220 (CVE-2011-0411)": Beginning(
        [*HELLO, OFFER, "STARTTLS", "220 go\r\n250 hop", ""], MUST,
        failure="protocol error: input between",
    ),
    "and only a part of one": Beginning(
        [*HELLO, OFFER, "STARTTLS", "220 go\r\n250 ho", ""], MAY, failure="protocol error: input between"
    ),
    "PLAIN": Beginning(
        [*HELLO, "250-hop\r\n250 AUTH LOGIN PLAIN", f"AUTH PLAIN {b64(chr(0) + 'user' + chr(0) + 'pässword')}",
         "235 ok", ""],
        Plan(login=LOGIN), secure=True,
    ),
    "LOGIN": Beginning(
        [*HELLO, "250-hop\r\n250 AUTH=LOGIN", "AUTH LOGIN", f"334 {b64('Username:')}", b64("user"),
         f"334 {b64('Password:')}", b64("pässword"), "235 ok", ""],
        Plan(login=LOGIN), secure=True,
    ),
    "LOGIN that asks in clear words": Beginning(
        [*HELLO, "250-hop\r\n250 AUTH LOGIN", "AUTH LOGIN", "334 who?", b64("user"), "334 well?", b64("pässword"),
         "235 ok", ""],
        Plan(login=LOGIN), secure=True,
    ),
    "LOGIN that never ends": Beginning(
        [*HELLO, "250-hop\r\n250 AUTH LOGIN", "AUTH LOGIN", "334 ", b64("user"), "334 ", b64("pässword"), "334 ", ""],
        Plan(login=LOGIN), secure=True, failure="4.7.0 Cannot log in: LOGIN has no third",
    ),
    "XOAUTH2": Beginning(
        [*HELLO, "250-hop\r\n250 AUTH PLAIN XOAUTH2",
         f"AUTH XOAUTH2 {b64('user=user' + chr(1) + 'auth=Bearer pässword' + chr(1) * 2)}", "235 ok", ""],
        Plan(login=LOGIN), secure=True,
    ),
    "XOAUTH2 with a token that is too long for the first line, and an error": Beginning(
        [*HELLO, "250-hop\r\n250 AUTH XOAUTH2", "AUTH XOAUTH2", "334 ",
         b64("user=user\1auth=Bearer " + "t" * 600 + "\1\1"), f"334 {b64('{}')}", "", "535 5.7.8 no", ""],
        Plan(login=LONG), secure=True, failure="4.7.8 Cannot log in: 535 5.7.8 no",
    ),
    "a wrong password is tried again later, and no mail bounces for it": Beginning(
        [*HELLO, "250-hop\r\n250 AUTH PLAIN", f"AUTH PLAIN {b64(chr(0) + 'user' + chr(0) + 'pässword')}",
         "535 5.7.8 no", ""],
        Plan(login=LOGIN), secure=True, failure="4.7.8 Cannot log in: 535 5.7.8 no",
    ),
    "no password in clear": Beginning(
        [*HELLO, "250-hop\r\n250 AUTH PLAIN LOGIN XOAUTH2", ""], Plan("may", LOGIN), failure="4.7.0 Cannot log in:"
    ),
    "unless that is meant": Beginning(
        [*HELLO, "250-hop\r\n250 AUTH PLAIN", f"AUTH PLAIN {b64(chr(0) + 'u' + chr(0) + 'p')}", "235 ok", ""],
        Plan("may", Login("u", "p", CLIENT_METHODS, insecure=True)),
    ),
    "AUTH that was offered in clear only is not used": Beginning(
        [*HELLO, "250-hop\r\n250-AUTH PLAIN\r\n250 STARTTLS", "STARTTLS", "220 go", TLS, "", "EHLO me.example",
         "250 hop", ""],
        Plan("may", LOGIN), failure="4.7.0 Cannot log in: the next hop offers no AUTH",
    ),
    "SCRAM: a 235 without a proof is from somebody else": Beginning(
        [*HELLO, "250-hop\r\n250 AUTH SCRAM-SHA-256", f"AUTH SCRAM-SHA-256 {b64('n,,n=user,r=abc')}", "235 ok", ""],
        Plan(login=LOGIN, nonce="abc"), failure="4.7.0 Cannot log in: the next hop did not prove",
    ),
    "SCRAM: a nonce that is not ours": Beginning(
        [*HELLO, "250-hop\r\n250 AUTH SCRAM-SHA-256", f"AUTH SCRAM-SHA-256 {b64('n,,n=user,r=abc')}",
         f"334 {b64('r=abx1,s=QUJDREVGR0g=,i=4096')}", ""],
        Plan(login=LOGIN, nonce="abc"), failure="4.7.0 Cannot log in: its SCRAM nonce",
    ),
    "SCRAM: too little work": Beginning(
        [*HELLO, "250-hop\r\n250 AUTH SCRAM-SHA-256", f"AUTH SCRAM-SHA-256 {b64('n,,n=user,r=abc')}",
         f"334 {b64('r=abc1,s=QUJDREVGR0g=,i=1')}", ""],
        Plan(login=LOGIN, nonce="abc"), failure="4.7.0 Cannot log in: it asks for 1 iterations",
    ),
    "SCRAM: far too much work": Beginning(
        [*HELLO, "250-hop\r\n250 AUTH SCRAM-SHA-256", f"AUTH SCRAM-SHA-256 {b64('n,,n=user,r=abc')}",
         f"334 {b64('r=abc1,s=QUJDREVGR0g=,i=99999999')}", ""],
        Plan(login=LOGIN, nonce="abc"), failure="4.7.0 Cannot log in: it asks for 99999999",
    ),
    "SCRAM is bound to the channel where both can": Beginning(
        [*HELLO, "250-hop\r\n250 AUTH PLAIN SCRAM-SHA-256 SCRAM-SHA-256-PLUS",
         f"AUTH SCRAM-SHA-256-PLUS {b64('p=tls-exporter,,n=user,r=abc')}", "535 5.7.8 no", ""],
        Plan(login=LOGIN, nonce="abc"), failure="4.7.8", secure=True, binding=b"x" * 32,
    ),
    "and tells who hides that it could": Beginning(
        [*HELLO, "250-hop\r\n250 AUTH PLAIN SCRAM-SHA-256", f"AUTH SCRAM-SHA-256 {b64('y,,n=user,r=abc')}",
         "535 5.7.8 no", ""],
        Plan(login=LOGIN, nonce="abc"), failure="4.7.8", secure=True, binding=b"x" * 32,
    ),
}  # fmt: skip


@pytest.mark.parametrize("cut", [whole, bytewise])
@pytest.mark.parametrize("name", BEGINNINGS)
def test_a_beginning(name: str, cut: Callable[[bytes], Iterable[bytes]]) -> None:
    beginning = BEGINNINGS[name]
    client = ClientConnection("me.example", lmtp=beginning.lmtp, plan=beginning.plan)
    if beginning.secure:
        client.secured("verified", beginning.binding)
        assert client.data_to_send() == b""
    for heard, said in zip(beginning.turns[::2], beginning.turns[1::2], strict=True):
        if heard:
            for piece in cut(heard.encode() + (b"" if heard.endswith("250 ho") else b"\r\n")):
                client.receive(piece)
        if said == TLS:
            assert client.tls_wanted
            assert client.data_to_send() == b""
            client.secured("encrypted")
            assert not client.tls_wanted
        elif said or heard.startswith("334"):
            assert client.data_to_send().decode() == ("" if client.closed else said + "\r\n")
        else:
            assert client.data_to_send() == b""
    assert client.ready == (not beginning.failure), client.reason
    assert client.closed == bool(beginning.failure)
    assert client.reason.startswith(beginning.failure)
    assert "pässword" not in client.reason
    if client.ready:
        assert client.can_begin
        assert ("SIZE" in client.offer.extensions) == any("SIZE" in turn for turn in beginning.turns)


@pytest.mark.parametrize("binding", [None, b"x" * 32])
def test_scram_with_a_server_that_knows_the_password(binding: bytes | None) -> None:
    client = ClientConnection("me.example", plan=Plan(login=LOGIN, nonce="abc"))
    client.secured("verified", binding)
    client.receive(b"220 hop\r\n")
    client.receive(b"250-hop\r\n250 AUTH SCRAM-SHA-256 SCRAM-SHA-256-PLUS\r\n")
    keys = ScramKeys.of_password(LOGIN.password, b"salt" * 4, 4096)
    plus = binding is not None
    for offered in (keys, None):
        if offered:
            words = client.data_to_send().split()
            assert words[-2].decode() == ("SCRAM-SHA-256-PLUS" if plus else "SCRAM-SHA-256")
            first = parse_client_first(base64.b64decode(words[-1]).decode(), plus=plus, plus_offered=True)
            server = Conversation(first, "xyz", binding or b"")
            challenge: bytes | None = server.server_first(keys)
        else:
            challenge = server.server_final(base64.b64decode(client.data_to_send()), keys)
        assert challenge is not None
        client.receive(f"334 {b64(challenge)}\r\n".encode())
    assert client.data_to_send() == b"\r\n"
    client.receive(b"235 ok\r\n")
    assert client.ready


def test_scram_with_a_server_that_does_not() -> None:
    client = ClientConnection("me.example", plan=Plan(login=LOGIN, nonce="abc"))
    for said in (b"220 hop", b"250-hop\r\n250 AUTH SCRAM-SHA-256"):
        client.receive(said + b"\r\n")
    for challenge in ("r=abcx,s=QUJDREVGR0g=,i=4096", "v=" + b64(bytes(32))):
        client.receive(f"334 {b64(challenge)}\r\n".encode())
    assert client.reason == "4.7.0 Cannot log in: it does not know the password that it asks for"


def test_a_login_does_not_print_its_password() -> None:
    assert "pässword" not in repr(Plan(login=LOGIN))
