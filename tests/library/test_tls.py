"""TLS as the library's options have it, with real TLS clients."""

from __future__ import annotations

import logging
import smtplib
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from mta_front import Message, Reject, Session, SMTPServer
from mta_front.tls import certificates
from tests.library.securely import NAME, named, pem, secured, shown, starttls, trusting, trusting_anybody, upgraded
from tests.library.served import BODY, Noting, served
from tests.smtp_talk import Closed, Talk, talk
from tests.tls.authority import Authority, Pair
from tests.wait import until

BEFORE = [
    "MAIL FROM:<a@b.example>", "RCPT TO:<c@d.example>", "DATA", "AUTH PLAIN AHUAcA==", "BDAT 0 LAST",
]  # fmt: skip


# -- configuration ---------------------------------------------------------------------------------------------------


@pytest.mark.seed("configuration: secure", "configuration: key", "configuration: cert")
def test_tls_from_the_first_octet(authority: Authority, pair: Pair) -> None:
    hooks = Noting()
    with (
        served(hooks=hooks, secure=True, **pem(pair)) as server,
        secured(server.address, trusting(authority)) as client,
    ):
        assert shown(client) == pair.certificate
        assert "STARTTLS" not in client.expect("EHLO client.example", 250).lines
        client.expect("STARTTLS", 503)
        assert client.send(BODY).code == 250
    assert hooks.messages == [BODY]


@pytest.mark.seed("configuration: secure", "configuration: hideSTARTTLS")
def test_starttls_is_offered_and_can_be_hidden(authority: Authority, pair: Pair) -> None:
    for hidden in (False, True):
        with served(hide_starttls=hidden, **pem(pair)) as server, Talk(server.address) as client:
            assert ("STARTTLS" not in client.greeting().lines) is hidden
            starttls(client, trusting(authority))  # hidden or not
            assert "STARTTLS" not in client.expect("EHLO client.example", 250).lines
            assert client.send(BODY).code == 250


def test_starttls_can_be_switched_off() -> None:
    with served(disabled_commands=["STARTTLS"]) as server, Talk(server.address) as client:
        assert "STARTTLS" not in client.greeting().lines
        client.expect("STARTTLS", 502)


@pytest.mark.seed("configuration: needsUpgrade")
@pytest.mark.parametrize("command", BEFORE)
def test_before_an_upgrade_that_is_needed_nothing_is_taken(command: str) -> None:
    with served(needs_upgrade=True, allow_insecure_auth=True) as server, Talk(server.address) as client:
        assert not any(line.startswith("AUTH") for line in client.greeting().lines)
        assert str(client.command(command)).startswith("530 5.7.0 ")
        client.expect("NOOP", 250)
        starttls(client, trusting_anybody())
        assert client.send(BODY).code == 250


@pytest.mark.seed("configuration: hideREQUIRETLS", "envelope: requireTLS")
@pytest.mark.parametrize("hidden", [True, False])
def test_requiretls_over_tls(hidden: bool) -> None:
    required: list[bool] = []

    def look(message: Message, session: Session) -> None:
        required.append(session.envelope.require_tls)

    with (
        served(secure=True, hide_requiretls=hidden, on_data=look) as server,
        secured(server.address, trusting_anybody()) as client,
    ):
        assert ("REQUIRETLS" not in client.expect("EHLO me.example", 250).lines) is hidden
        client.expect("MAIL FROM:<a@b.example> REQUIRETLS", 250)
        client.expect("RCPT TO:<c@d.example>", 250)
        client.expect("DATA", 354)
        assert client.body(BODY).code == 250
    assert required == [True]


@pytest.mark.seed("configuration: minVersion", "configuration: maxVersion")
@pytest.mark.parametrize(
    ("given", "offered", "agreed"),
    [
        ({}, "TLSv1_2", "TLSv1.2"),
        ({}, "TLSv1_3", "TLSv1.3"),
        ({"min_version": "TLSv1.3"}, "TLSv1_3", "TLSv1.3"),
        ({"min_version": "TLSv1.3"}, "TLSv1_2", None),
        ({"max_version": "TLSv1.2"}, "TLSv1_2", "TLSv1.2"),
        ({"max_version": "TLSv1.2"}, "TLSv1_3", None),
    ],
)
def test_versions(given: dict[str, Any], offered: str, agreed: str | None) -> None:
    context = trusting_anybody()
    context.minimum_version = context.maximum_version = ssl.TLSVersion[offered]
    with served(secure=True, **given) as server:
        if agreed is None:
            with pytest.raises((ssl.SSLError, Closed)):
                secured(server.address, context)
        else:
            with secured(server.address, context) as client:
                assert isinstance(client.sock, ssl.SSLSocket)
                assert client.sock.version() == agreed


def test_ciphers() -> None:
    with (
        served(secure=True, ciphers="ECDHE-ECDSA-CHACHA20-POLY1305", max_version="TLSv1.2") as server,
        secured(server.address, trusting_anybody()) as client,
    ):
        assert isinstance(client.sock, ssl.SSLSocket)
        assert (client.sock.cipher() or ("",))[0] == "ECDHE-ECDSA-CHACHA20-POLY1305"


@pytest.mark.seed("configuration: key", "configuration: cert")
@pytest.mark.parametrize("form", ["bytes", "text", "path", "text of a path", "list"])
def test_a_pair_is_pem_or_paths(form: str, authority: Authority, pair: Pair, tmp_path: Path) -> None:
    key, cert = pair.files(tmp_path, "mx")
    forms: dict[str, tuple[Any, Any]] = {
        "bytes": (pair.key_pem, pair.chain_pem),
        "text": (pair.key_pem.decode(), pair.chain_pem.decode()),
        "path": (key, cert),
        "text of a path": (str(key), str(cert)),
        "list": ([key], [pair.chain_pem]),
    }
    given = dict(zip(("key", "cert"), forms[form], strict=True))
    with served(**given) as server, upgraded(server.address, trusting(authority)) as client:
        assert shown(client) == pair.certificate


@pytest.mark.seed("configuration: key", "configuration: cert")
def test_certificates_of_several_kinds(authority: Authority, pair: Pair) -> None:
    rsa = authority.issue(NAME, "rsa")
    context = trusting(authority)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    given: dict[str, Any] = {"key": [pair.key_pem, rsa.key_pem], "cert": [rsa.chain_pem, pair.chain_pem]}
    with served(secure=True, **given) as server:
        for cipher, expected in (("ECDHE-ECDSA-AES128-GCM-SHA256", pair), ("ECDHE-RSA-AES128-GCM-SHA256", rsa)):
            context.set_ciphers(cipher)
            with secured(server.address, context) as client:
                assert shown(client) == expected.certificate


# -- a certificate for development -----------------------------------------------------------------------------------


@pytest.mark.seed("configuration: key", "configuration: cert")
@pytest.mark.parametrize("name", ["mx.example.net", ""])
def test_without_a_pair_there_is_one_for_development(name: str) -> None:
    """For the server's name and for loopback: smtplib is content with it, once it trusts it."""
    with served(name=name) as server:
        with upgraded(server.address, trusting_anybody()) as client:
            found = shown(client).public_bytes(Encoding.PEM).decode()
        context = ssl.create_default_context(cadata=found)
        for host in ("127.0.0.1", "localhost", name or socket.gethostname()):
            with smtplib.SMTP(*server.address, timeout=10) as smtp:
                assert named(smtp, host).starttls(context=context)[0] == 220  # the same for all


def test_it_is_made_when_it_is_needed_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    def noting(name: str) -> tuple[bytes, bytes]:
        made.append(name)
        return certificates.self_signed(name)

    monkeypatch.setattr("mta_front.certified.self_signed", noting)
    with served(name=NAME) as server:
        with talk(server.address) as client:
            client.send(BODY)
        assert made == []
        for _ in range(3):
            upgraded(server.address, trusting_anybody()).close()
        server.update_secure_context(min_version="TLSv1.3")
        upgraded(server.address, trusting_anybody()).close()
    assert made == [NAME]


def test_servers_do_not_share_it() -> None:
    with served() as one, served() as two:
        found = []
        for server in (one, two):
            with upgraded(server.address, trusting_anybody()) as client:
                found.append(shown(client))
    assert found[0] != found[1]


# -- what hooks see --------------------------------------------------------------------------------------------------


@pytest.mark.seed(
    "callback: onSecure", "session: secure", "session: servername", "session: tlsOptions", "session: transmissionType"
)
@pytest.mark.parametrize("implicit", [True, False])
@pytest.mark.parametrize("blocking", [True, False])
def test_on_secure_sees_what_was_agreed(implicit: bool, blocking: bool, authority: Authority, pair: Pair) -> None:
    seen: list[Any] = []

    def look(session: Session) -> None:
        facts = session.tls_options
        assert facts is not None
        seen.append((session.secure, session.servername, facts.version, facts.name, facts.standard_name))

    def keep(message: Message, session: Session) -> None:
        seen.append((session.secure, session.transmission_type, session.tls_options is not None))

    context = trusting(authority)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
    begin = secured if implicit else upgraded
    options: dict[str, Any] = {"secure": implicit, "blocking_hooks": blocking, **pem(pair)}
    with served(on_secure=look, on_data=keep, **options) as server:
        with begin(server.address, context) as client:
            client.send(BODY)
        if not implicit:
            with talk(server.address) as client:
                client.send(BODY)
    names = ("TLSv1.2", "ECDHE-ECDSA-AES128-GCM-SHA256", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256")
    assert seen[:2] == [(True, NAME, *names), (True, "ESMTPS", True)]
    assert seen[2:] == ([] if implicit else [(False, "ESMTP", False)])


@pytest.mark.seed("callback: onSecure", "callback: responseCode")
@pytest.mark.parametrize("implicit", [True, False])
def test_on_secure_may_refuse(implicit: bool) -> None:
    def refuse(session: Session) -> None:
        raise Reject(554, "5.7.1", f"Not as {session.servername}")

    with served(secure=implicit, on_secure=refuse) as server, Talk(server.address) as client:
        if not implicit:
            client.greeting()
            client.expect("STARTTLS", 220)
        client.sock = trusting_anybody().wrap_socket(client.sock, server_hostname="that.example")
        if not implicit:
            client.raw(b"EHLO me.example\r\n")
        assert str(client.reply()) == "554 5.7.1 Not as that.example"
        client.ended()


@pytest.mark.seed("callback: error event", "callback: onSecure")
def test_on_error_hears_of_a_bug_in_on_secure() -> None:
    bug = KeyError("a bug")
    heard: list[BaseException] = []

    def fail(session: Session) -> None:
        raise bug

    with served(on_secure=fail, on_error=lambda error, session: heard.append(error)) as server:
        with talk(server.address) as client:
            client.expect("STARTTLS", 220)
            client.sock = trusting_anybody().wrap_socket(client.sock, server_hostname=NAME)
            client.raw(b"EHLO me.example\r\n")
            assert client.reply().code in (421, 451)
        until(lambda: heard)
    assert heard == [bug]


def test_a_handshake_that_fails_is_no_error_but_a_line_for_who_wants_it(caplog: pytest.LogCaptureFixture) -> None:
    heard: list[BaseException] = []
    caplog.set_level(logging.INFO, "mta_front")
    with served(secure=True, on_error=lambda error, session: heard.append(error)) as server:
        with Talk(server.address) as client:
            client.raw(b"EHLO plain.example\r\n")
            client.sock.settimeout(10)
            while client.sock.recv(100):
                pass
        until(lambda: caplog.records)
    assert heard == []
    [record] = caplog.records
    assert (record.name, record.levelno) == ("mta_front", logging.INFO)
    assert record.getMessage().startswith("smtp: TLS handshake failed: ")


@pytest.mark.seed("session: transmissionType")
def test_lmtp_over_tls() -> None:
    seen: list[str] = []
    with (
        served(lmtp=True, on_mail_from=lambda address, session: seen.append(session.transmission_type)) as server,
        Talk(server.address) as client,
    ):
        client.greeting("me.example", "LHLO")
        client.expect("STARTTLS", 220)
        client.sock = trusting_anybody().wrap_socket(client.sock, server_hostname=NAME)
        client.expect("LHLO me.example", 250)
        client.expect("MAIL FROM:<a@b.example>", 250)
    assert seen == ["LMTPS"]


# -- Python's own client, in one plain thread ------------------------------------------------------------------------


@pytest.mark.seed("configuration: secure", "configuration: needsUpgrade")
def test_smtplib_with_both_kinds_of_tls(authority: Authority, pair: Pair) -> None:
    hooks = Noting()
    context = trusting(authority)
    context.check_hostname = False  # it asks for the address
    with (
        served(hooks=hooks, needs_upgrade=True, **pem(pair)) as server,
        smtplib.SMTP(*server.address, timeout=10) as client,
    ):
        with pytest.raises(smtplib.SMTPSenderRefused, match="STARTTLS"):
            client.sendmail("a@b.example", ["c@d.example"], BODY)
        client.starttls(context=context)
        client.sendmail("a@b.example", ["c@d.example"], BODY)
    with (
        served(hooks=hooks, secure=True, **pem(pair)) as server,
        smtplib.SMTP_SSL(*server.address, timeout=10, context=context) as client,
    ):
        client.sendmail("a@b.example", ["c@d.example"], BODY * 1000)
    assert hooks.messages == [BODY, BODY * 1000]


def test_a_program_without_monkey_patches_closes_in_the_middle_of_a_handshake() -> None:
    with SMTPServer(secure=True) as server, Talk(server.listen()) as client:
        until(lambda: server.sessions == 1)
        assert server.close(0) in (True, False)
        client.ended()


def test_50_servers_with_tls_leave_no_file_open(pair: Pair) -> None:
    """OpenSSL reads certificates from files: those in memory are closed again."""

    def once() -> int:
        with served(secure=True, **pem(pair)) as server:
            server.update_secure_context(**pem(pair))
            secured(server.address, trusting_anybody()).close()
        return sum(1 for _ in Path("/proc/self/fd").iterdir())

    first = once()
    assert [once() for _ in range(50)][-1] == first
