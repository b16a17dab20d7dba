"""TLS with next hops: what each policy takes and refuses, what falls back to clear, and what REQUIRETLS wants."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from datetime import timedelta
from hashlib import sha256, sha512
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mta_front.relay.tlspolicy import Mode, TlsPolicy
from mta_front.relay.transports.opener import SmtpOptions, Target, Trust
from mta_front.relay.transports.smtp import SmtpTransport
from mta_front.settings.values import parse_bind
from mta_front.tls.dane import Tlsa
from mta_front.tls.facts import PeerCertificate
from mta_front.tls.outbound import names
from tests.relay.attempts import BODY, Noted, Try, deliver
from tests.relay.scripted import ScriptedHop, Talk, polite
from tests.relay.tlshops import TlsHop, server_context
from tests.tls.authority import Authority, Pair

Make = Callable[..., SmtpTransport]


@pytest.fixture
def make(tmp_path: Path, authority: Authority) -> Iterator[Make]:
    """`make(target, …, secure=…)`: trusts the authority."""
    ca = tmp_path / "ca.pem"
    ca.write_bytes(authority.pem)
    noted, made = Noted(), list[SmtpTransport]()

    def transport(*targets: Target, **more: Any) -> SmtpTransport:
        times = {"connect_timeout_s": 5.0, "timeout_s": 5.0, "trust": Trust([str(ca)])}
        options = SmtpOptions("smtp", "me.example", 4, **times | more)  # type: ignore[arg-type]
        made.append(SmtpTransport(targets, options, noted))
        return made[-1]

    yield transport
    for each in made:
        each.close()
    assert noted.faults == []


def hop_for(tmp_path: Path, pair: Pair, **more: Any) -> TlsHop:
    return TlsHop(server_context(tmp_path, pair), **more)


GOOD = "hop.example"


# -- policies ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["may", "encrypt", "verify"])
@pytest.mark.parametrize("secure", [False, True])
def test_a_good_certificate_pleases_everybody(
    make: Make, authority: Authority, tmp_path: Path, mode: Mode, secure: bool
) -> None:
    with hop_for(tmp_path, authority.issue(GOOD), secure=secure) as hop:
        transport = make(hop.target(mode), secure=secure)
        for _ in range(2):
            deliver(transport, one := Try())
            assert one.kinds == ["delivered"]
        assert hop.secured == len(hop.talks) == 1
        assert hop.bodies == [BODY] * 2
        assert hop.names == [GOOD]
        starts = [] if secure else [b"EHLO me.example", b"STARTTLS"]
        assert hop.talks[0].heard[: len(starts) + 2] == [*starts, b"EHLO me.example", b"MAIL FROM:<a@x.example>"]


BAD: dict[str, tuple[Callable[[Authority], Pair], str]] = {
    "of an unknown authority": (lambda _: Authority("Other").issue(GOOD), "unknown issuer"),
    "expired": (lambda ours: ours.issue(GOOD, ends=timedelta(days=-1), begins=timedelta(days=-9)), "expired"),
    "for another name": (lambda ours: ours.issue("other.example"), "is not for hop.example"),
    "for a name below": (lambda ours: ours.issue("a.hop.example"), "is not for hop.example"),
}


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize("bad", BAD)
def test_verify_tells_nothing_to_a_stranger(
    make: Make, authority: Authority, tmp_path: Path, bad: str, secure: bool
) -> None:
    pair, why = BAD[bad]
    with hop_for(tmp_path, pair(authority), secure=secure) as hop:
        deliver(make(hop.target("verify"), secure=secure), one := Try())
        assert one.only.kind == "deferred"
        assert one.only.text.startswith(f"4.7.5 TLS with {hop.name}: its certificate")
        assert why in one.only.text
        assert hop.verbs == [[] if secure else ["EHLO", "STARTTLS"]]


@pytest.mark.parametrize("mode", ["may", "encrypt"])
@pytest.mark.parametrize("bad", BAD)
def test_others_do_not_ask_who_it_is(make: Make, authority: Authority, tmp_path: Path, bad: str, mode: Mode) -> None:
    with hop_for(tmp_path, BAD[bad][0](authority)) as hop:
        deliver(make(hop.target(mode)), one := Try())
        assert one.kinds == ["delivered"]
        assert hop.secured == 1


@pytest.mark.parametrize("mode", ["encrypt", "verify"])
def test_no_starttls_no_mail(make: Make, mode: Mode) -> None:
    with ScriptedHop() as hop:
        deliver(make(Target(parse_bind(hop.address), GOOD, TlsPolicy(mode, (GOOD,)))), one := Try())
        assert one.only.kind == "deferred"
        assert one.only.text == "4.7.4 TLS is required, and the next hop does not offer STARTTLS"
        assert hop.verbs == [["EHLO"]]


def test_may_goes_on_in_clear_where_none_is_offered(make: Make) -> None:
    with ScriptedHop() as hop:
        deliver(make(Target(parse_bind(hop.address), GOOD, TlsPolicy("may"))), one := Try())
        assert one.kinds == ["delivered"]


def test_none_does_not_ask_for_it(make: Make, authority: Authority, tmp_path: Path) -> None:
    with hop_for(tmp_path, authority.issue(GOOD)) as hop:
        deliver(make(hop.target("none")), one := Try())
        assert one.kinds == ["delivered"]
        assert hop.secured == 0


# -- handshakes that fail ----------------------------------------------------------------------------------------------


VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
"""In TLS 1.3 we hear of it only when the handshake is over for us."""


def demanding(tmp_path: Path, authority: Authority, version: ssl.TLSVersion) -> ssl.SSLContext:
    """Wants a certificate that we do not have."""
    context = server_context(tmp_path, authority.issue(GOOD))
    context.minimum_version = context.maximum_version = version
    context.verify_mode = ssl.CERT_REQUIRED
    return context


@pytest.mark.parametrize("version", VERSIONS)
def test_may_goes_on_in_clear_where_the_handshake_fails_and_remembers_it(
    make: Make, authority: Authority, tmp_path: Path, version: ssl.TLSVersion
) -> None:
    with TlsHop(demanding(tmp_path, authority, version)) as hop:
        transport = make(hop.target("may"), max_messages=1)
        for _ in range(2):
            deliver(transport, one := Try())
            assert one.kinds == ["delivered"]
        assert [verbs[:3] for verbs in hop.verbs] == [["EHLO", "STARTTLS"], *[["EHLO", "MAIL", "RCPT"]] * 2]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("mode", ["encrypt", "verify"])
def test_others_do_not(make: Make, authority: Authority, tmp_path: Path, mode: Mode, version: ssl.TLSVersion) -> None:
    with TlsHop(demanding(tmp_path, authority, version)) as hop:
        deliver(make(hop.target(mode)), one := Try())
        assert one.only.kind == "deferred"
        assert one.only.text.startswith(f"4.7.5 TLS with {hop.name}: ")
        assert hop.verbs == [["EHLO", "STARTTLS"]]


def test_secure_never_goes_on_in_clear(make: Make) -> None:
    def greet(talk: Talk) -> None:
        talk.say(b"220 hop\r\n")
        while talk.stream.recv(65536):
            pass

    with ScriptedHop(greet) as hop:
        deliver(make(Target(parse_bind(hop.address), GOOD, TlsPolicy("may")), secure=True), one := Try())
        assert one.only.text == f"4.7.5 TLS with {GOOD}[127.0.0.1]:{hop.port}: TLS: plaintext"
        assert len(hop.talks) == 1


@pytest.mark.parametrize("mode", ["may", "encrypt", "verify"])
def test_what_comes_in_clear_behind_the_220_ends_the_connection(
    make: Make, authority: Authority, tmp_path: Path, mode: Mode
) -> None:
    """Else the 250 of whoever stands in between would answer our first command over TLS (as with CVE-2011-0411)."""
    go = b"220 go\r\n250-evil\r\n250 AUTH PLAIN\r\n"
    with hop_for(tmp_path, authority.issue(GOOD), go=go) as hop:
        deliver(make(hop.target(mode)), one := Try())
        assert one.only.kind == "deferred"
        assert one.only.text == "protocol error: input between the answer to STARTTLS and the handshake"
        assert hop.secured == 0


def test_a_hop_that_stalls_in_the_handshake_costs_its_time_and_no_more(make: Make) -> None:
    def stall(talk: Talk) -> None:
        talk.say(b"220 hop\r\n")
        while talk.hear() != b"STARTTLS":
            talk.say(b"250-hop\r\n250 STARTTLS\r\n")
        talk.say(b"220 go\r\n")
        while talk.stream.recv(65536):
            pass

    with ScriptedHop(stall) as hop:
        target = Target(parse_bind(hop.address), GOOD, TlsPolicy("encrypt"))
        deliver(make(target, connect_timeout_s=0.3), one := Try(), timeout_s=3.0)
        assert one.only.text == f"4.7.5 TLS with {GOOD}[127.0.0.1]:{hop.port}: timed out"


def test_a_large_message_and_an_end_without_close_notify(make: Make, authority: Authority, tmp_path: Path) -> None:
    body = b"x" * 76 + b"\r\n"
    with hop_for(tmp_path, authority.issue(GOOD), over_tls=lambda talk: polite(talk, GREETING=b"", FINAL=b"")) as hop:
        deliver(make(hop.target("verify")), one := Try(body=lambda: iter([body * 800] * 40)))
        assert hop.bodies == [body * 32_000]
        assert one.only.uncertain


# -- REQUIRETLS (RFC 8689) ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["may", "encrypt", "verify"])
def test_requiretls_goes_to_whom_we_know(make: Make, authority: Authority, tmp_path: Path, mode: Mode) -> None:
    with hop_for(tmp_path, authority.issue(GOOD)) as hop:
        deliver(make(hop.target(mode)), one := Try(require_tls=True))
        assert one.kinds == ["delivered"]
        assert hop.talks[0].heard[3] == b"MAIL FROM:<a@x.example> REQUIRETLS"


def test_and_to_nobody_else(make: Make, authority: Authority, tmp_path: Path) -> None:
    with hop_for(tmp_path, authority.issue("other.example")) as hop:
        deliver(make(hop.target("encrypt")), one := Try(require_tls=True))
        assert str(one.only) == "550 5.7.30 REQUIRETLS, and the next hop did not prove who it is"
        assert "MAIL" not in hop.verbs[0]


def test_but_to_the_next_one_that_we_know(make: Make, authority: Authority, tmp_path: Path) -> None:
    with (
        hop_for(tmp_path, authority.issue("other.example")) as stranger,
        ScriptedHop() as clear,
        hop_for(tmp_path, authority.issue(GOOD)) as known,
    ):
        targets = [stranger.target(), Target(parse_bind(clear.address)), known.target()]
        transport = make(*targets)
        deliver(transport, Try(), one := Try(require_tls=True))
        assert one.kinds == ["delivered"]
        assert (len(stranger.bodies), len(clear.bodies), len(known.bodies)) == (1, 0, 1)
        known.stop()
        deliver(make(*targets), one := Try(require_tls=True))
        assert one.only.kind == "deferred", "it may come back"


# -- DANE (RFC 7672) ---------------------------------------------------------------------------------------------------


def spki(certificate: x509.Certificate) -> bytes:
    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


@pytest.fixture(scope="module")
def below(authority: Authority) -> Authority:
    return Authority("Intermediate", authority)


def stranger() -> Pair:
    """What no authority would vouch for: self-made, expired, for another name."""
    return Authority("Nobody").issue("other.example", begins=timedelta(days=-9), ends=timedelta(days=-1))


PROOFS: dict[str, Callable[[Pair, Authority], Tlsa]] = {
    "3 1 1": lambda pair, _: Tlsa(3, 1, 1, sha256(spki(pair.certificate)).digest()),
    "3 1 2": lambda pair, _: Tlsa(3, 1, 2, sha512(spki(pair.certificate)).digest()),
    "3 1 0": lambda pair, _: Tlsa(3, 1, 0, spki(pair.certificate)),
    "3 0 1": lambda pair, _: Tlsa(3, 0, 1, sha256(der(pair.certificate)).digest()),
    "3 0 0": lambda pair, _: Tlsa(3, 0, 0, der(pair.certificate)),
    "2 1 1": lambda _, below: Tlsa(2, 1, 1, sha256(spki(below.certificate)).digest()),
    "2 0 2": lambda _, below: Tlsa(2, 0, 2, sha512(der(below.certificate)).digest()),
    "2 0 0": lambda _, below: Tlsa(2, 0, 0, der(below.certificate)),
}
NOTHING = Tlsa(3, 1, 1, bytes(32))


@pytest.mark.parametrize("proof", PROOFS)
def test_dane_needs_no_authority_of_the_system(make: Make, tmp_path: Path, below: Authority, proof: str) -> None:
    pair = below.issue(GOOD)
    with hop_for(tmp_path, pair) as hop:
        target = hop.target("dane", tlsa=(NOTHING, PROOFS[proof](pair, below)))
        deliver(make(target, trust=Trust()), one := Try(require_tls=True))
        assert one.kinds == ["delivered"], one.only.text


def test_dane_ee_asks_for_neither_name_nor_date(make: Make, tmp_path: Path) -> None:
    pair = stranger()
    with hop_for(tmp_path, pair) as hop:
        deliver(make(hop.target("dane", tlsa=(Tlsa(3, 1, 1, sha256(spki(pair.certificate)).digest()),))), one := Try())
        assert one.kinds == ["delivered"]


@pytest.mark.parametrize(
    ("issued", "why"),
    [
        ({"name": "other.example"}, "is not for hop.example"),
        ({"name": GOOD, "begins": timedelta(days=-9), "ends": timedelta(days=-1)}, "expired"),
    ],
)
def test_dane_ta_asks_for_both(make: Make, tmp_path: Path, below: Authority, issued: dict[str, Any], why: str) -> None:
    pair = below.issue(**issued)
    with hop_for(tmp_path, pair) as hop:
        deliver(make(hop.target("dane", tlsa=(PROOFS["2 1 1"](pair, below),))), one := Try())
        assert one.only.kind == "deferred"
        assert why in one.only.text


@pytest.mark.parametrize("usage", [0, 1, 2, 3])
def test_dane_that_proves_nothing_is_no_proof(make: Make, tmp_path: Path, authority: Authority, usage: int) -> None:
    """Not even with a certificate that any other client would take; PKIX-TA and PKIX-EE never do (RFC 7672 §3.1.3)."""
    pair = authority.issue(GOOD)
    matching = sha256(spki(pair.certificate)).digest() if usage < 2 else bytes(32)
    with hop_for(tmp_path, pair) as hop:
        deliver(make(hop.target("dane", tlsa=(Tlsa(usage, 1, 1, matching),))), one := Try())
        assert one.only.text.endswith("no TLSA record matches its certificate")
        assert hop.verbs == [["EHLO", "STARTTLS"]]


def test_an_authority_that_issued_something_else_is_no_anchor(make: Make, tmp_path: Path, below: Authority) -> None:
    """A chain may carry any certificate: the record must match one that did issue ours."""
    other = Authority("Other")
    pair = other.issue(GOOD)
    with hop_for(tmp_path, Pair(pair.key, pair.certificate, (below.certificate,))) as hop:
        deliver(make(hop.target("dane", tlsa=(PROOFS["2 1 1"](pair, below),))), one := Try())
        assert "its certificate does not verify" in one.only.text


@pytest.mark.parametrize(
    "record", [Tlsa(3, 2, 1, bytes(32)), Tlsa(3, 1, 3, bytes(32)), Tlsa(3, 1, 1, bytes(31)), Tlsa(3, 1, 0, b""),
               Tlsa(0, 1, 1, bytes(32)), Tlsa(1, 1, 1, bytes(32)), Tlsa(4, 1, 1, bytes(32))]
)  # fmt: skip
def test_records_that_cannot_be_used(record: Tlsa) -> None:
    assert not record.usable


# -- names -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "host", "fits"),
    [
        ("mx.example.net", "mx.example.net", True),
        ("MX.example.NET", "mx.EXAMPLE.net.", True),
        ("*.example.net", "mx.example.net", True),
        ("*.example.net", "a.mx.example.net", False),
        ("*.example.net", "example.net", False),
        ("*.net", "example.net", False),
        ("*", "localhost", False),
        ("m*.example.net", "mx.example.net", False),
        ("mx.example.net", "mx.example.net.evil.example", False),
        ("127.0.0.1", "127.0.0.1", False),
    ],
)
def test_names_of_certificates(name: str, host: str, fits: bool) -> None:
    certificate = PeerCertificate("CN=" + host, host, (("dns", name),), "", True, "", b"")
    assert names(certificate, host) == fits


def test_addresses_of_certificates() -> None:
    certificate = PeerCertificate("", "", (("ip", "::1"), ("ip", "127.0.0.1")), "", True, "", b"")
    assert names(certificate, "127.0.0.1")
    assert names(certificate, str(ip_address("0:0::1")))
    assert not names(certificate, "127.0.0.2")
