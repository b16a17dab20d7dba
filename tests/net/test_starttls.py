"""STARTTLS and TLS from the first octet, as a session has them: with real TLS clients."""

from __future__ import annotations

import _socket
import smtplib
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from mta_front.hooks import Credentials, Hooks, Message, Reject, Session
from mta_front.net import stream
from mta_front.tls.certificates import self_signed
from mta_front.tls.contexts import load
from mta_front.tls.options import TlsOptions
from tests.net.live import Live, live
from tests.smtp.sasl_talk import b64
from tests.smtp_talk import Talk
from tests.wait import until

MESSAGE = b"Subject: x\r\n\r\n" + b"x" * 70 + b"\r\n"
KEY, CERT = self_signed("mx.ours.example")
CONTEXTS = load(TlsOptions(key=KEY, cert=CERT))


def trusting() -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=CERT.decode())
    context.check_hostname = False
    return context


class Seen(Hooks):
    def __init__(self) -> None:
        self.secure: list[tuple[Any, ...]] = []
        self.mail: list[tuple[Any, ...]] = []

    def on_secure(self, session: Session) -> None:
        assert session.tls_options is not None
        self.secure.append((session.tls_options.version, session.servername, session.secure))
        if session.servername == "refused.example":
            raise Reject(554, "5.7.1", "Not for you")

    def on_auth(self, credentials: Credentials, session: Session) -> str | None:
        return "user" if credentials.validate_password("secret") else None

    def on_data(self, message: Message, session: Session) -> None:
        self.mail.append((session.transmission_type, session.host_name_appears_as, len(message.read())))


@contextmanager
def secured(hooks: Hooks | None = None, **options: Any) -> Iterator[Live]:
    with live(hooks or Hooks(), tls=CONTEXTS.channel, **options) as server:
        yield server


def test_starttls_and_what_the_session_knows() -> None:
    hooks = Seen()
    with secured(hooks) as server, smtplib.SMTP(*server.address) as client:
        client.ehlo("before.example")
        assert client.has_extn("starttls")
        assert not client.has_extn("requiretls")
        client.starttls(context=trusting())
        client.ehlo("after.example")
        assert not client.has_extn("starttls")
        assert client.has_extn("requiretls")
        client.login("user", "secret")
        client.sendmail("a@b.example", ["c@d.example"], MESSAGE)
        assert client.docmd("STARTTLS")[0] == 503
    assert hooks.secure == [("TLSv1.3", "", True)]
    assert hooks.mail == [("ESMTPSA", "after.example", len(MESSAGE))]


def test_the_last_words_and_the_end_of_tls_travel_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """221 and close_notify in one system call; the client sees that nothing was cut off."""
    sent: list[int] = []
    real = stream._send

    def send(sock: _socket.socket, data: bytes) -> int:
        sent.append(len(data))
        return real(sock, data)

    with secured(secure=True) as server, socket.create_connection(server.address, 10) as plain:
        context = trusting()
        with context.wrap_socket(plain, suppress_ragged_eofs=False) as tls:
            assert tls.recv(200).startswith(b"220 ")
            monkeypatch.setattr(stream, "_send", send)
            tls.sendall(b"QUIT\r\n")
            assert tls.recv(200).startswith(b"221 ")
            assert tls.recv(200) == b"", "close_notify"
    assert len(sent) == 1


def test_tls_from_the_first_octet() -> None:
    hooks = Seen()
    with secured(hooks, secure=True) as server, smtplib.SMTP_SSL(*server.address, context=trusting()) as client:
        client.sendmail("a@b.example", ["c@d.example"], MESSAGE)
        assert client.docmd("STARTTLS")[0] == 503
    assert hooks.mail[0][0] == "ESMTPS"


def test_what_was_said_before_is_forgotten() -> None:
    """RFC 3207 §4.2."""
    with secured() as server, smtplib.SMTP(*server.address) as client:
        client.starttls(context=trusting())
        assert client.docmd("MAIL FROM:<a@b.example>")[0] == 503


def test_a_login_in_clear_is_forgotten_too() -> None:
    """Who sits in between could log in as himself, and hand the connection on."""
    hooks = Seen()
    options = {"allow_insecure_auth": True, "auth_optional": False}
    with secured(hooks, **options) as server, smtplib.SMTP(*server.address) as client:
        client.login("user", "secret")
        client.starttls(context=trusting())
        client.ehlo()
        assert client.has_extn("auth")
        assert client.docmd("MAIL FROM:<a@b.example>")[0] == 530
        client.login("user", "secret")
        client.sendmail("a@b.example", ["c@d.example"], MESSAGE)
    assert hooks.mail[0][0] == "ESMTPSA"


def test_needs_upgrade() -> None:
    with secured(Seen(), needs_upgrade=True, allow_insecure_auth=True) as server:
        with Talk(server.address) as talk:
            assert not any(line.startswith("AUTH") for line in talk.greeting().lines)
            for command in ("MAIL FROM:<a@b.example>", "AUTH PLAIN " + b64("\0user\0secret"), "RCPT TO:<a@b.example>"):
                assert str(talk.command(command)) == "530 5.7.0 Must issue a STARTTLS command first"
            talk.expect("NOOP", 250)
        with smtplib.SMTP(*server.address) as client:
            client.starttls(context=trusting())
            client.login("user", "secret")
            client.sendmail("a@b.example", ["c@d.example"], MESSAGE)


def test_hidden_it_works_and_without_certificates_it_does_not() -> None:
    with secured(hide_starttls=True) as server, smtplib.SMTP(*server.address) as client:
        client.ehlo()
        assert not client.has_extn("starttls")
        assert client.docmd("STARTTLS")[0] == 220
    with live(Hooks()) as server, Talk(server.address) as talk:
        assert "STARTTLS" not in talk.greeting().lines
        talk.expect("STARTTLS", 502)


def test_starttls_has_its_place_and_no_argument() -> None:
    with secured() as server, Talk(server.address) as talk:
        talk.greeting()
        talk.expect("STARTTLS now", 501)
        talk.expect("MAIL FROM:<a@b.example>", 250)
        talk.expect("STARTTLS", 503)


@pytest.mark.parametrize("behind", [b"MAIL FROM:<evil@b.example>\r\n", b"BDAT 10\r\n", b"\x16\x03\x01"])
def test_plaintext_behind_starttls_ends_the_session(behind: bytes) -> None:
    """CVE-2011-0411: somebody in the middle puts commands behind STARTTLS, to be taken as the client's own."""
    with secured() as server, Talk(server.address) as talk:
        talk.greeting()
        talk.raw(b"STARTTLS\r\n" + behind)
        assert str(talk.reply()).startswith("554 5.5.0")
        talk.ended()


@pytest.mark.parametrize("data", [b"EHLO x\r\n", b"\x80" * 50, b"\x16\x03\x01\x00\x05hello", b""])
@pytest.mark.parametrize("implicit", [False, True])
def test_what_is_no_tls_ends_short_and_without_a_fault(data: bytes, implicit: bool) -> None:
    with secured(secure=implicit) as server:
        with Talk(server.address) as talk:
            if not implicit:
                talk.greeting()
                talk.expect("STARTTLS", 220)
            talk.raw(data)
            talk.sock.shutdown(socket.SHUT_WR)
            while talk.sock.recv(4096):  # an alert at most
                pass
        until(lambda: server.noted.closed, 5)
        assert server.noted.closed == ["tls"]
        assert server.noted.faults == []


def test_a_client_that_stops_in_the_handshake_is_cut_in_time() -> None:
    with secured(secure=True, socket_timeout_s=0.6) as server, Talk(server.address) as talk:
        talk.raw(b"\x16\x03\x01")
        while talk.sock.recv(4096):
            pass
        until(lambda: server.noted.closed, 5)
        assert server.noted.closed == ["timeout"]


def test_a_hook_may_refuse_what_it_sees_of_tls() -> None:
    with secured(Seen(), secure=True) as server:
        plain = socket.create_connection(server.address)
        with trusting().wrap_socket(plain, server_hostname="refused.example") as client:
            assert client.recv(1000).startswith(b"554 5.7.1 Not for you")
            assert client.recv(1000) == b""
        until(lambda: server.noted.closed, 5)
        assert server.noted.closed == ["refused"]


def test_a_tls_session_that_dies_in_a_message_leaves_nothing() -> None:
    hooks = Seen()
    with secured(hooks, secure=True) as server:
        for command in (b"DATA\r\n", b"BDAT 100000\r\n"):
            with socket.create_connection(server.address) as plain:
                client = trusting().wrap_socket(plain, server_hostname="mx.ours.example")
                client.recv(1000)
                for line in (b"EHLO x\r\n", b"MAIL FROM:<a@b.example>\r\n", b"RCPT TO:<c@d.example>\r\n", command):
                    client.send(line)
                    if not line.startswith(b"BDAT"):
                        client.recv(1000)
                client.send(b"half a message\r\n")
                client.close()  # without close_notify
        until(lambda: len(server.noted.closed) == 2, 5)
        assert server.noted.closed == ["lost", "lost"]
        assert server.noted.faults == []
    assert hooks.mail == []
