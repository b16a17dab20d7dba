"""An issuer of access tokens: signs real JWTs, publishes its keys, and answers introspections."""

from __future__ import annotations

import base64
import json
import time
from typing import Any
from urllib.parse import parse_qs

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from tests.policy.auth.webserver import Answer, Heard

ISSUER, AUDIENCE = "https://login.example.net", "mail.example.net"


class Issuer:
    """`keys` by their kid; `answer` is for `webserver.serving`."""

    def __init__(self) -> None:
        self.keys: dict[str, Any] = {}
        self.hidden: set[str] = set()
        self.opaque: dict[str, dict[str, Any]] = {}
        self.down = False
        for kid, algorithm in (("rsa", "RS256"), ("ec", "ES256"), ("ed", "EdDSA")):
            self.add_key(kid, algorithm)

    def add_key(self, kid: str, algorithm: str) -> None:
        made: Any = {
            "RS256": lambda: rsa.generate_private_key(65537, 2048),
            "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
            "EdDSA": ed25519.Ed25519PrivateKey.generate,
        }[algorithm]()
        self.keys[kid] = (algorithm, made)

    def claims(self, **changed: Any) -> dict[str, Any]:
        """Good ones; None takes a claim away."""
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "exp": now + 600,
            "nbf": now - 10,
            "sub": "42",
            "email": "ann@example.net",
            "scope": "openid mail.send",
        }
        return {key: value for key, value in (claims | changed).items() if value is not None}

    def token(self, kid: str = "ec", *, named: str | None = "", algorithm: str = "", **changed: Any) -> str:
        """Signed by the key `kid`; its header names `named`, or the key itself."""
        ours, key = self.keys[kid]
        headers = {} if named is None else {"kid": named or kid}
        return jwt.encode(self.claims(**changed), key, algorithm or ours, headers=headers)

    def jwks(self) -> dict[str, Any]:
        """What it publishes, and what else may stand in such a set."""
        found: list[Any] = [{"kty": "oct", "kid": "secret", "k": "c2VjcmV0"}, {"kty": "new"}, "odd"]
        for kid, (algorithm, key) in self.keys.items():
            if kid not in self.hidden:
                of = jwt.get_algorithm_by_name(algorithm)
                found.append(json.loads(of.to_jwk(key.public_key())) | {"kid": kid, "use": "sig"})
        return {"keys": found}

    def answer(self, heard: Heard) -> Answer:
        if self.down:
            return 503, {}
        if heard.body:
            expected = base64.b64encode(b"front:s%26cret").decode()
            if heard.headers.get("authorization") != f"Basic {expected}":
                return 401, {}
            (token,) = parse_qs(heard.body.decode())["token"]
            return 200, self.opaque.get(token, {"active": False})
        return 200, self.jwks()
