"""Client certificates: each name with a policy of its own, and no way round it."""

from __future__ import annotations

import hashlib
import ipaddress
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL

from mta_front.tls.channel import Channel
from mta_front.tls.contexts import Contexts
from mta_front.tls.failure import TlsFailure
from mta_front.tls.options import NameOptions
from tests.tls.authority import DAY, Authority, Pair
from tests.tls.wires import client, client_context, connected, contexts, shake

VERSIONS = ["TLSv1.2", "TLSv1.3"]


# -- client certificates ----------------------------------------------------------------------------------------------


def strict(client_authority: Authority, **more: Any) -> dict[str, Any]:
    return {"ca": client_authority.pem, "request_cert": True} | more


@pytest.mark.parametrize("version", VERSIONS)
def test_facts_of_a_client_certificate(pair: Pair, client_authority: Authority, version: str) -> None:
    names = [
        x509.RFC822Name("alice@ours.example"),
        x509.DNSName("laptop.ours.example"),
        x509.UniformResourceIdentifier("spiffe://ours/alice"),
        x509.IPAddress(ipaddress.ip_address("2001:db8::1")),
        x509.DirectoryName(x509.Name([])),
    ]
    alice = client_authority.issue("alice", client=True, sans=names)
    facts = connected(contexts(pair, **strict(client_authority)), client_context(None, version, alice))[1].facts
    assert facts is not None
    shown = facts.peer_certificate
    assert shown is not None
    assert (shown.subject, shown.verified, shown.unverified) == ("CN=alice", True, "")
    assert shown.sans == (
        ("email", "alice@ours.example"),
        ("dns", "laptop.ours.example"),
        ("uri", "spiffe://ours/alice"),
        ("ip", "2001:db8::1"),
    )
    der = alice.certificate.public_bytes(Encoding.DER)
    assert (shown.der, shown.fingerprint) == (der, hashlib.sha256(der).hexdigest())


def bad_clients(client_authority: Authority) -> dict[str, tuple[Pair | None, str]]:
    """Who shows what, and why it is not accepted."""
    return {
        "none": (None, "missing"),
        "wrong CA": (Authority("Client Root").issue("alice", client=True), "unknown issuer"),
        "expired": (client_authority.issue("alice", client=True, begins=-3 * DAY, ends=-DAY), "expired"),
        "not yet": (client_authority.issue("alice", client=True, begins=DAY), "not yet valid"),
        "a server's": (client_authority.issue("alice"), "not for clients"),
    }


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("who", ["none", "wrong CA", "expired", "not yet", "a server's"])
def test_a_bad_client_certificate(pair: Pair, client_authority: Authority, version: str, who: str) -> None:
    bad, why = bad_clients(client_authority)[who]
    ends = client(client_context(None, version, bad)), contexts(pair, **strict(client_authority)).channel()
    with pytest.raises(TlsFailure) as raised:
        shake(*ends)
    assert (raised.value.reason, raised.value.detail) == ("client_certificate", why)
    assert ends[1].take()  # an alert

    lax = contexts(pair, **strict(client_authority, reject_unauthorized=False))
    facts = connected(lax, client_context(None, version, bad))[1].facts
    assert facts is not None
    if bad is None:
        assert facts.peer_certificate is None
    else:
        assert facts.peer_certificate is not None
        assert (facts.peer_certificate.verified, facts.peer_certificate.unverified) == (False, why)


@pytest.mark.parametrize("version", VERSIONS)
def test_each_name_has_its_own_policy(
    authority: Authority, pair: Pair, client_authority: Authority, client_pair: Pair, version: str
) -> None:
    """DECISIONS W8: set_context() alone leaves the verify mode of the context that the connection began with."""
    other_root = Authority("Other Client Root")
    sni = {
        "strict.example": NameOptions(request_cert=True, ca=client_authority.pem),
        "lax.example": NameOptions(request_cert=True, reject_unauthorized=False),
        "other.example": NameOptions(request_cert=True, ca=other_root.pem),
    }
    server = contexts(pair, sni=sni)
    wanted = {"strict.example": (False, True), "other.example": (False, False), "": (True, True)}
    for name, (without, with_one) in wanted.items():
        for shown_pair, works in ((None, without), (client_pair, with_one)):
            ends = client(client_context(None, version, shown_pair), name), server.channel()
            if works:
                shake(*ends)
            else:
                with pytest.raises(TlsFailure, match="client_certificate"):
                    shake(*ends)
    asked = [name.rfc4514_string() for name in _authorities_asked_for(server, "strict.example")]
    assert asked == ["CN=Client Root"]


def _authorities_asked_for(server: Contexts, name: str) -> list[x509.Name]:
    one, other = client(client_context(version="TLSv1.2"), name), server.channel()
    one.handshake()
    other.feed(one.take())
    other.handshake()
    one.feed(other.take())
    one.handshake()
    return one._connection.get_client_ca_list(as_cryptography=True)


def test_a_name_is_as_strict_as_its_listener_unless_it_says_otherwise(
    authority: Authority, pair: Pair, client_authority: Authority
) -> None:
    own = {"key": pair.key_pem, "cert": pair.cert_pem}
    sni = {"new.example": NameOptions(**own), "open.example": NameOptions(**own, request_cert=False)}  # type: ignore[arg-type]
    server = contexts(authority.issue("x"), **strict(client_authority), sni=sni)
    for name in ("new.example", "", "unknown.example"):
        with pytest.raises(TlsFailure, match="client_certificate"):
            shake(client(name=name), server.channel())
    shake(client(name="open.example"), server.channel())


# -- resumption -------------------------------------------------------------------------------------------------------


def _resume(server: Contexts, context: SSL.Context, session: SSL.Session, name: str) -> tuple[Channel, Channel]:
    ends = client(context, name), server.channel()
    ends[0]._connection.set_session(session)
    shake(*ends)
    assert ends[0].read(1) is None
    return ends


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("tickets", [False, True])
def test_tickets(pair: Pair, version: str, tickets: bool) -> None:
    """A session is offered again: with tickets the server sends no certificate; otherwise a full handshake."""
    context = client_context(version=version)
    server = contexts(pair, tickets=tickets)
    first = connected(server, context)[0]
    session = first._connection.get_session()
    assert session is not None
    sizes = []
    for contexts_now in (server, contexts(pair, tickets=tickets)):
        one, other = client(context), contexts_now.channel()
        one._connection.set_session(session)
        one.handshake()
        other.feed(one.take())
        other.handshake()
        flight = other.take()
        sizes.append(len(flight))
        one.feed(flight)
        shake(one, other)
    certificate = len(pair.certificate.public_bytes(Encoding.DER))
    assert (sizes[1] - sizes[0] > certificate) is tickets  # other contexts, as in another worker: never an error


@pytest.mark.parametrize("version", VERSIONS)
def test_no_resumption_from_a_lax_name_to_a_strict_one(pair: Pair, client_authority: Authority, version: str) -> None:
    """CVE-2025-23419. What the client got under the lax name does not spare it its certificate."""
    context = client_context(version=version)
    server = contexts(pair, sni={"strict.example": NameOptions(request_cert=True, ca=client_authority.pem)})
    session = connected(server, context, "lax.example")[0]._connection.get_session()
    assert session is not None
    _resume(server, context, session, "lax.example")
    with pytest.raises(TlsFailure) as raised:
        _resume(server, context, session, "strict.example")
    assert (raised.value.reason, raised.value.detail) == ("client_certificate", "missing")
