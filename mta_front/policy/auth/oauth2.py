"""The backend `oauth2`: access tokens (XOAUTH2, OAUTHBEARER), judged here or by their issuer.

A signed token (JWT, RFC 7519, RFC 9068) is judged by the issuer's public keys: its algorithm is one of those allowed
(never none, never one with a shared secret), signature, `iss`, `aud`, `exp` and `nbf` are right. Any other token, or
every one when only `introspection_url` is set, is shown to the issuer (RFC 7662). Then, either way: the scopes that are
required are there, and the user that the client names, if it names one, is the one in the token.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_plus, urlencode

import jwt
from jwt.exceptions import PyJWTError

from mta_front.policy.auth.backend import TOKEN_METHODS, User
from mta_front.policy.auth.jwks import KeySet
from mta_front.policy.auth.web import Web
from mta_front.smtp.saslprep import prepared_name

if TYPE_CHECKING:
    from mta_front.hooks import Session
    from mta_front.smtp.credentials import Credentials

MAX_KEYS_TRIED = 4  # of a token that does not say which key it means

_NO_TOKEN = (PyJWTError, ValueError, RecursionError)
"""What PyJWT raises; the last two with JSON that is no object of its own making."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What a token must say. "" = not asked for."""

    issuer: str = ""
    audience: str = ""
    algorithms: tuple[str, ...] = ("RS256", "ES256", "PS256", "EdDSA")
    required_scope: str = ""
    username_claim: str = "email"
    leeway_s: float = 30.0
    openid_configuration: str = ""


@dataclass(frozen=True, slots=True)
class Introspection:
    """Where to show tokens, and as whom we do that."""

    web: Web
    client_id: str = ""
    client_secret: str = field(default="", repr=False)

    def headers(self) -> dict[str, str]:
        """With HTTP Basic authentication (RFC 6749 §2.3.1)."""
        headers = {"content-type": "application/x-www-form-urlencoded", "accept": "application/json"}
        if self.client_id:
            pair = f"{quote_plus(self.client_id)}:{quote_plus(self.client_secret)}"
            headers["authorization"] = f"Basic {base64.b64encode(pair.encode()).decode('ascii')}"
        return headers


class OAuth2Backend:
    """Judges access tokens."""

    name = "oauth2"
    methods = TOKEN_METHODS

    def __init__(self, rules: Rules, keys: KeySet | None, introspection: Introspection | None) -> None:
        """At least one of `keys` and `introspection`."""
        self._rules = rules
        self._keys = keys
        self._introspection = introspection

    def verify(self, credentials: Credentials, session: Session) -> User | None:
        """By the claims of the token."""
        token = credentials.access_token
        if self._keys is not None and (self._introspection is None or token.count(".") == 2):
            claims = self._signed_claims(self._keys, token)
        elif self._introspection is not None:
            claims = self._shown_claims(self._introspection, token)
        else:
            claims = None
        return self._user(claims, credentials.username) if claims is not None else None

    def rejection(self, method: str) -> Mapping[str, str]:
        """What the client is told of a token that was refused: RFC 7628 §3.2.2, or as Google does for XOAUTH2."""
        if method == "XOAUTH2":
            told = {"status": "401", "schemes": "bearer", "scope": self._rules.required_scope}
        else:
            told = {
                "status": "invalid_token",
                "scope": self._rules.required_scope,
                "openid-configuration": self._rules.openid_configuration,
            }
        return {key: value for key, value in told.items() if value}

    def close(self) -> None:
        """Close idle connections."""
        if self._keys is not None:
            self._keys.close()
        if self._introspection is not None:
            self._introspection.web.close()

    # -- a token that is judged here ------------------------------------------------------------------------------

    def _signed_claims(self, keys: KeySet, token: str) -> dict[str, Any] | None:
        rules = self._rules
        try:
            header = jwt.get_unverified_header(token)
        except _NO_TOKEN:
            return None
        algorithm, kid = header.get("alg"), header.get("kid")
        if algorithm not in rules.algorithms or not (kid is None or isinstance(kid, str)):
            return None
        for key in keys.fitting(algorithm, kid)[:MAX_KEYS_TRIED]:
            try:
                claims: dict[str, Any] = jwt.decode(
                    token,
                    jwt.PyJWK(key, algorithm),
                    algorithms=list(rules.algorithms),
                    issuer=rules.issuer or None,
                    audience=rules.audience or None,
                    leeway=rules.leeway_s,
                    options={
                        "require": ["exp"],
                        "verify_aud": bool(rules.audience),
                        "verify_iss": bool(rules.issuer),
                        "enforce_minimum_key_length": True,
                    },
                )
            except _NO_TOKEN:
                continue
            return claims
        return None

    # -- a token that is shown to its issuer ----------------------------------------------------------------------

    def _shown_claims(self, introspection: Introspection, token: str) -> dict[str, Any] | None:
        body = urlencode({"token": token, "token_type_hint": "access_token"}).encode()
        _, answer = introspection.web.ask("POST", body, introspection.headers(), (200,))
        try:
            claims = json.loads(answer)
        except (ValueError, RecursionError):
            claims = None
        if not isinstance(claims, dict) or not isinstance(claims.get("active"), bool):
            raise introspection.web.doubt("its answer is no introspection")
        return claims if claims["active"] and self._holds(claims) else None

    def _holds(self, claims: Mapping[str, Any]) -> bool:
        """Whether an active token is for us and in time. RFC 7662 §2.2 makes all of it optional, our rules do not."""
        rules, now = self._rules, time.time()
        expires, begins = claims.get("exp", now + 1), claims.get("nbf", now)
        if not all(isinstance(at, int | float) for at in (expires, begins)):
            return False
        audience = claims.get("aud")
        return (
            now < expires + rules.leeway_s
            and now >= begins - rules.leeway_s
            and (not rules.issuer or claims.get("iss") == rules.issuer)
            and (not rules.audience or rules.audience in (audience if isinstance(audience, list) else [audience]))
        )

    # -- whose it is ----------------------------------------------------------------------------------------------

    def _user(self, claims: Mapping[str, Any], username: str) -> User | None:
        rules = self._rules
        found = claims.get(rules.username_claim)
        name = prepared_name(found) if isinstance(found, str) else None
        if name is None or (username and username.lower() != name.lower()):
            return None
        # Whoever may write any address into an account of a shared issuer must not become its owner here
        if rules.username_claim == "email" and claims.get("email_verified") is False:
            return None
        if not set(rules.required_scope.split()) <= _scopes(claims):
            return None
        return User(name)


def _scopes(claims: Mapping[str, Any]) -> set[str]:
    """`scope` (RFC 8693 §4.2, RFC 7662), or `scp` as Microsoft has it; words or a list."""
    found = claims.get("scope", claims.get("scp"))
    if isinstance(found, str):
        return set(found.split())
    return {word for word in found if isinstance(word, str)} if isinstance(found, list) else set()
