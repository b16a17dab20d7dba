"""`update_secure_context`: new certificates while the server serves."""

from __future__ import annotations

import smtplib
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mta_front import Session, SMTPServer
from tests.library.securely import NAME, pem, secured, shown, trusting, trusting_anybody, upgraded
from tests.library.served import BODY, Noting, served
from tests.smtp_talk import Closed
from tests.tls.authority import Authority, Pair
from tests.wait import until


@pytest.mark.seed("method: updateSecureContext")
@pytest.mark.parametrize("begin", [secured, upgraded])
def test_new_connections_get_the_new_pair_and_live_ones_keep_theirs(
    begin: Callable[..., Any], authority: Authority, pair: Pair
) -> None:
    new = authority.issue(NAME)
    context = trusting(authority)
    with served(secure=begin is secured, **pem(pair)) as server, begin(server.address, context) as live:
        server.update_secure_context(**pem(new))
        with begin(server.address, context) as client:
            assert shown(client) == new.certificate
            assert client.send(BODY).code == 250
        assert shown(live) == pair.certificate
        assert live.send(BODY).code == 250


@pytest.mark.seed("method: updateSecureContext")
def test_what_cannot_be_used_is_refused_and_the_old_one_serves_on(authority: Authority, pair: Pair) -> None:
    other = authority.issue(NAME)
    with served(secure=True, **pem(pair)) as server:
        for given, text in (
            ({"key": other.key_pem}, "key: PEM does not belong to the certificate in PEM"),
            ({"key": "/no/such"}, "key: /no/such cannot be read"),
            ({**pem(other), "min_version": "SSLv3"}, "min_version: must be"),
            ({**pem(other), "request_cert": True}, "ca: is needed"),
            ({"cert": None}, "cert=…: must be PEM"),
            ({"size_bytes": 1}, "update_secure_context has no option 'size_bytes'"),
            ({"minVersion": "TLSv1.3"}, "did you mean 'min_version'"),
        ):
            with pytest.raises((TypeError, ValueError), match=text):
                server.update_secure_context(**given)
            with secured(server.address, trusting(authority)) as client:
                assert shown(client) == pair.certificate
        server.update_secure_context()  # nothing of what was refused has stuck
        with secured(server.address, trusting(authority)) as client:
            assert shown(client) == pair.certificate


def test_what_is_not_given_stays(authority: Authority, client_authority: Authority, pair: Pair) -> None:
    new, named = authority.issue(NAME), authority.issue("mail.example.com")
    sni: Any = {"mail.example.com": pem(named)}
    context = trusting(authority)
    with served(secure=True, max_version="TLSv1.2", sni=sni, **pem(pair)) as server:
        server.update_secure_context(**pem(new))
        with secured(server.address, context) as client:
            assert isinstance(client.sock, ssl.SSLSocket)
            assert (client.sock.version(), shown(client)) == ("TLSv1.2", new.certificate)
        with secured(server.address, context, "mail.example.com") as client:
            assert shown(client) == named.certificate
        server.update_secure_context(sni={}, max_version="")
        with secured(server.address, context) as client:
            assert isinstance(client.sock, ssl.SSLSocket)
            assert (client.sock.version(), shown(client)) == ("TLSv1.3", new.certificate)
        with pytest.raises(ssl.SSLCertVerificationError):
            secured(server.address, context, "mail.example.com")
        server.update_secure_context(request_cert=True, ca=client_authority.pem)
        with pytest.raises((ssl.SSLError, Closed, ConnectionError)):
            secured(server.address, context)


def test_files_are_read_anew(authority: Authority, pair: Pair, tmp_path: Path) -> None:
    key, cert = pair.files(tmp_path, "mx")
    with served(secure=True, key=key, cert=str(cert)) as server:
        new = authority.issue(NAME)
        new.files(tmp_path, "mx")
        server.update_secure_context()
        with secured(server.address, trusting(authority)) as client:
            assert shown(client) == new.certificate
        cert.unlink()
        with pytest.raises(ValueError, match="cannot be read"):
            server.update_secure_context()
        with secured(server.address, trusting(authority)) as client:
            assert shown(client) == new.certificate


def test_a_certificate_for_development_gives_way(authority: Authority, pair: Pair) -> None:
    for used in (False, True):
        with served(secure=True) as server:
            if used:
                secured(server.address, trusting_anybody()).close()
            with pytest.raises(ValueError, match="key: is missing"):
                server.update_secure_context(cert=pair.chain_pem)
            server.update_secure_context(**pem(pair))
            with secured(server.address, trusting(authority)) as client:
                assert shown(client) == pair.certificate


@pytest.mark.parametrize("blocking", [False, True])
def test_a_hook_may_exchange_them(blocking: bool, authority: Authority, pair: Pair) -> None:
    new = authority.issue(NAME)
    servers: list[SMTPServer] = []

    def exchange(session: Session) -> None:
        servers[0].update_secure_context(**pem(new))

    with served(secure=True, on_secure=exchange, blocking_hooks=blocking, **pem(pair)) as server:
        servers.append(server)
        for expected in (pair, new):
            with secured(server.address, trusting(authority)) as client:
                assert shown(client) == expected.certificate


def test_before_the_start_and_after_the_end(authority: Authority, pair: Pair) -> None:
    server = SMTPServer(auth_optional=True, secure=True)
    server.update_secure_context(**pem(pair))
    with server:
        server.listen()
        with secured(server.address, trusting(authority)) as client:
            assert shown(client) == pair.certificate
    server.update_secure_context(**pem(pair))  # as a timer does that knows nothing of the end


@pytest.mark.seed("method: updateSecureContext")
def test_under_load_no_handshake_fails_and_no_message_is_lost(authority: Authority, pair: Pair) -> None:
    """Four clients that connect again and again, while the certificate is exchanged 30 times."""
    pairs = [pair, *(authority.issue(NAME, kind) for kind in ("ecdsa", "rsa", "ed25519"))]
    context = trusting(authority)
    context.check_hostname = False
    over = threading.Event()
    sent: list[int] = []
    failed: list[BaseException] = []
    hooks = Noting()

    def connect_again_and_again(address: tuple[str, int]) -> None:
        while not over.is_set():
            try:
                with smtplib.SMTP_SSL(*address, timeout=20, context=context) as client:
                    client.sendmail("a@b.example", ["c@d.example"], BODY)
                    sent.append(1)
            except (OSError, smtplib.SMTPException) as error:
                failed.append(error)

    with served(hooks=hooks, secure=True, **pem(pair)) as server:
        clients = [threading.Thread(target=connect_again_and_again, args=(server.address,)) for _ in range(4)]
        for client in clients:
            client.start()
        try:
            for i in range(30):
                expected = pairs[(i + 1) % len(pairs)]
                server.update_secure_context(**pem(expected))
                with secured(server.address, context) as own:
                    assert shown(own) == expected.certificate  # the very next one
                before = len(sent)
                until(lambda before=before: len(sent) > before or failed)  # type: ignore[misc]
        finally:
            over.set()
            for client in clients:
                client.join(30)
    assert failed == []
    assert len(hooks.messages) == len(sent) >= 30
