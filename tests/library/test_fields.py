"""What hooks are told of a session, its envelope and the addresses in it."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from mta_front.hooks import Address, Envelope, Hooks, Message, Session
from tests.library.served import BODY, Noting, served
from tests.smtp_talk import Talk, talk
from tests.wait import until


class Looking(Hooks):
    """Notes what `look(session)` gives in each hook."""

    def __init__(self, look: Callable[[Session], Any]) -> None:
        self.look = look
        self.seen: list[tuple[str, Any]] = []

    def on_connect(self, session: Session) -> None:
        self.seen.append(("connect", self.look(session)))

    def on_mail_from(self, address: Address, session: Session) -> None:
        self.seen.append(("mail", self.look(session)))

    def on_rcpt_to(self, address: Address, session: Session) -> None:
        self.seen.append(("rcpt", self.look(session)))

    def on_data(self, message: Message, session: Session) -> None:
        message.read()
        self.seen.append(("data", self.look(session)))

    def on_close(self, session: Session) -> None:
        self.seen.append(("close", self.look(session)))


@pytest.mark.seed("session: id")
def test_a_session_has_an_id_of_its_own_from_beginning_to_end() -> None:
    hooks = Looking(lambda session: session.id)
    with served(hooks=hooks) as server:
        for _ in range(2):
            with talk(server.address) as client:
                client.send(BODY)
        until(lambda: len(hooks.seen) == 10)
    first, second = {name for _, name in hooks.seen[:5]}, {name for _, name in hooks.seen[5:]}
    assert len(first) == len(second) == 1
    assert first != second


@pytest.mark.seed(
    "session: localAddress", "session: localPort", "session: remoteAddress", "session: remotePort", "session: secure"
)
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_addresses_of_both_ends(host: str) -> None:
    hooks = Noting()
    with served(hooks=hooks) as server, talk(server.listen(host)) as client:
        local, remote = client.sock.getpeername(), client.sock.getsockname()
    [session] = hooks.sessions
    assert (session.local_address, session.local_port) == local[:2]
    assert (session.remote_address, session.remote_port) == remote[:2]
    assert session.secure is False


def test_a_client_on_a_unix_socket_has_no_address(tmp_path: Path) -> None:
    hooks = Noting()
    path = str(tmp_path / "s")
    with served(hooks=hooks) as server:
        server.listen(f"unix:{path}")
        with talk(path):
            [session] = hooks.sessions
    assert (session.remote_address, session.remote_port, session.client_hostname) == ("", 0, "localhost")


@pytest.mark.seed("session: hostNameAppearsAs", "session: openingCommand", "session: transmissionType")
@pytest.mark.parametrize(
    ("verb", "lmtp", "transmission"), [("EHLO", False, "ESMTP"), ("HELO", False, "SMTP"), ("LHLO", True, "LMTP")]
)
def test_what_the_client_said_hello_with(verb: str, lmtp: bool, transmission: str) -> None:
    hooks = Looking(lambda session: (session.host_name_appears_as, session.opening_command, session.transmission_type))
    with served(hooks=hooks, lmtp=lmtp) as server, Talk(server.address) as client:
        client.greeting("me.example", verb)
        client.expect("MAIL FROM:<a@b.example>", 250)
    assert hooks.seen[0] == ("connect", ("", "", "SMTP"))
    assert hooks.seen[1] == ("mail", ("me.example", verb, transmission))


@pytest.mark.seed("session: transaction")
def test_transactions_count_from_one() -> None:
    hooks = Looking(lambda session: session.transaction)
    with served(hooks=hooks) as server, talk(server.address) as client:
        client.send(BODY)
        client.expect("MAIL FROM:<a@b.example>", 250)
        client.expect("RSET", 250)
        client.send(BODY)
    assert [number for name, number in hooks.seen if name in ("rcpt", "data")] == [1, 1, 2, 2]


@pytest.mark.seed("session: user")
def test_nobody_has_logged_in() -> None:
    hooks = Looking(lambda session: session.user)
    with served(hooks=hooks) as server, talk(server.address) as client:
        client.send(BODY)
    assert {user for _, user in hooks.seen} == {None}


@pytest.mark.seed("session: envelope", "envelope: mailFrom", "envelope: rcptTo")
def test_the_envelope_grows_and_is_new_for_each_message() -> None:
    def look(session: Session) -> tuple[str | None, list[str]]:
        envelope = session.envelope
        return str(envelope.mail_from) if envelope.mail_from else None, [str(each) for each in envelope.rcpt_to]

    hooks = Looking(look)
    with served(hooks=hooks) as server, talk(server.address) as client:
        client.envelope("a@b.example", ["c@d.example", "e@f.example"])
        client.body(BODY)
        client.expect("MAIL FROM:<>", 250)
        client.expect("RCPT TO:<postmaster>", 250)
        client.quit()
        until(lambda: hooks.seen[-1][0] == "close")
    assert hooks.seen[1:7] == [
        ("mail", (None, [])),
        ("rcpt", ("a@b.example", [])),
        ("rcpt", ("a@b.example", ["c@d.example"])),
        ("data", ("a@b.example", ["c@d.example", "e@f.example"])),
        ("mail", (None, [])),
        ("rcpt", ("", [])),
    ]


def envelope_of(mail: str, rcpt: str, **given: Any) -> Envelope:
    """The envelope that `on_data` saw."""
    seen: list[Envelope] = []

    def look(message: Message, session: Session) -> None:
        seen.append(deepcopy(session.envelope))

    with served(on_data=look, **given) as server, talk(server.address) as client:
        client.expect(mail, 250)
        client.expect(rcpt, 250)
        client.expect("DATA", 354)
        assert client.body(BODY).code == 250
    [envelope] = seen
    return envelope


@pytest.mark.seed(
    "envelope: bodyType", "envelope: smtpUtf8", "envelope: requireTLS", "envelope: dsn.ret", "envelope: dsn.envid"
)
def test_parameters_of_mail() -> None:
    plain = envelope_of("MAIL FROM:<a@b.example>", "RCPT TO:<c@d.example>")
    assert (plain.body_type, plain.smtp_utf8, plain.require_tls) == ("7bit", False, False)
    assert (plain.dsn.ret, plain.dsn.envid) == ("", "")
    said = envelope_of("MAIL FROM:<a@b.example> BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=QQ+2B1", "RCPT TO:<c@d.example>")
    assert (said.body_type, said.smtp_utf8) == ("8bitmime", True)
    assert (said.dsn.ret, said.dsn.envid) == ("HDRS", "QQ+1")


def test_body_types() -> None:
    assert envelope_of("MAIL FROM:<a@b.example> BODY=7BIT", "RCPT TO:<c@d.example>").body_type == "7bit"
    hooks = Looking(lambda session: session.envelope.body_type)
    with served(hooks=hooks) as server, talk(server.address) as client:
        client.expect("MAIL FROM:<a@b.example> BODY=BINARYMIME", 250)
        client.expect("RCPT TO:<c@d.example>", 250)
        client.raw(b"BDAT 3 LAST\r\na\nb")
        assert client.reply().code == 250
    assert ("data", "binarymime") in hooks.seen


@pytest.mark.seed("address: address", "address: args", "address: dsn.notify", "address: dsn.orcpt")
def test_addresses_and_their_parameters() -> None:
    envelope = envelope_of(
        "MAIL FROM:<Some.One@B.example> SIZE=25 body=8bitmime",
        "RCPT TO:<c@d.example> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;list+2Bx@d.example",
    )
    sender, [recipient] = envelope.mail_from, envelope.rcpt_to
    assert sender is not None
    assert (sender.address, sender.local_part, sender.domain) == ("Some.One@B.example", "Some.One", "B.example")
    assert sender.args["SIZE"] == "25"
    assert set(sender.args) == {"SIZE", "BODY"}
    assert recipient.dsn is not None
    assert list(recipient.dsn.notify) == ["SUCCESS", "DELAY"]
    assert recipient.dsn.orcpt == "rfc822;list+x@d.example"


def test_the_null_sender_has_an_empty_address() -> None:
    sender = envelope_of("MAIL FROM:<>", "RCPT TO:<c@d.example>").mail_from
    assert sender is not None
    assert (sender.address, sender.local_part, sender.domain) == ("", "", "")


def test_a_hook_may_keep_its_own_things_in_the_session() -> None:
    class Counting(Hooks):
        def on_connect(self, session: Session) -> None:
            session.store["seen"] = 0

        def on_data(self, message: Message, session: Session) -> str:
            session.store["seen"] += 1
            return f"number {session.store['seen']}"

    with served(hooks=Counting()) as server, talk(server.address) as client, talk(server.address) as other:
        assert client.send(BODY).text == "2.0.0 number 1"
        assert client.send(BODY).text == "2.0.0 number 2"
        assert other.send(BODY).text == "2.0.0 number 1"


def test_the_listener_has_the_name_that_it_was_given() -> None:
    hooks = Noting()
    with served(hooks=hooks, listener="inside") as server, talk(server.address):
        assert [session.listener for session in hooks.sessions] == ["inside"]
