"""XCLIENT and XFORWARD: who may say them, what a session becomes, and what stays as it was."""

from __future__ import annotations

import ssl
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from mta_front.hooks import Address, Credentials, Defer, Hooks, Message, Reject, Session
from mta_front.proxybuild import build_v1
from mta_front.proxyproto import Endpoints
from mta_front.tls.certificates import self_signed
from mta_front.tls.contexts import load
from mta_front.tls.options import TlsOptions
from tests.net.behind import ADDRESS, BODY, CLIENTS, CONTEXTS, ELSEWHERE, HERE, OWN, V1, await_end, trusting
from tests.net.live import live
from tests.smtp_talk import Talk, talk
from tests.tls.authority import Authority

XCLIENT = "XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT"
XFORWARD = "XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE"
BOTH: dict[str, Any] = {"use_xclient": HERE, "use_xforward": HERE}


class Looking(Hooks):
    """Notes the session as each hook sees it. LOGIN: everybody but "nobody" (refused), "busy" and "broken"."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, Session]] = []
        self.credentials: list[Credentials] = []

    def on_connect(self, session: Session) -> None:
        self.seen.append(("connect", deepcopy(session)))

    def on_auth(self, credentials: Credentials, session: Session) -> str | None:
        self.seen.append(("auth", deepcopy(session)))
        self.credentials.append(credentials)
        match credentials.username:
            case "nobody":
                return None
            case "suspended":
                raise Reject(535, "5.7.8", "Suspended")
            case "busy":
                raise Defer(454, "4.7.0", "Later")
            case "broken":
                raise RuntimeError("the database is away")
        if credentials.method != "XCLIENT" and not credentials.validate_password("secret"):
            return None
        return credentials.username

    def on_mail_from(self, address: Address, session: Session) -> None:
        self.seen.append(("mail", deepcopy(session)))

    def on_data(self, message: Message, session: Session) -> None:
        message.read()
        self.seen.append(("data", deepcopy(session)))

    def last(self, hook: str) -> Session:
        return [session for name, session in self.seen if name == hook][-1]


def said(client: Talk) -> set[str]:
    """The lines of EHLO for some only."""
    return {line for line in client.expect("EHLO client.example", 250).lines if line.startswith("X")}


# -- who may ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("allowed", [True, HERE])
def test_it_is_offered_to_those_who_may(allowed: object) -> None:
    with live(Hooks(), use_xclient=allowed, use_xforward=allowed) as server, talk(server.address) as client:
        assert said(client) == {XCLIENT, XFORWARD}
    with live(Hooks(), use_xclient=allowed) as server, talk(server.address) as client:
        assert said(client) == {XCLIENT}
        assert str(client.command("XFORWARD NAME=x.example")).startswith("550 5.7.1 ")
    with live(Hooks(), use_xforward=allowed) as server, talk(server.address) as client:
        assert said(client) == {XFORWARD}
        assert str(client.command("XCLIENT NAME=x.example")).startswith("550 5.7.1 ")


def test_one_clients_offer_is_not_anothers() -> None:
    """Of two listeners' worth of clients on one set of options: EHLO's lines are kept, but not across clients."""
    allowed: dict[str, Any] = {"use_xclient": CLIENTS, "use_proxy": HERE}
    other = build_v1(Endpoints("203.0.113.7", 1, "198.51.100.2", 25))
    with live(Hooks(), **allowed) as server:
        for header, offered in [(V1, {XCLIENT}), (other, set()), (V1, {XCLIENT})]:
            with Talk(server.address) as client:
                client.raw(header)
                client.greeting()
                assert said(client) == offered


@pytest.mark.parametrize("allowed", [False, ELSEWHERE])
def test_nobody_else_may(allowed: object) -> None:
    hooks = Looking()
    with live(hooks, use_xclient=allowed, use_xforward=allowed) as server, talk(server.address) as client:
        assert said(client) == set()
        assert str(client.command(f"XCLIENT ADDR={ADDRESS} LOGIN=user")).startswith("550 5.7.1 ")
        assert str(client.command(f"XFORWARD ADDR={ADDRESS}")).startswith("550 5.7.1 ")
        assert client.send(BODY).code == 250
    session = hooks.last("data")
    assert (session.remote_address, session.user, session.x_client, session.x_forward) == ("127.0.0.1", None, {}, {})
    assert hooks.credentials == []


def test_who_may_not_learns_nothing_of_syntax_that_changes_that() -> None:
    with live(Hooks()) as server, talk(server.address) as client:
        client.expect("XCLIENT", 501)
        client.expect("XCLIENT NOPE=1", 501)
        client.expect("XCLIENT NAME=x.example", 550)


def test_a_command_that_is_switched_off_is_off_for_all() -> None:
    with live(Hooks(), disabled_commands=["XCLIENT"], **BOTH) as server, talk(server.address) as client:
        assert said(client) == {XFORWARD}
        assert client.command(f"XCLIENT ADDR={ADDRESS}").code == 502


def test_the_address_after_proxy_decides() -> None:
    with live(Hooks(), use_proxy=HERE, use_xclient=CLIENTS) as server, Talk(server.address) as client:
        client.raw(V1)
        client.greeting()
        assert said(client) == {XCLIENT}
        client.expect("XCLIENT ADDR=203.0.113.7", 220)
    with live(Hooks(), use_proxy=HERE, use_xclient=HERE) as server, Talk(server.address) as client:
        client.raw(V1)
        client.greeting()
        assert said(client) == set()
        client.expect("XCLIENT ADDR=203.0.113.7", 550)


@pytest.mark.parametrize("header", [V1, *OWN.values()], ids=["a client", *OWN])
def test_true_is_for_nobody_behind_a_proxy(header: bytes) -> None:
    """That its proxy is on this host says nothing of a client."""
    with live(Hooks(), use_proxy=HERE, use_xclient=True, use_xforward=True) as server, Talk(server.address) as client:
        client.raw(header)
        client.greeting()
        assert said(client) == set()
        client.expect("XCLIENT ADDR=203.0.113.7", 550)
        client.expect("XFORWARD ADDR=203.0.113.7", 550)


def test_it_is_judged_once() -> None:
    """What XCLIENT says gives nobody the right to say it, and takes it from nobody (DECISIONS W12)."""
    with live(Hooks(), use_xclient=HERE, xclient_trusts_addr=True) as server, talk(server.address) as client:
        client.expect(f"XCLIENT ADDR={ADDRESS}", 220)
        assert said(client) == {XCLIENT}
        client.expect("XCLIENT ADDR=192.0.2.2", 220)
    for trusts in (True, False):
        given: dict[str, Any] = {"use_xclient": HERE, "use_xforward": CLIENTS, "xclient_trusts_addr": trusts}
        with live(Hooks(), **given) as server, talk(server.address) as client:
            client.expect(f"XCLIENT ADDR={ADDRESS}", 220)
            assert said(client) == {XCLIENT}
            client.expect(f"XFORWARD ADDR={ADDRESS}", 550)


# -- what a session becomes ------------------------------------------------------------------------------------------


def test_the_session_is_the_named_clients() -> None:
    hooks = Looking()
    line = (
        "XCLIENT NAME=spike.client.example ADDR=192.0.2.1 PORT=4711 PROTO=ESMTP HELO=spike.client.example"
        " DESTADDR=198.51.100.2 DESTPORT=25"
    )
    with live(hooks, **BOTH) as server, talk(server.address) as client:
        client.expect(line, 220)
        client.expect("EHLO after.example", 250)
        assert client.send(BODY).code == 250
    session = hooks.last("data")
    assert (session.remote_address, session.remote_port) == ("192.0.2.1", 4711)
    assert (session.local_address, session.local_port) == ("198.51.100.2", 25)
    assert session.client_hostname == "spike.client.example"
    assert (session.host_name_appears_as, session.opening_command) == ("after.example", "EHLO")
    assert (session.transmission_type, session.user, session.trust_address) == ("ESMTP", None, "")
    assert session.x_client == {
        "NAME": "spike.client.example", "ADDR": "192.0.2.1", "PORT": "4711", "PROTO": "ESMTP",
        "HELO": "spike.client.example", "DESTADDR": "198.51.100.2", "DESTPORT": "25",
    }  # fmt: skip
    assert hooks.seen[0][1].remote_address == "127.0.0.1"
    assert [name for name, _ in hooks.seen] == ["connect", "connect", "mail", "data"]


@pytest.mark.parametrize(
    ("attributes", "address", "name"),
    [
        ("ADDR=IPV6:2001:DB8::1", "2001:db8::1", "[2001:db8::1]"),
        ("ADDR=192.0.2.1", "192.0.2.1", "[192.0.2.1]"),
        ("ADDR=192.0.2.1 NAME=[UNAVAILABLE]", "192.0.2.1", "[192.0.2.1]"),
        ("ADDR=192.0.2.1 NAME=[TEMPUNAVAIL]", "192.0.2.1", "[192.0.2.1]"),
        ("NAME=x.example", "127.0.0.1", "x.example"),
        ("ADDR=[UNAVAILABLE] NAME=[UNAVAILABLE]", "", "unknown"),
        ("ADDR=[TEMPUNAVAIL]", "", "unknown"),
        ("ADDR=[UNAVAILABLE] NAME=x.example", "", "x.example"),
    ],
)
def test_what_is_not_said_stays_and_what_is_unavailable_is_unknown(attributes: str, address: str, name: str) -> None:
    hooks = Looking()
    with live(hooks, use_xclient=HERE) as server, talk(server.address) as client:
        client.expect(f"XCLIENT {attributes}", 220)
        client.expect("EHLO after.example", 250)
        client.expect("MAIL FROM:<a@b.example>", 250)
    session = hooks.last("mail")
    assert (session.remote_address, session.client_hostname) == (address, name)
    assert session.x_client.get("NAME", name) in (name, None)


def test_it_begins_anew_with_the_banner() -> None:
    with live(Hooks(), use_xclient=HERE) as server, Talk(server.address) as client:
        banner = client.reply()
        client.expect("EHLO client.example", 250)
        assert client.command(f"XCLIENT ADDR={ADDRESS}") == banner
        client.expect("MAIL FROM:<a@b.example>", 503)
        client.expect("EHLO after.example", 250)
        assert client.send(BODY).code == 250


def test_it_may_come_before_ehlo_and_several_times() -> None:
    hooks = Looking()
    with live(hooks, use_xclient=HERE) as server, Talk(server.address) as client:
        assert client.reply().code == 220
        client.expect("XCLIENT ADDR=192.0.2.1", 220)
        client.expect("XCLIENT NAME=x.example PORT=7", 220)
        client.expect("EHLO after.example", 250)
        client.expect("MAIL FROM:<a@b.example>", 250)
    session = hooks.last("mail")
    assert (session.remote_address, session.remote_port, session.client_hostname) == ("192.0.2.1", 7, "x.example")
    assert session.x_client == {"ADDR": "192.0.2.1", "NAME": "x.example", "PORT": "7"}


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("command", [f"XCLIENT ADDR={ADDRESS}", f"XFORWARD ADDR={ADDRESS}"])
def test_it_is_not_for_the_middle_of_a_transaction(steps: int, command: str) -> None:
    hooks = Looking()
    with live(hooks, **BOTH) as server, talk(server.address) as client:
        for line in ("MAIL FROM:<a@b.example>", "RCPT TO:<c@d.example>")[:steps]:
            client.expect(line, 250)
        client.expect(command, 503)
        for line in ("RCPT TO:<c@d.example>", "DATA"):
            assert client.command(line).code in (250, 354)
        assert client.body(BODY).code == 250
        client.expect(command, 220 if command.startswith("XCLIENT") else 250)
    assert hooks.last("data").remote_address == "127.0.0.1"
    assert hooks.last("data").x_forward == {}


def test_nothing_may_be_sent_behind_it() -> None:
    """What follows would be said by another client than the one it was read from."""
    hooks = Looking()
    with live(hooks, use_xclient=HERE) as server, talk(server.address) as client:
        client.raw(f"XCLIENT ADDR={ADDRESS}\r\nEHLO x.example\r\n".encode())
        assert client.reply().code == 554
        assert client.ended()
    assert [session.remote_address for _, session in hooks.seen] == ["127.0.0.1"]


@pytest.mark.parametrize(
    ("raised", "answer"),
    [
        (Reject("Not you"), "554 5.7.1 Not you"),
        (Defer("Later"), "421 4.7.0 Later"),
        (RuntimeError("the list is away"), "451 4.3.0"),
    ],
)
@pytest.mark.parametrize("login", ["", " LOGIN=user"])
def test_the_named_client_is_asked_whether_it_may_come_in(raised: Exception, answer: str, login: str) -> None:
    """The answer depends on the outcome of access decisions (XCLIENT_README): its sender's are not the client's."""

    class Choosy(Looking):
        def on_connect(self, session: Session) -> None:
            super().on_connect(session)
            if session.remote_address == ADDRESS:
                raise raised

    hooks = Choosy()
    with live(hooks, use_xclient=HERE) as server:
        with talk(server.address) as client:
            client.expect("XCLIENT ADDR=203.0.113.7 NAME=x.example", 220)
            assert str(client.command(f"XCLIENT ADDR={ADDRESS}{login}")).startswith(answer)
            assert client.ended()
        await_end(server)
        assert (server.noted.opened, server.noted.closed) == (1, ["refused"])
    asked = [session for name, session in hooks.seen if name == "connect"]
    assert [session.remote_address for session in asked] == ["127.0.0.1", "203.0.113.7", ADDRESS]
    assert [session.client_hostname for session in asked[1:]] == ["x.example", f"[{ADDRESS}]"]
    assert [bool(session.x_client) for session in asked] == [False, True, True]
    assert asked[-1].user == ("user" if login else None)


def test_a_certificate_of_its_senders_is_not_the_clients(tmp_path: Path) -> None:
    """Whoever passes on what a client says could else log it in as itself."""
    authority = Authority()
    key, cert = self_signed("mx.ours.example")
    contexts = load(TlsOptions(key=key, cert=cert, ca=authority.pem, request_cert=True))
    given: dict[str, Any] = {"use_xclient": HERE, "auth_methods": ["EXTERNAL"], "tls": contexts.channel}
    hooks = Looking()
    with live(hooks, **given) as server, talk(server.address) as client:
        context = ssl.create_default_context(cadata=cert.decode())
        context.check_hostname = False
        key_file, cert_file = authority.issue("filter", client=True).files(tmp_path, "filter")
        context.load_cert_chain(cert_file, key_file)
        client.expect("STARTTLS", 220)
        client.secure(context)
        assert "AUTH EXTERNAL" in client.expect("EHLO filter.example", 250).lines
        client.expect(f"XCLIENT ADDR={ADDRESS}", 220)
        assert not any(line.startswith("AUTH") for line in client.expect("EHLO client.example", 250).lines)
        client.expect("AUTH EXTERNAL =", 504)
    assert hooks.credentials == []


def test_a_login_before_it_is_nobodys() -> None:
    hooks = Looking()
    given: dict[str, Any] = {"use_xclient": HERE, "allow_insecure_auth": True, "auth_optional": False}
    with live(hooks, **given) as server, talk(server.address) as client:
        client.expect("AUTH PLAIN AHVzZXIAc2VjcmV0", 235)
        client.expect("MAIL FROM:<a@b.example>", 250)
        client.expect("RSET", 250)
        client.expect(f"XCLIENT ADDR={ADDRESS}", 220)
        assert "AUTH PLAIN LOGIN" in client.expect("EHLO after.example", 250).lines
        client.expect("MAIL FROM:<a@b.example>", 530)
        client.expect("AUTH PLAIN AHVzZXIAc2VjcmV0", 235)
        client.expect("MAIL FROM:<a@b.example>", 250)


def test_tls_stays_and_what_needs_it_still_does() -> None:
    hooks = Looking()
    given: dict[str, Any] = {"use_xclient": HERE, "needs_upgrade": True, "tls": CONTEXTS.channel}
    with live(hooks, **given) as server, talk(server.address) as client:
        client.expect(f"XCLIENT ADDR={ADDRESS} LOGIN=user", 220)
        client.expect("EHLO after.example", 250)
        client.expect("MAIL FROM:<a@b.example>", 530)
        client.expect("STARTTLS", 220)
        client.secure(trusting())
        assert said(client) == {XCLIENT}
        client.expect("XCLIENT PORT=7", 220)
        assert "STARTTLS" not in client.expect("EHLO after.example", 250).lines
        client.expect("MAIL FROM:<a@b.example>", 250)
    session = hooks.last("mail")
    assert (session.secure, session.remote_address, session.remote_port) == (True, ADDRESS, 7)
    assert session.user is None  # what was said in clear is forgotten (RFC 3207 §4.2)


@pytest.mark.parametrize(
    ("exempt", "trusts", "code"),
    [(HERE, False, 550), (HERE, True, 550), (CLIENTS, False, 550), (CLIENTS, True, 250)],
)
def test_its_address_is_in_no_network_unless_trusted(exempt: object, trusts: bool, code: int) -> None:
    """Nor is the sender of XCLIENT from then on: it is not its own mail."""
    hooks = Looking()
    given: dict[str, Any] = {"bare_newline": "reject", "bare_newline_exempt": exempt, "use_xclient": HERE}
    with live(hooks, xclient_trusts_addr=trusts, **given) as server, talk(server.address) as client:
        client.expect(f"XCLIENT ADDR={ADDRESS}", 220)
        client.expect("EHLO after.example", 250)
        client.envelope("a@b.example", ["c@d.example"])
        client.raw(b"Subject: x\n\nx\r\n.\r\n")
        assert client.reply().code == code
    assert hooks.last("data").trust_address == (ADDRESS if trusts else "")


def test_without_an_address_trust_stays_where_it_was() -> None:
    hooks = Looking()
    with live(hooks, use_xclient=HERE) as server, talk(server.address) as client:
        client.expect("XCLIENT NAME=x.example", 220)
        client.expect("EHLO after.example", 250)
        client.expect("MAIL FROM:<a@b.example>", 250)
    assert hooks.last("mail").trust_address == "127.0.0.1"


BAD = [
    "XCLIENT", "XCLIENT ", "XCLIENT NOPE=x", "XCLIENT ADDR", "XCLIENT ADDR=", "XCLIENT ADDR=x", "XCLIENT ADDR=1.2.3",
    "XCLIENT PORT=65536", "XCLIENT PORT=+1", "XCLIENT NAME=x.example NAME=y.example", "XCLIENT PROTO=UUCP",
    "XCLIENT LOGIN=x+0D+0A", "XCLIENT LOGIN=x+00", "XCLIENT HELO=a+0Ab", "XCLIENT HELO=a+7F", "XCLIENT NAME=a+1B.x",
    "XCLIENT LOGIN=+C2+85", "XFORWARD NAME=a+0D+0Ab", "XFORWARD IDENT=a+00", "XFORWARD HELO=a+09b", "XFORWARD SOURCE=x",
]  # fmt: skip


@pytest.mark.parametrize("line", BAD)
def test_what_is_malformed_or_has_control_characters_changes_nothing(line: str) -> None:
    hooks = Looking()
    with live(hooks, **BOTH) as server, talk(server.address) as client:
        client.expect(line, 501)
        assert client.send(BODY).code == 250
    session = hooks.last("data")
    assert (session.remote_address, session.x_client, session.x_forward) == ("127.0.0.1", {}, {})


# -- LOGIN -----------------------------------------------------------------------------------------------------------

OPEN: dict[str, Any] = {"use_xclient": HERE, "auth_optional": False, "allow_insecure_auth": True}


def test_login_is_asked_about_and_makes_a_user() -> None:
    hooks = Looking()
    with live(hooks, **OPEN) as server, talk(server.address) as client:
        client.expect(f"XCLIENT ADDR={ADDRESS} LOGIN=user+2Btag", 220)
        offered = client.expect("EHLO after.example", 250).lines
        assert not any(line.startswith("AUTH") for line in offered)
        client.expect("AUTH PLAIN AHVzZXIAc2VjcmV0", 503)
        assert client.send(BODY).code == 250
    [credentials] = hooks.credentials
    assert (credentials.method, credentials.username, credentials.password) == ("XCLIENT", "user+tag", "")
    assert not credentials.validate_password("")
    assert hooks.last("auth").remote_address == ADDRESS
    session = hooks.last("data")
    assert (session.user, session.transmission_type) == ("user+tag", "ESMTPA")
    assert server.noted.logins == [("XCLIENT", 235)]


@pytest.mark.parametrize("login", ["LOGIN=[UNAVAILABLE]", "NAME=x.example"])
def test_without_a_login_nobody_is_asked_and_nobody_is_a_user(login: str) -> None:
    hooks = Looking()
    with live(hooks, **OPEN) as server, talk(server.address) as client:
        client.expect("XCLIENT LOGIN=user", 220)
        client.expect(f"XCLIENT {login}", 220)
        client.expect("EHLO after.example", 250)
        client.expect("MAIL FROM:<a@b.example>", 530)
    assert len(hooks.credentials) == 1


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("nobody", "535 5.7.8 Authentication credentials invalid"),
        ("suspended", "535 5.7.8 Suspended"),
        ("busy", "454 4.7.0 Later"),
        ("broken", "454 4.7.0 Temporary authentication failure"),
    ],
)
@pytest.mark.parametrize("before", ["", f"XCLIENT ADDR={ADDRESS} NAME=x.example LOGIN=first", "AUTH"])
def test_a_login_that_is_refused_changes_nothing(name: str, answer: str, before: str) -> None:
    """Not half a session: neither another's address with the old login, nor the old one's right to send."""
    hooks = Looking()
    with live(hooks, **OPEN) as server, talk(server.address) as client:
        if before == "AUTH":
            client.expect("AUTH PLAIN AHVzZXIAc2VjcmV0", 235)
        elif before:
            client.expect(before, 220)
            client.expect("EHLO between.example", 250)
        client.expect("MAIL FROM:<a@b.example>", 250 if before else 530)
        client.expect("RSET", 250)
        was = deepcopy(hooks.last("mail" if before else "connect"))
        refused = "XCLIENT ADDR=203.0.113.7 PORT=9 NAME=y.example HELO=y.example DESTADDR=203.0.113.8 DESTPORT=9"
        assert str(client.command(f"{refused} LOGIN={name}")).startswith(answer[:10])
        client.expect("MAIL FROM:<a@b.example>", 250 if before else 530)
        if before:
            session = hooks.last("mail")
            assert session.host_name_appears_as
        else:
            client.expect("AUTH PLAIN AHVzZXIAc2VjcmV0", 235)
            client.expect("MAIL FROM:<a@b.example>", 250)
            session = hooks.last("mail")
        for field in ("remote_address", "remote_port", "client_hostname", "trust_address", "x_client", "local_port"):
            assert getattr(session, field) == getattr(was, field), field
        assert session.user == {"": "user", "AUTH": "user"}.get(before, "first")
    assert bool(server.noted.faults) == (name == "broken")
    assert [login for login in server.noted.logins if login[1] != 235] == [("XCLIENT", int(answer[:3]))]


def test_a_refusal_with_421_ends_the_session() -> None:
    class Busy(Hooks):
        def on_auth(self, credentials: Credentials, session: Session) -> str:
            raise Defer(421, "4.7.0", "Too many")

    with live(Busy(), use_xclient=HERE) as server, talk(server.address) as client:
        client.expect("XCLIENT LOGIN=user", 421)
        assert client.ended()


def test_without_on_auth_no_login_is_taken() -> None:
    with live(Hooks(), use_xclient=HERE) as server, talk(server.address) as client:
        client.expect("XCLIENT LOGIN=user", 535)
        assert client.send(BODY).code == 250


# -- XFORWARD --------------------------------------------------------------------------------------------------------


def test_xforward_tells_and_changes_nothing() -> None:
    hooks = Looking()
    with live(hooks, **BOTH) as server, talk(server.address) as client:
        client.expect("XFORWARD NAME=spike.client.example ADDR=192.0.2.1 PORT=4711", 250)
        client.expect("XFORWARD PROTO=ESMTP HELO=spike IDENT=A1B2 SOURCE=REMOTE NAME=[UNAVAILABLE]", 250)
        assert client.send(BODY).code == 250
    session = hooks.last("data")
    assert session.x_forward == {
        "NAME": None, "ADDR": "192.0.2.1", "PORT": "4711", "PROTO": "ESMTP", "HELO": "spike", "IDENT": "A1B2",
        "SOURCE": "REMOTE",
    }  # fmt: skip
    assert (session.remote_address, session.host_name_appears_as) == ("127.0.0.1", "client.example")
    assert (session.trust_address, session.x_client) == ("127.0.0.1", {})


ENDS = {
    "DATA": ["MAIL FROM:<a@b.example>", "RCPT TO:<c@d.example>", "DATA", "."],
    "DATA that is refused": ["MAIL FROM:<refused@b.example>", "RCPT TO:<c@d.example>", "DATA", "."],
    "BDAT": ["MAIL FROM:<a@b.example>", "RCPT TO:<c@d.example>", "BDAT 0 LAST"],
    "BDAT that is none": ["MAIL FROM:<a@b.example>", "RCPT TO:<c@d.example>", "BDAT x"],
    "BDAT and RSET": ["MAIL FROM:<a@b.example>", "RCPT TO:<c@d.example>", "BDAT 0", "RSET"],
    "RSET": ["MAIL FROM:<a@b.example>", "RSET"],
    "RSET alone": ["RSET"],
    "EHLO": ["MAIL FROM:<a@b.example>", "EHLO again.example"],
    "STARTTLS": ["STARTTLS"],
    "XCLIENT": ["XCLIENT PORT=7", "EHLO again.example"],
}


@pytest.mark.parametrize("lines", ENDS.values(), ids=ENDS)
def test_xforward_is_for_one_transaction(lines: list[str]) -> None:
    """The next message on a connection that is kept is another client's: "at the end of the next MAIL FROM transaction
    (i.e. RSET or DOT), all XFORWARD attributes are reset" (XFORWARD_README).
    """

    class Refusing(Looking):
        def on_data(self, message: Message, session: Session) -> None:
            super().on_data(message, session)
            if session.envelope.mail_from and session.envelope.mail_from.local_part == "refused":
                raise Reject("Not this one")

    hooks = Refusing()
    with live(hooks, tls=CONTEXTS.channel, **BOTH) as server, talk(server.address) as client:
        client.expect("XFORWARD NAME=spike.client.example", 250)
        client.expect("XFORWARD ADDR=192.0.2.1", 250)
        for line in lines:
            client.command(line)
        if lines == ["STARTTLS"]:
            client.secure(trusting())
            client.expect("EHLO again.example", 250)
        said = {"NAME": "spike.client.example", "ADDR": "192.0.2.1"}
        assert [each.x_forward for name, each in hooks.seen if name in ("mail", "data")] in ([said], [said, said], [])
        client.expect("XFORWARD HELO=other", 250)
        client.expect("MAIL FROM:<e@f.example>", 250)
        assert hooks.last("mail").x_forward == {"HELO": "other"}


def test_xforward_waits_for_a_transaction_and_outlives_what_is_none() -> None:
    hooks = Looking()
    with live(hooks, **BOTH) as server, talk(server.address) as client:
        client.expect("XFORWARD ADDR=192.0.2.1", 250)
        for line, code in [("NOOP", 250), ("MAIL FROM:<", 501), ("BDAT x", 501), ("VRFY x", 252), ("XFORWARD", 501)]:
            client.expect(line, code)
        assert client.send(BODY).code == 250
    assert hooks.last("data").x_forward == {"ADDR": "192.0.2.1"}


def test_xforward_may_be_pipelined_with_the_transaction_that_it_is_for() -> None:
    """As Postfix's client does it."""
    hooks = Looking()
    group = (
        "XFORWARD ADDR=192.0.2.{0} NAME=client{0}.example\r\nXFORWARD PROTO=ESMTP\r\n"
        "MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n"
    )
    with live(hooks, **BOTH) as server, talk(server.address) as client:
        for number in (1, 2):
            client.raw(group.format(number).encode())
            assert [client.reply().code for _ in range(5)] == [250, 250, 250, 250, 354]
            assert client.body(BODY).code == 250
            assert hooks.last("data").x_forward["NAME"] == f"client{number}.example"
