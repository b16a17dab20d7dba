"""What an operator says: what is refused, in which words, and what is read."""

from __future__ import annotations

import ipaddress
import pickle
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat
from cryptography.x509 import ocsp

from mta_front.tls.certificates import self_signed
from mta_front.tls.contexts import TlsSettingsError, load
from mta_front.tls.options import NameOptions, TlsOptions
from tests.tls.authority import DAY, Authority, Pair, key_pem, new_key
from tests.tls.wires import connected, shown

VERSIONS = ["TLSv1.2", "TLSv1.3"]


def faults(options: TlsOptions, **given: Any) -> list[str]:
    """What is wrong with them, in words."""
    with pytest.raises(TlsSettingsError) as raised:
        load(options, **given)
    assert str(raised.value) == "\n".join(map(str, raised.value.faults))
    return [str(fault) for fault in raised.value.faults]


# -- what is refused --------------------------------------------------------------------------------------------------


Case = Callable[[Authority, Pair], tuple[dict[str, Any], list[str]]]


def _case(make: Case) -> Case:
    CASES[make.__name__.strip("_")] = make
    return make


CASES: dict[str, Case] = {}


@_case
def _nothing(_: Authority, __: Pair) -> tuple[dict[str, Any], list[str]]:
    return {"key": "", "cert": ()}, ["cert: is missing", "key: is missing"]


@_case
def _another_key(_: Authority, __: Pair) -> tuple[dict[str, Any], list[str]]:
    return {"key": key_pem(new_key("ecdsa"))}, ["key: PEM does not belong to the certificate in PEM"]


@_case
def _another_kind_of_key(_: Authority, __: Pair) -> tuple[dict[str, Any], list[str]]:
    return {"key": key_pem(new_key("ed25519"))}, ["key: PEM does not belong to the certificate in PEM"]


@_case
def _chain_upside_down(_: Authority, pair: Pair) -> tuple[dict[str, Any], list[str]]:
    root = Authority("Upside").pem
    return {"cert": root + pair.cert_pem}, ["cert: PEM must begin with the server's own certificate"]


@_case
def _key_for_certificate(_: Authority, pair: Pair) -> tuple[dict[str, Any], list[str]]:
    return {"cert": pair.key_pem}, ["cert: PEM holds no certificate, but PRIVATE KEY"]


@_case
def _certificate_for_key(_: Authority, pair: Pair) -> tuple[dict[str, Any], list[str]]:
    return {"key": pair.cert_pem}, ["key: PEM holds no private key, but CERTIFICATE"]


@_case
def _no_pem(_: Authority, __: Pair) -> tuple[dict[str, Any], list[str]]:
    return {"key": b"secret"}, ["key: PEM holds no private key, but no PEM at all"]


@_case
def _damaged(_: Authority, pair: Pair) -> tuple[dict[str, Any], list[str]]:
    key, cert = (pem[:60] + pem[100:] for pem in (pair.key_pem, pair.cert_pem))
    return {"key": key, "cert": cert}, [
        "cert: PEM holds a certificate that cannot be read",
        "key: PEM holds a private key that cannot be read",
    ]


@_case
def _encrypted(_: Authority, pair: Pair) -> tuple[dict[str, Any], list[str]]:
    text = ["key: PEM is encrypted: decrypt it, and let only its owner read it"]
    return {"key": pair.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))}, text


@_case
def _encrypted_in_the_old_way(_: Authority, pair: Pair) -> tuple[dict[str, Any], list[str]]:
    text = ["key: PEM is encrypted: decrypt it, and let only its owner read it"]
    openssl = PrivateFormat.TraditionalOpenSSL
    return {"key": pair.key.private_bytes(Encoding.PEM, openssl, BestAvailableEncryption(b"x"))}, text


@_case
def _two_keys_in_one(_: Authority, pair: Pair) -> tuple[dict[str, Any], list[str]]:
    return {"key": pair.key_pem * 2}, ["key: PEM holds several private keys: give each in a file of its own"]


@_case
def _expired(authority: Authority, _: Pair) -> tuple[dict[str, Any], list[str]]:
    bad = authority.issue("x", begins=-3 * DAY, ends=-DAY)
    when = f"{bad.certificate.not_valid_after_utc:%Y-%m-%d %H:%M:%S} UTC"
    return {"key": bad.key_pem, "cert": bad.cert_pem}, [f"cert: PEM expired at {when}"]


@_case
def _not_yet_valid(authority: Authority, _: Pair) -> tuple[dict[str, Any], list[str]]:
    bad = authority.issue("x", begins=DAY)
    when = f"{bad.certificate.not_valid_before_utc:%Y-%m-%d %H:%M:%S} UTC"
    return {"key": bad.key_pem, "cert": bad.cert_pem}, [f"cert: PEM is not valid before {when}"]


@_case
def _weak_rsa(authority: Authority, _: Pair) -> tuple[dict[str, Any], list[str]]:
    bad = authority.issue("x", "rsa1024")
    text = "PEM has a weak key: RSA of 1024 bits, at least 2048 are needed"
    return {"key": bad.key_pem, "cert": bad.cert_pem}, [f"cert: {text}", f"key: {text}"]


@_case
def _weak_ecdsa(authority: Authority, _: Pair) -> tuple[dict[str, Any], list[str]]:
    bad = authority.issue("x", "p192")
    text = "PEM has a weak key: ECDSA of 192 bits, at least 256 are needed"
    return {"key": bad.key_pem, "cert": bad.cert_pem}, [f"cert: {text}", f"key: {text}"]


@_case
def _weak_issuer(authority: Authority, _: Pair) -> tuple[dict[str, Any], list[str]]:
    bad = Authority("Weak Issuer", authority, "rsa1024").issue("x")
    return {"key": bad.key_pem, "cert": bad.chain_pem}, ["cert: OpenSSL does not accept it: ca key too small"]


@_case
def _two_of_a_kind(authority: Authority, pair: Pair) -> tuple[dict[str, Any], list[str]]:
    other = authority.issue("y")
    given = {"key": [pair.key_pem, other.key_pem], "cert": [pair.cert_pem, other.cert_pem]}
    return given, ["cert: PEM is a second ECDSA certificate: one of each kind"]


@_case
def _versions(_: Authority, __: Pair) -> tuple[dict[str, Any], list[str]]:
    return {"min_version": "TLSv1", "max_version": "SSLv3"}, [
        "min_version: must be TLSv1.2 or TLSv1.3, not 'TLSv1'",
        "max_version: must be TLSv1.2 or TLSv1.3, not 'SSLv3'",
    ]


@_case
def _versions_the_wrong_way_round(_: Authority, __: Pair) -> tuple[dict[str, Any], list[str]]:
    given = {"min_version": "TLSv1.3", "max_version": "TLSv1.2"}
    return given, ["max_version: is older than min_version, which is TLSv1.3"]


@_case
def _ciphers(_: Authority, __: Pair) -> tuple[dict[str, Any], list[str]]:
    return {"ciphers": "nonsense"}, ["ciphers: OpenSSL knows no cipher of 'nonsense'"]


@_case
def _weak_ciphers(_: Authority, __: Pair) -> tuple[dict[str, Any], list[str]]:
    given = {"ciphers": "AES128-SHA:NULL:aNULL:PSK:@SECLEVEL=0:TLS_AES_128_CCM_8_SHA256"}
    return given, [
        "ciphers: TLS_AES_128_CCM_8_SHA256 is no suite of TLS 1.3 that may be used",
        "ciphers: 'AES128-SHA:NULL:aNULL:PSK:@SECLEVEL=0' names weak ciphers only",
    ]


@_case
def _client_certificates_of_nobody(_: Authority, __: Pair) -> tuple[dict[str, Any], list[str]]:
    return {"request_cert": True}, ["ca: is needed where request_cert and reject_unauthorized are on"]


@_case
def _names(_: Authority, pair: Pair) -> tuple[dict[str, Any], list[str]]:
    own = NameOptions(key=pair.key_pem, cert=pair.cert_pem)
    sni = dict.fromkeys(("a b", "*", "x.*.example", "bücher.example", "A.example", "a.example."), own)
    bad = 'must be a host name in ASCII (xn--… for another), or "*." before one'
    return {"sni": sni}, [
        f"sni.a b: {bad}",
        f"sni.*: {bad}",
        f'sni."x.*.example": {bad}',
        f'sni."bücher.example": {bad}',
        'sni."a.example.": is there twice',
    ]


@_case
def _all_at_once(_: Authority, pair: Pair) -> tuple[dict[str, Any], list[str]]:
    sni = {"a.example": NameOptions(cert=pair.cert_pem), "b.example": NameOptions(ca="/no/such", request_cert=True)}
    return {"sni": sni, "min_version": "", "ca": b"what"}, [
        "min_version: must be TLSv1.2 or TLSv1.3, not ''",
        "ca: PEM holds no certificate, but no PEM at all",
        'sni."a.example".key: is missing',
        'sni."b.example".ca: /no/such cannot be read: No such file or directory',
        'sni."b.example".ca: is needed where request_cert and reject_unauthorized are on',
    ]


@_case
def _tickets_with_client_certificates(authority: Authority, _: Pair) -> tuple[dict[str, Any], list[str]]:
    sni = {"a.example": NameOptions(request_cert=True, ca=authority.pem)}
    text = "tickets: must be off where client certificates are asked for: resumption passes them by"
    return {"sni": sni, "tickets": True}, [text]


@pytest.mark.parametrize("case", CASES)
def test_what_cannot_be_used(authority: Authority, pair: Pair, case: str) -> None:
    given, expected = CASES[case](authority, pair)
    values: dict[str, Any] = {"key": pair.key_pem, "cert": pair.cert_pem}
    assert faults(TlsOptions(**(values | given))) == expected


def test_faults_name_the_file(pair: Pair, tmp_path: Path) -> None:
    _, cert = pair.files(tmp_path, "a")
    other = tmp_path / "other.key"
    other.write_bytes(key_pem(new_key("ecdsa")))
    assert faults(TlsOptions(key=str(other), cert=cert)) == [
        f"key: {other} does not belong to the certificate in {cert}"
    ]
    assert faults(TlsOptions(key=tmp_path, cert=str(tmp_path / "none"))) == [
        f"cert: {tmp_path / 'none'} cannot be read: No such file or directory",
        f"key: {tmp_path} cannot be read: Is a directory",
    ]


def test_expiry_is_judged_at_the_time_given(pair: Pair) -> None:
    options = TlsOptions(key=pair.key_pem, cert=pair.cert_pem)
    end = pair.certificate.not_valid_after_utc.timestamp()
    load(options, now=end - 1)
    assert "expired" in faults(options, now=end)[0]


def test_no_secret_in_any_text(pair: Pair) -> None:
    options = TlsOptions(key=pair.key_pem, cert=b"x", sni={"a": NameOptions(key=pair.key_pem.decode())})
    secret = pair.key_pem.splitlines()[1].decode()
    assert secret not in repr(options)
    assert secret not in "".join(faults(options))


def test_staples_that_cannot_be_used(authority: Authority, pair: Pair, tmp_path: Path) -> None:
    path = tmp_path / "staple"
    for content, text in (
        (b"", "is no OCSP response in DER"),
        (authority.ocsp(authority.issue("y")), "is about another certificate"),
        (authority.ocsp(pair, status=ocsp.OCSPCertStatus.REVOKED), "says that the certificate is revoked"),
        (
            ocsp.OCSPResponseBuilder.build_unsuccessful(ocsp.OCSPResponseStatus.TRY_LATER).public_bytes(Encoding.DER),
            "is the responder's TRY_LATER, and no answer",
        ),
    ):
        path.write_bytes(content)
        given = TlsOptions(key=pair.key_pem, cert=pair.cert_pem, ocsp_file=str(path))
        assert faults(given) == [f"ocsp_file: {path} {text}"]


# -- what is read -----------------------------------------------------------------------------------------------------


def test_files_lists_what_is_read_and_nothing_else(authority: Authority, pair: Pair, tmp_path: Path) -> None:
    """The master reads these, and the worker loads from bytes."""
    key, cert = pair.files(tmp_path, "a")
    other = authority.issue("b.example")
    other_key, other_cert = other.files(tmp_path, "b")
    root = tmp_path / "root.pem"
    root.write_bytes(authority.pem)
    staple = tmp_path / "staple.der"
    staple.write_bytes(authority.ocsp(other))
    options = TlsOptions(
        key=[key],
        cert=str(cert),
        ca=[str(root), authority.pem],
        sni={
            "b.example": NameOptions(key=other_key, cert=other_cert, ocsp_file=str(staple)),
            "c.example": NameOptions(key=other.key_pem.decode(), cert=other.cert_pem, ca=root),
        },
    )
    expected = {str(path) for path in (key, cert, root, other_key, other_cert, staple)}
    assert set(options.files()) == expected
    content = pickle.loads(pickle.dumps({path: Path(path).read_bytes() for path in options.files()}))
    for path in expected:
        Path(path).unlink()
    loaded = load(options, read=content.__getitem__)
    assert loaded.names == ("b.example", "c.example")


def test_expiry_of_everything(authority: Authority, pair: Pair, tmp_path: Path) -> None:
    key, cert = pair.files(tmp_path, "a")
    rsa, other = authority.issue("mx", "rsa", ends=7 * DAY), authority.issue("b.example", ends=9 * DAY)
    staple = tmp_path / "staple.der"
    staple.write_bytes(authority.ocsp(other))
    options = TlsOptions(
        key=[key, rsa.key_pem],
        cert=[cert, rsa.cert_pem],
        sni={
            "b.example": NameOptions(key=other.key_pem, cert=other.cert_pem, ocsp_file=str(staple)),
            "c.example": NameOptions(request_cert=False),
        },
    )
    found = [(each.name, each.source, each.serial) for each in load(options).expires_at]
    serials = [f"{each.certificate.serial_number:x}" for each in (pair, rsa, other)]
    assert found == [
        ("", str(cert), serials[0]),
        ("", "PEM", serials[1]),
        ("b.example", "PEM", serials[2]),
        ("b.example", str(staple), serials[2]),
    ]
    at = [each.at for each in load(options).expires_at]
    ends = [each.certificate.not_valid_after_utc.timestamp() for each in (pair, rsa, other)]
    assert at[:3] == ends
    assert at[3] < ends[2]


def test_a_self_signed_certificate_is_usable(tmp_path: Path) -> None:
    key, cert = self_signed("mx.ours.example")
    certificate = x509.load_pem_x509_certificate(cert)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost", "mx.ours.example"]
    assert names.get_values_for_type(x509.IPAddress) == [ipaddress.ip_address(text) for text in ("127.0.0.1", "::1")]
    assert certificate.not_valid_after_utc - certificate.not_valid_before_utc == timedelta(days=365, hours=1)
    assert shown(connected(load(TlsOptions(key=key, cert=cert)))[0]) == certificate
