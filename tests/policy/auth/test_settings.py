"""The settings `[auth]`: defaults, what is refused, what becomes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from mta_front.policy.auth.offer import offer_of
from mta_front.settings.auth import Auth, faults_of
from tests.policy.auth.people import CHEAP_ARGON2, PASSWORD, SCRAM_KEYS


def auth(**keys: Any) -> Auth:
    return Auth.model_validate(keys)


def faults(settings: Auth) -> list[str]:
    return [f"{'.'.join(map(str, paths[0]))}: {message}" for paths, message in faults_of(settings)]


def test_defaults_are_the_hook_alone() -> None:
    assert auth().backends == ["hook"]
    assert faults(auth()) == []
    assert offer_of(auth()).methods == frozenset()
    assert offer_of(auth(), frozenset({"PLAIN"})).methods == {"PLAIN"}


GOOD_OAUTH2 = {"jwks_url": "https://i.example/jwks", "issuer": "https://i.example", "audience": "mail"}


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"backends": ["file"]}, ["auth.file.path: must name a file"]),
        ({"backends": ["dovecot"]}, ["auth.dovecot.path: must name a socket"]),
        ({"backends": ["http"]}, ["auth.http.url: must be set"]),
        ({"backends": ["http"], "http": {"url": "http://auth.internal/"}}, ["auth.http.url: must be https://"]),
        ({"backends": ["http"], "http": {"url": "http://10.0.0.1/"}}, ["auth.http.url: must be https://"]),
        ({"backends": ["http"], "http": {"url": "http://10.0.0.1/", "insecure": True}}, []),
        ({"backends": ["http"], "http": {"url": "http://127.0.0.1:8080/auth"}}, []),
        ({"backends": ["http"], "http": {"url": "http://[::1]:8080/auth"}}, []),
        ({"backends": ["http"], "http": {"url": "http://localhost/auth"}}, []),
        ({"backends": ["http"], "http": {"url": "https://auth.internal/"}}, []),
        ({"backends": ["oauth2"]}, ["auth.oauth2.jwks_url: or introspection_url must be set"]),
        ({"backends": ["oauth2"], "oauth2": GOOD_OAUTH2}, []),
        ({"backends": ["oauth2"], "oauth2": {"introspection_url": "https://i.example/introspect"}}, []),
        (
            {"backends": ["oauth2"], "oauth2": {"jwks_url": "http://i.example/jwks"}},
            [
                "auth.oauth2.jwks_url: must be https://",
                "auth.oauth2.issuer: must be set with jwks_url",
                "auth.oauth2.audience: must be set with jwks_url",
            ],
        ),
        ({"backends": ["hook", "redis", "hook"]}, ['auth.backends.2: "hook" stands there twice']),
        ({"http": {"url": "http://10.0.0.1/"}}, []),  # not used
    ],
)
def test_rules_across_keys(keys: dict[str, Any], said: list[str]) -> None:
    found = faults(auth(**keys))
    assert len(found) == len(said)
    assert all(line.startswith(begin) for line, begin in zip(found, said, strict=True)), found


@pytest.mark.parametrize(
    "keys",
    [
        {"backends": ["ldap"]},
        {"hash_threads": 0},
        {"hash_threads": "2"},
        {"unlisted_senders": "all"},
        {"http": {"url": "ftp://x/"}},
        {"http": {"url": "https://"}},
        {"http": {"url": "https://user:hunter22@x/"}},
        {"http": {"url": "https://x/ y"}},
        {"http": {"methods": ["CRAM-MD5"]}},
        {"http": {"methods": []}},
        {"oauth2": {"algorithms": ["none"]}},
        {"oauth2": {"algorithms": ["HS256"]}},
        {"redis": {"methods": ["XOAUTH2"]}},
        {"file": {"paths": "x"}},
        {"nonsense": 1},
    ],
    ids=str,
)
def test_what_is_refused(keys: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as raised:
        auth(**keys)
    assert "hunter22" not in str(raised.value)


def test_secrets_are_not_shown() -> None:
    made = auth(
        secret="hunter22",
        redis={"url": "redis://ann:hunter22@r.example/0"},
        http={"token": "hunter22"},
        oauth2={"client_secret": "hunter22"},
    )
    assert (made.redis.url, made.redis.username) == ("redis://r.example/0", "ann")
    assert made.redis.password.get_secret_value() == "hunter22"
    assert "hunter22" not in f"{made!r} {made} {made.model_dump_json()}"


def test_every_key_says_what_it_is_for() -> None:
    """As in `model`: the documents are made of it."""
    schema = Auth.model_json_schema()
    for table in [schema, *schema["$defs"].values()]:
        assert table["description"]
        for name, key in table["properties"].items():
            assert "$ref" in key or key.get("description"), name


def test_what_check_can_say(tmp_path: Path) -> None:
    users = tmp_path / "users"
    users.write_text(f"a:{CHEAP_ARGON2}\nb:{SCRAM_KEYS}\nc:{{PLAIN}}{PASSWORD}\n")
    both = auth(backends=["file", "oauth2"], file={"path": str(users)}, oauth2=GOOD_OAUTH2, certificates=True)
    offer = offer_of(both)
    assert offer.faults == ()
    assert offer.methods == {
        *("PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS", "EXTERNAL", "XOAUTH2", "OAUTHBEARER")
    }
    assert offer.remarks == (
        f"{users}: 1 of 3 users can use CRAM-MD5",
        f"{users}: 1 of 3 users can use SCRAM-SHA-256",
    )
    users.write_text(f"a:{CHEAP_ARGON2}\n")
    wanted = frozenset({"PLAIN", "CRAM-MD5"})
    assert offer_of(auth(backends=["file"], file={"path": str(users)})).missing(wanted) == {"CRAM-MD5"}
    users.write_text("hunter22\n")
    offer = offer_of(both)
    assert offer.faults == (f"{users}:1: must be NAME:{{SCHEME}}HASH or NAME:{{SCHEME}}HASH:ADDRESS,ADDRESS",)
    assert offer.methods == {"XOAUTH2", "OAUTHBEARER"}
