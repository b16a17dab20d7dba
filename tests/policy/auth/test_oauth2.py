"""The backend `oauth2`, from a patched process: real tokens, keys over HTTP, introspection."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from hypothesis import given
from hypothesis import strategies as st

from mta_front.policy.auth.backend import Unavailable
from mta_front.policy.auth.jwks import KeySet
from mta_front.policy.auth.oauth2 import OAuth2Backend, Rules
from mta_front.policy.auth.web import Web as Client
from tests.policy.auth.asker import Asker
from tests.policy.auth.issuer import AUDIENCE, ISSUER, Issuer
from tests.policy.auth.people import SESSION, token
from tests.policy.auth.webserver import Web, serving


def _text(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).decode().rstrip("=")


RULES = Rules(issuer=ISSUER, audience=AUDIENCE, required_scope="mail.send")


@pytest.fixture(scope="module")
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture
def web(issuer: Issuer) -> Iterator[Web]:
    issuer.down = False
    with serving(issuer.answer) as web:
        yield web


@pytest.fixture
def backend(web: Web) -> Iterator[OAuth2Backend]:
    """In this process, where a wait blocks; what it is like between greenlets, `Asker` shows."""
    made = OAuth2Backend(RULES, KeySet(Client("keys", web.url, timeout_s=5.0)), None)
    yield made
    made.close()


def name(backend: OAuth2Backend, access_token: str, username: str = "") -> str | None:
    user = backend.verify(token(username, access_token), SESSION)
    return None if user is None else str(user)


@pytest.mark.parametrize("kid", ["rsa", "ec", "ed"])
def test_a_good_token(backend: OAuth2Backend, issuer: Issuer, kid: str) -> None:
    assert name(backend, issuer.token(kid)) == "ann@example.net"
    assert name(backend, issuer.token(kid), "Ann@Example.net") == "ann@example.net"
    assert name(backend, issuer.token(kid, named=None)) == "ann@example.net", "a token need not name its key"
    assert name(backend, issuer.token(kid), "bob@example.net") is None, "not somebody else's"


GOOD: list[dict[str, Any]] = [
    {"aud": ["other", AUDIENCE]},
    {"nbf": None},
    {"scope": None, "scp": ["mail.send"]},
    {"scope": None, "scp": "mail.send"},
    {"email_verified": True},
]
BAD: list[dict[str, Any]] = [
    {"exp": 1},
    {"exp": None},
    {"exp": "tomorrow"},
    {"exp": float("inf")},
    {"nbf": 4_000_000_000},
    {"iss": "https://evil.example"},
    {"iss": None},
    {"iss": [ISSUER]},
    {"aud": "another"},
    {"aud": None},
    {"aud": []},
    {"aud": {"a": 1}},
    {"email": None},
    {"email": ""},
    {"email": ["ann@example.net"]},
    {"email": "a\r\nb@example.net"},
    {"email_verified": False},
    {"scope": "openid"},
    {"scope": None},
    {"scope": 7},
    {"scope": "mail.sendall"},
]


@pytest.mark.parametrize("claims", GOOD, ids=str)
def test_good_claims(backend: OAuth2Backend, issuer: Issuer, claims: dict[str, Any]) -> None:
    assert name(backend, issuer.token(**claims)) == "ann@example.net"


@pytest.mark.parametrize("claims", BAD, ids=str)
def test_bad_claims(backend: OAuth2Backend, issuer: Issuer, claims: dict[str, Any]) -> None:
    if claims.get("iss", "") in ("", None) or isinstance(claims["iss"], str):
        assert name(backend, issuer.token(**claims)) is None
    else:  # what PyJWT would not make
        assert name(backend, forged(issuer, "ec", claims)) is None


def forged(issuer: Issuer, kid: str, claims: dict[str, Any]) -> str:
    algorithm, key = issuer.keys[kid]
    return jwt.api_jws.encode(json.dumps(issuer.claims(**claims)).encode(), key, algorithm, headers={"kid": kid})


def test_the_attacks_on_jwt(backend: OAuth2Backend, issuer: Issuer) -> None:
    good = issuer.token("rsa")
    head, body, signature = good.split(".")

    def with_head(fields: dict[str, Any], signature: str = signature) -> str:
        return f"{_text(json.dumps(fields).encode())}.{body}.{signature}"

    assert name(backend, with_head({"alg": "none", "typ": "JWT"}, "")) is None
    assert name(backend, with_head({"alg": "None", "kid": "rsa"}, "")) is None
    # RS256 turned into HS256, with the public key as the secret (CVE-2015-9235)
    public = issuer.keys["rsa"][1].public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    hs = _text(json.dumps({"alg": "HS256", "kid": "rsa"}).encode())
    mac = hmac.digest(pem, f"{hs}.{body}".encode(), "sha256")
    assert name(backend, f"{hs}.{body}.{_text(mac)}") is None
    # the shared secret that stands in the set
    hs = _text(json.dumps({"alg": "HS256", "kid": "secret"}).encode())
    assert (
        name(backend, f"{hs}.{body}.{_text(hmac.digest(b'secret', f'{hs}.{body}'.encode(), hashlib.sha256))}") is None
    )
    # a key of the attacker's in the header, and one behind a URL
    other = Issuer()
    own = json.loads(jwt.get_algorithm_by_name("RS256").to_jwk(other.keys["rsa"][1].public_key()))
    for extra in (
        {"jwk": own},
        {"jku": "https://evil.example/jwks"},
        {"x5u": "https://evil.example/x"},
        {"crit": ["x"]},
    ):
        forged_token = jwt.encode(issuer.claims(), other.keys["rsa"][1], "RS256", headers={"kid": "rsa", **extra})
        assert name(backend, forged_token) is None
    assert name(backend, other.token("rsa")) is None
    # a key of another kind, an algorithm that is not allowed
    assert name(backend, issuer.token("rsa", named="ec")) is None
    assert name(backend, issuer.token("rsa", algorithm="RS512")) is None
    assert name(backend, issuer.token("rsa", algorithm="PS256")) == "ann@example.net", "allowed, and the key fits"
    # a changed body, a changed signature
    changed = _text(json.dumps(issuer.claims(email="admin@example.net")).encode())
    assert name(backend, f"{head}.{changed}.{signature}") is None
    assert name(backend, f"{head}.{body}.{_text(b'x' * 256)}") is None
    deep = _text(b'{"alg":' + b"[" * 6000)
    for odd in (
        "",
        ".",
        "..",
        "...",
        "a.b.c",
        "\0",
        "é",
        good + ".",
        f".{body}.{signature}",
        "x" * 12_000,
        f"{deep}.e.e",
    ):
        assert name(backend, odd) is None
    for kid in (7, None, ["rsa"], {"a": 1}, "../../etc/passwd", "'"):
        assert name(backend, with_head({"alg": "RS256", "kid": kid})) is None


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@given(st.text() | st.lists(st.binary().map(_text), min_size=3, max_size=3).map(".".join))
def test_nothing_but_no_is_said_to_anything_else(access_token: str) -> None:
    nobody = OAuth2Backend(RULES, KeySet(Client("keys", "http://127.0.0.1:1/", timeout_s=1.0)), None)
    assert name(nobody, access_token) is None


def test_keys_are_kept_and_asked_for_again_but_not_by_strangers(web: Web, issuer: Issuer) -> None:
    clock = Clock()
    keys = KeySet(Client("keys", web.url, timeout_s=5.0), refresh_s=3600, refresh_least_s=30, clock=clock)
    backend = OAuth2Backend(RULES, keys, None)
    for _ in range(5):
        assert name(backend, issuer.token())
    assert len(web.heard) == 1
    for number in range(50):  # anybody can name keys that do not exist
        clock.now += 0.5
        assert name(backend, issuer.token(named=f"invented-{number}")) is None
    assert len(web.heard) == 1
    issuer.add_key("new", "ES256")
    assert name(backend, issuer.token("new")) is None, "not before it is time"
    clock.now += 5
    assert name(backend, issuer.token("new")), "and then it is noticed"
    assert len(web.heard) == 2
    issuer.hidden.add("new")
    clock.now += 3600
    assert name(backend, issuer.token("new")) is None, "taken back"
    assert len(web.heard) == 3
    issuer.down = True
    clock.now += 3600
    assert name(backend, issuer.token()), "the keys of before go on"
    assert name(backend, issuer.token()), "and the issuer is not asked at each login"
    assert len(web.heard) == 4
    keys.close()


@pytest.mark.parametrize(
    "answer", [(503, {}), (200, b"no JSON"), (200, ["odd"]), (200, {"keys": 7}), (200, b"[" * 99_999)]
)
def test_without_keys_nobody_can_know(answer: tuple[int, Any], issuer: Issuer) -> None:
    with serving(lambda heard: answer) as web:
        backend = OAuth2Backend(RULES, KeySet(Client("keys", web.url, timeout_s=5.0)), None)
        with pytest.raises(Unavailable) as raised:
            backend.verify(token("", issuer.token()), SESSION)
        assert issuer.token()[:20] not in str(raised.value)
        assert name(backend, "no token at all") is None, "that much is known"
        backend.close()


def settings(**keys: Any) -> dict[str, Any]:
    return {
        "backends": ["oauth2"],
        "oauth2": {
            "issuer": ISSUER,
            "audience": AUDIENCE,
            "required_scope": "mail.send",
            "client_id": "front",
            "client_secret": "s&cret",
            **keys,
        },
    }


def test_introspection_and_keys_together(web: Web, issuer: Issuer, tmp_path: Path) -> None:
    """A JWT is judged here; anything else is shown to the issuer."""
    issuer.opaque["opaque-token"] = issuer.claims(active=True)
    with Asker(tmp_path, settings(jwks_url=web.url, introspection_url=web.url)) as asker:
        assert asker.methods == {"XOAUTH2", "OAUTHBEARER"}
        assert asker.log_in("", access_token=issuer.token()) == "yes ann@example.net"
        assert {heard.body for heard in web.heard} == {b""}, "not shown"
        assert asker.log_in("ann@example.net", access_token="opaque-token", method="XOAUTH2") == "yes ann@example.net"
        assert asker.log_in("bob@example.net", access_token="opaque-token") == "no"
        assert asker.log_in("", access_token="another-one") == "no"
        assert asker.log_in("", access_token=issuer.token(exp=1)) == "no"
        outcomes = asker.log_in("", access_token="opaque-token", times=50)
        assert set(outcomes) == {"yes ann@example.net"}
    assert web.connections <= 22


ACTIVE: list[tuple[dict[str, Any], bool]] = [
    ({}, True),
    ({"exp": None, "nbf": None}, True),
    ({"aud": [AUDIENCE, "x"]}, True),
    ({"active": False}, False),
    ({"exp": 1}, False),
    ({"exp": "x"}, False),
    ({"nbf": 4_000_000_000}, False),
    ({"iss": "https://evil.example"}, False),
    ({"iss": None}, False),
    ({"aud": "x"}, False),
    ({"aud": None}, False),
    ({"scope": None}, False),
    ({"email": None}, False),
]


def test_what_the_issuer_says_of_a_token_must_fit(web: Web, issuer: Issuer, tmp_path: Path) -> None:
    with Asker(tmp_path, settings(introspection_url=web.url)) as asker:
        for number, (changed, good) in enumerate(ACTIVE):
            issuer.opaque[f"t{number}"] = issuer.claims(**({"active": True} | changed))
            assert asker.log_in("", access_token=f"t{number}").startswith("yes") is good, changed
        issuer.opaque["odd"] = {"active": "yes"}
        assert asker.log_in("", access_token="odd") == (
            "unavailable: auth.oauth2.introspection_url: its answer is no introspection"
        )


def test_when_the_issuer_does_not_know_us_it_is_no_no(web: Web, tmp_path: Path) -> None:
    with Asker(tmp_path, settings(introspection_url=web.url, client_secret="wrong-secret")) as asker:
        outcome = asker.log_in("", access_token="some-opaque-token")
        assert outcome == "unavailable: auth.oauth2.introspection_url: answered 401"
    for secret in ("some-opaque-token", "wrong-secret"):
        assert secret not in asker.seen


def test_what_clients_are_told_of_a_refused_token() -> None:
    rules = Rules(
        required_scope="mail.send", openid_configuration="https://login.example.net/.well-known/openid-configuration"
    )
    backend = OAuth2Backend(rules, None, None)
    assert backend.rejection("XOAUTH2") == {"status": "401", "schemes": "bearer", "scope": "mail.send"}
    assert backend.rejection("OAUTHBEARER") == {
        "status": "invalid_token",
        "scope": "mail.send",
        "openid-configuration": rules.openid_configuration,
    }
    assert OAuth2Backend(Rules(), None, None).rejection("OAUTHBEARER") == {"status": "invalid_token"}
