"""Each option of the configuration page, seen from a client's side."""

from __future__ import annotations

import smtplib
import socket
import threading
from collections.abc import Sequence
from time import monotonic
from typing import Any

import pytest

from mta_front.hooks import Message, Reject, Session
from tests.library.served import BODY, NAME, Noting, served
from tests.smtp_talk import Talk, talk
from tests.wait import until


@pytest.mark.seed("configuration: name", "configuration: banner", "configuration: heloResponse")
def test_what_the_server_says_of_itself() -> None:
    said = {"name": "mx.example", "banner": "No spam", "helo_response": "%s greets %s"}
    with served(**said, reverse_lookup=False) as server, Talk(server.address) as client:
        assert str(client.reply()) == "220 mx.example ESMTP No spam"
        assert client.command("EHLO me.example").lines[0] == "mx.example greets [127.0.0.1]"
        assert client.command("HELO me.example").lines == ("mx.example greets [127.0.0.1]",)
    with served(name="") as server, Talk(server.address) as client:
        assert client.reply().text.split() == [socket.gethostname(), "ESMTP"]


@pytest.mark.seed("configuration: lmtp")
def test_lmtp_answers_for_each_recipient() -> None:
    def judge(message: Message, session: Session) -> list[Any]:
        return ["kept", Reject(550, "5.1.1", "No such user")]

    with served(lmtp=True, on_data=judge) as server, Talk(server.address) as client:
        assert client.reply().text == f"{NAME} LMTP"
        client.expect("EHLO me.example", 500)
        client.expect("LHLO me.example", 250)
        client.envelope("a@b.example", ["c@ours.example", "d@ours.example"])
        assert str(client.body(BODY)) == "250 2.0.0 kept"
        assert str(client.reply()) == "550 5.1.1 No such user"


@pytest.mark.seed("configuration: authOptional", "configuration: authRequiredMessage")
def test_without_auth_optional_mail_needs_a_login() -> None:
    with served(auth_optional=False, auth_required_message="Who are you?") as server, talk(server.address) as client:
        assert str(client.command("MAIL FROM:<a@b.example>")) == "530 5.7.0 Who are you?"
    with served(auth_optional=False) as server, talk(server.address) as client:
        assert str(client.command("MAIL FROM:<a@b.example>")) == "530 5.7.0 Authentication required"
    with served(auth_optional=True) as server, talk(server.address) as client:
        client.expect("MAIL FROM:<a@b.example>", 250)


@pytest.mark.seed("configuration: maxAllowedUnauthenticatedCommands")
def test_commands_before_a_login_are_counted() -> None:
    with served(auth_optional=False, max_unauthenticated_commands=3) as server, talk(server.address) as client:
        client.expect("NOOP", 250)
        client.expect("NOOP", 250)
        client.expect("NOOP", 250)
        client.expect("NOOP", 421)
        client.ended()


@pytest.mark.seed("configuration: maxAllowedUnauthenticatedCommands")
@pytest.mark.parametrize("no_limit", [False, 0, None])
def test_false_is_no_limit(no_limit: Any) -> None:
    with served(auth_optional=False, max_unauthenticated_commands=no_limit) as server, talk(server.address) as client:
        for _ in range(30):
            client.expect("NOOP", 250)


HIDING = [
    ("hide_size", "SIZE"),
    ("hide_pipelining", "PIPELINING"),
    ("hide_dsn", "DSN"),
    ("hide_enhancedstatuscodes", "ENHANCEDSTATUSCODES"),
    ("hide_8bitmime", "8BITMIME"),
    ("hide_smtputf8", "SMTPUTF8"),
]


def offered(server: Any) -> set[str]:
    """The extensions that EHLO lists."""
    with Talk(server.address) as client:
        return {line.split()[0] for line in client.greeting().lines[1:]}


@pytest.mark.seed(
    "configuration: hideSize",
    "configuration: hidePIPELINING",
    "configuration: hideDSN",
    "configuration: hideENHANCEDSTATUSCODES",
    "configuration: hide8BITMIME",
    "configuration: hideSMTPUTF8",
)
@pytest.mark.parametrize(("option", "extension"), HIDING)
def test_an_extension_can_be_hidden_and_shown(option: str, extension: str) -> None:
    with served(**{option: True}) as server:
        assert extension not in offered(server)
    with served(**{option: False}) as server:
        assert extension in offered(server)


@pytest.mark.seed("configuration: hideREQUIRETLS")
@pytest.mark.parametrize("hidden", [True, False])
def test_requiretls_is_not_offered_without_tls_hidden_or_not(hidden: bool) -> None:
    with served(hide_requiretls=hidden) as server:
        assert "REQUIRETLS" not in offered(server)


def test_what_is_hidden_works_all_the_same() -> None:
    hidden = dict.fromkeys(dict(HIDING), True)
    hooks = Noting()
    with served(hooks=hooks, size_bytes=1000, **hidden) as server, talk(server.address) as client:
        client.raw(
            b"MAIL FROM:<\xc3\xa4@b.example> SIZE=500 BODY=8BITMIME SMTPUTF8 RET=HDRS\r\n"
            b"RCPT TO:<c@d.example> NOTIFY=NEVER\r\nDATA\r\n"
        )
        assert [client.reply().code for _ in range(3)] == [250, 250, 354]
        assert str(client.body("ä\r\n".encode())) == "250 2.0.0 Ok"
    assert hooks.messages == ["ä\r\n".encode()]


@pytest.mark.seed("configuration: disabledCommands")
def test_disabled_commands_are_refused_in_any_case() -> None:
    with served(disabled_commands=["vrfy", "Expn"]) as server, talk(server.address) as client:
        client.expect("VRFY x@y.example", 502)
        client.expect("expn list", 502)
        client.expect("NOOP", 250)


@pytest.mark.seed("configuration: disabledCommands", "configuration: authOptional")
def test_where_auth_is_disabled_nobody_needs_it() -> None:
    with served(auth_optional=False, disabled_commands=["AUTH"]) as server, talk(server.address) as client:
        client.expect("MAIL FROM:<a@b.example>", 250)


@pytest.mark.seed("configuration: size", "stream: sizeExceeded")
def test_a_message_over_size_bytes_is_refused_whatever_the_hook_says() -> None:
    seen: list[bool] = []

    def drain(message: Message, session: Session) -> None:
        for _ in message:
            pass
        seen.append(message.size_exceeded)

    with served(size_bytes=1000, on_data=drain) as server, talk(server.address) as client:
        assert "SIZE 1000" in client.command("EHLO me.example").lines
        client.expect("MAIL FROM:<a@b.example> SIZE=1001", 552)
        assert str(client.send(b"x" * 998 + b"\r\n")) == "250 2.0.0 Ok"
        assert str(client.send(b"x" * 999 + b"\r\n")) == "552 5.3.4 Message size exceeds fixed limit"
    assert seen == [False, True]


@pytest.mark.seed("configuration: size")
@pytest.mark.parametrize("no_limit", [0, None])
def test_without_a_size_there_is_no_limit(no_limit: int | None) -> None:
    with served(size_bytes=no_limit) as server, talk(server.address) as client:
        assert "SIZE" in client.command("EHLO me.example").lines
        assert client.send(b"x" * 300_000 + b"\r\n").code == 250


@pytest.mark.seed("configuration: maxClients")
def test_one_client_more_hears_421_on_whichever_address() -> None:
    with served(max_clients=2) as server:
        other = server.listen()
        with talk(server.address), talk(other) as second:
            for address in server.addresses:
                with Talk(address) as third:
                    assert str(third.reply()).startswith("421 4.3.2 ")
                    third.ended()
            second.quit()
            second.ended()
            until(lambda: server.sessions == 1)
            with talk(other) as third:
                third.expect("NOOP", 250)


@pytest.mark.seed("configuration: socketTimeout")
def test_a_silent_client_hears_421() -> None:
    with served(socket_timeout_s=0.2) as server, talk(server.address) as client:
        assert str(client.reply()).startswith("421 4.4.2 ")
        client.ended()


@pytest.mark.seed("configuration: closeTimeout")
def test_close_waits_no_longer_than_close_timeout_s() -> None:
    with served(close_timeout_s=0.3) as server, talk(server.address) as client:
        client.envelope("a@b.example", ["c@d.example"])  # it never sends its message
        begun = monotonic()
        assert server.close() is False
        assert 0.3 <= monotonic() - begun < 10
        assert str(client.reply()).startswith("421 4.3.2 ")


class Names:
    """A resolver that says one name for everybody."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names
        self.asked: list[str] = []
        self.threads: list[int] = []

    def reverse(self, address: str) -> Sequence[str]:
        self.asked.append(address)
        self.threads.append(threading.get_ident())
        return self.names


@pytest.mark.seed("configuration: resolver", "session: clientHostname")
@pytest.mark.parametrize("blocking", [False, True])
def test_a_resolver_of_ones_own_names_the_client(blocking: bool) -> None:
    resolver = Names(["client.example", "other.example"])
    hooks = Noting()
    with served(hooks=hooks, resolver=resolver, blocking_hooks=blocking) as server, talk(server.address) as client:
        assert client.command("EHLO me.example").lines[0] == f"{NAME} Nice to meet you, client.example"
        assert [session.client_hostname for session in hooks.sessions] == ["client.example"]
        server_threads = [thread.ident for thread in threading.enumerate() if thread.name == "SMTPServer"]
    assert resolver.asked == ["127.0.0.1"]
    assert (resolver.threads[0] in server_threads) is not blocking


@pytest.mark.seed("configuration: disableReverseLookup")
def test_without_reverse_lookup_nobody_is_asked() -> None:
    resolver = Names(["client.example"])
    hooks = Noting()
    with served(hooks=hooks, resolver=resolver, reverse_lookup=False) as server, talk(server.address):
        assert [session.client_hostname for session in hooks.sessions] == ["[127.0.0.1]"]
    assert resolver.asked == []


@pytest.mark.parametrize(
    ("option", "expected"),
    [("normalize", b"a\r\nb\r\n"), ("accept", b"a\nb\r\n"), ("reject", None)],
)
def test_bare_newlines(option: Any, expected: bytes | None) -> None:
    hooks = Noting()
    with served(hooks=hooks, bare_newline=option) as server, talk(server.address) as client:
        answer = client.send(b"a\nb\r\n")
    assert answer.code == (250 if expected else 550)
    if expected:
        assert hooks.messages == [expected]


def test_a_network_may_be_exempt_from_the_rule_of_newlines() -> None:
    hooks = Noting()
    exempt = ["127.0.0.0/8"]
    with (
        served(hooks=hooks, bare_newline="reject", bare_newline_exempt=exempt) as server,
        talk(server.address) as client,
    ):
        assert client.send(b"a\nb\r\n").code == 250
    assert hooks.messages == [b"a\nb\r\n"]


def test_smtplib_in_the_same_thread() -> None:
    """No monkey patching: a client that blocks does not stop the server (DECISIONS W5)."""
    hooks = Noting()
    with served(hooks=hooks) as server, smtplib.SMTP(*server.address, timeout=10) as client:
        refused = client.sendmail("a@b.example", ["c@d.example", "e@f.example"], BODY)
    assert refused == {}
    assert hooks.messages == [BODY]
    until(lambda: hooks.calls[-1] == "close")
    assert hooks.calls == ["connect", "mail a@b.example", "rcpt c@d.example", "rcpt e@f.example", "data", "close"]
