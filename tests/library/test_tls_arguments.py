"""What is wrong with TLS in a call of SMTPServer is said at once, by option; and no key is ever shown."""

from __future__ import annotations

import traceback
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from mta_front import SMTPServer
from mta_front.arguments import checked
from tests.tls.authority import Authority, Pair

PEM_OR_PATH = "must be PEM or the path of a PEM file, as text, bytes or Path, or a list of them"

BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"key": 1}, TypeError, f"key=…: {PEM_OR_PATH}"),
    ({"key": None}, TypeError, f"key=…: {PEM_OR_PATH}"),
    ({"cert": {"a": 1}}, TypeError, f"cert=…: {PEM_OR_PATH}"),
    ({"ca": ["/x", 1]}, TypeError, f"ca=…: {PEM_OR_PATH}"),
    ({"key": ""}, ValueError, f"key=…: {PEM_OR_PATH}"),
    ({"key": []}, ValueError, f"key=…: {PEM_OR_PATH}"),
    ({"key": "MIIEvQIBADAN\nBgkqhkiG9w0B"}, ValueError, f"key=…: {PEM_OR_PATH}"),
    ({"request_cert": 1}, TypeError, "request_cert=1: must be True or False"),
    ({"tickets": "on"}, TypeError, "tickets='on': must be True or False"),
    ({"ciphers": ["AES"]}, TypeError, "ciphers=['AES']: must be text"),
    ({"ciphers": "RC4-MD5"}, ValueError, "ciphers: OpenSSL knows no cipher of 'RC4-MD5'"),
    ({"min_version": 1.2}, TypeError, "min_version=1.2: must be text"),
    ({"min_version": "TLSv1.1"}, ValueError, "min_version: must be TLSv1.2 or TLSv1.3, not 'TLSv1.1'"),
    ({"max_version": "SSLv3"}, ValueError, "max_version: must be TLSv1.2 or TLSv1.3, not 'SSLv3'"),
    ({"ocsp_file": b"x"}, TypeError, "ocsp_file=b'x': must be the path of a file"),
    ({"ocsp_file": "/no/such"}, ValueError, "ocsp_file: /no/such cannot be read: No such file or directory"),
    ({"request_cert": True}, ValueError, "ca: is needed where request_cert and reject_unauthorized are on"),
    ({"sni": [("a.example", {})]}, TypeError, 'sni=…: must be a dictionary like {"mail.example.com": {"key": …'),
    ({"sni": {"a.example": "cert"}}, TypeError, "sni=…: must be a dictionary like"),
    ({"sni": {"a.example": {"crt": "x"}}}, TypeError, "sni.\"a.example\" has no option 'crt'; did you mean 'cert'?"),
    ({"sni": {"a.example": {"requestCert": True}}}, TypeError, "did you mean 'request_cert'?"),
    ({"sni": {"a.example": {"tickets": True}}}, TypeError, "sni.\"a.example\" has no option 'tickets'"),
    ({"sni": {"a.example": {"key": 1}}}, TypeError, f'sni."a.example".key=…: {PEM_OR_PATH}'),
    ({"sni": {"a.example": {"cert": "/no/such"}}}, ValueError, 'sni."a.example".cert: /no/such cannot be read'),
    ({"sni": {"a b": {}}}, ValueError, "sni.a b: must be a host name"),
]


@pytest.mark.parametrize(("given", "kind", "text"), BAD)
def test_a_bad_value_is_named_with_what_is_wrong(given: dict[str, Any], kind: type[Exception], text: str) -> None:
    with pytest.raises(kind) as caught:
        SMTPServer(**given)
    assert type(caught.value) is kind
    assert text in str(caught.value)


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(ValueError) as caught:
        SMTPServer(key="/no/key", cert="/no/cert", min_version="SSLv3")
    assert str(caught.value).splitlines() == [
        "min_version: must be TLSv1.2 or TLSv1.3, not 'SSLv3'",
        "cert: /no/cert cannot be read: No such file or directory",
        "key: /no/key cannot be read: No such file or directory",
    ]


def test_pairs_that_are_none(authority: Authority, pair: Pair) -> None:
    other = authority.issue("other.example")
    expired = authority.issue("old.example", begins=timedelta(days=-9), ends=timedelta(days=-1))
    bad: list[tuple[dict[str, Any], str]] = [
        ({"key": pair.key_pem}, "cert: is missing"),
        ({"cert": pair.chain_pem}, "key: is missing"),
        ({"key": other.key_pem, "cert": pair.chain_pem}, "key: PEM does not belong to the certificate in PEM"),
        ({"key": pair.chain_pem, "cert": pair.chain_pem}, "key: PEM holds no private key, but CERTIFICATE"),
        ({"key": expired.key_pem, "cert": expired.chain_pem}, "cert: PEM expired at "),
        ({"key": pair.key_pem, "cert": b"nothing"}, "cert: PEM holds no certificate, but no PEM at all"),
    ]
    for given, text in bad:
        with pytest.raises(ValueError) as caught:
            SMTPServer(**given)
        assert str(caught.value).startswith(text)


def test_keys_are_never_shown(pair: Pair, authority: Authority, tmp_path: Path) -> None:
    """Not in a repr, not in what is said of a mistake, whatever was mistaken for what."""
    secret = pair.key_pem.decode().splitlines()[1]
    texts = []
    for key in (
        pair.key_pem,
        pair.key_pem.decode(),
        secret + "\n" + secret,
        secret + secret,
        [pair.key_pem, 1],
        {"a": pair.key_pem},
    ):
        for given in (
            {"key": key},
            {"cert": key},
            {"ca": key},
            {"key": key, "cert": authority.issue("x.example").chain_pem},
            {"sni": {"a.example": {"key": key}}},
            {"sni": {"a.example": key}},
            {"sni": key},
        ):
            try:
                SMTPServer(**given)
            except (TypeError, ValueError) as error:
                texts.append("".join(traceback.format_exception_only(error)))
    with SMTPServer(key=pair.key_pem, cert=pair.chain_pem, sni={"a.example": {"key": pair.key_pem.decode(),
                    "cert": pair.chain_pem}}) as server:  # fmt: skip
        texts.append(repr(server) + repr(vars(server)))
    texts.append(repr(checked(None, {"key": pair.key_pem, "cert": pair.chain_pem})))
    assert len(texts) > 30
    assert [text for text in texts if secret[:16] in text] == []
