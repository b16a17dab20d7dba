"""Names that clients ask for (SNI), and certificates that they show, with real TLS clients."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest

from tests.library.securely import NAME, pem, secured, shown, trusting, trusting_anybody, upgraded
from tests.library.served import Noting, served
from tests.smtp_talk import Closed
from tests.tls.authority import Authority, Pair

# -- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.seed("configuration: sniOptions", "session: servername")
@pytest.mark.parametrize("implicit", [True, False])
def test_each_name_has_its_certificate(implicit: bool, authority: Authority, pair: Pair) -> None:
    example, other = authority.issue("mail.example.com"), authority.issue("*.other.example")
    sni: dict[str, Any] = {"Mail.Example.COM": pem(example), "*.other.example": pem(other)}
    seen: list[str] = []
    begin = secured if implicit else upgraded
    hooks: dict[str, Any] = {"on_secure": lambda session: seen.append(session.servername)}
    with served(secure=implicit, sni=sni, **hooks, **pem(pair)) as server:
        for name, expected in ((NAME, pair), ("mail.example.com", example), ("smtp.other.example", other)):
            with begin(server.address, trusting(authority), name) as client:
                assert shown(client) == expected.certificate
        with begin(server.address, trusting_anybody(), "unknown.example") as client:
            assert shown(client) == pair.certificate
    assert seen == [NAME, "mail.example.com", "smtp.other.example", "unknown.example"]


@pytest.mark.seed("configuration: sniOptions")
def test_a_name_of_its_own_beside_the_certificate_for_development(authority: Authority) -> None:
    example = authority.issue("mail.example.com")
    with served(secure=True, sni={"mail.example.com": pem(example)}) as server:
        with secured(server.address, trusting(authority), "mail.example.com") as client:
            assert shown(client) == example.certificate
        with secured(server.address, trusting_anybody(), "localhost") as client:
            assert shown(client) != example.certificate


# -- client certificates ---------------------------------------------------------------------------------------------


@pytest.mark.seed("configuration: ca", "configuration: requestCert", "configuration: rejectUnauthorized")
@pytest.mark.parametrize("several", [True, False])
def test_a_client_certificate_may_be_required(
    several: bool, authority: Authority, client_authority: Authority, pair: Pair, client_pair: Pair, tmp_path: Path
) -> None:
    hooks = Noting()
    ca: Any = [Authority("Another").pem, client_authority.pem.decode()] if several else client_authority.pem
    with served(hooks=hooks, secure=True, ca=ca, request_cert=True, **pem(pair)) as server:
        good = trusting(authority, client=client_pair, directory=tmp_path)
        with secured(server.address, good) as client:
            client.expect("NOOP", 250)
        for bad in (trusting(authority), trusting(authority, client=authority.issue("eve"), directory=tmp_path)):
            with pytest.raises((ssl.SSLError, Closed, ConnectionError)):
                secured(server.address, bad)
    [session] = hooks.sessions
    certificate = session.peer_certificate
    assert certificate is not None
    assert (certificate.common_name, certificate.verified, certificate.unverified) == ("alice", True, "")


@pytest.mark.seed("configuration: requestCert", "configuration: rejectUnauthorized")
def test_a_client_certificate_may_be_optional(
    authority: Authority, client_authority: Authority, pair: Pair, client_pair: Pair, tmp_path: Path
) -> None:
    hooks = Noting()
    given = {"ca": client_authority.pem, "request_cert": True, "reject_unauthorized": False, **pem(pair)}
    with served(hooks=hooks, secure=True, **given) as server:
        for shows in (client_pair, authority.issue("eve"), None):
            context = trusting(authority, client=shows, directory=tmp_path)
            with secured(server.address, context) as client:
                client.expect("NOOP", 250)
    certificates = [session.peer_certificate for session in hooks.sessions]
    assert [each and (each.common_name, each.verified) for each in certificates] == [
        ("alice", True), ("eve", False), None
    ]  # fmt: skip


@pytest.mark.seed("configuration: requestCert", "configuration: sniOptions")
def test_a_name_may_ask_for_what_others_need_not_show(
    authority: Authority, client_authority: Authority, pair: Pair, client_pair: Pair, tmp_path: Path
) -> None:
    strict = authority.issue("strict.example")
    sni: dict[str, Any] = {"strict.example": {**pem(strict), "ca": client_authority.pem, "request_cert": True}}
    with served(secure=True, sni=sni, **pem(pair)) as server:
        with secured(server.address, trusting(authority)) as client:
            client.expect("NOOP", 250)
        with pytest.raises((ssl.SSLError, Closed, ConnectionError)):
            secured(server.address, trusting(authority), "strict.example")
        context = trusting(authority, client=client_pair, directory=tmp_path)
        with secured(server.address, context, "strict.example") as client:
            client.expect("NOOP", 250)
