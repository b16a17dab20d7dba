"""Credentials as the core makes them, with a SCRAM client of our own behind `ask`; and who is asked for."""

from __future__ import annotations

import base64
import hashlib
import hmac

from mta_front.hooks import Session
from mta_front.smtp.credentials import Credentials
from mta_front.smtp.scram import Conversation, parse_client_first

PASSWORD = "correct horse-battery"
SESSION = Session("s-1", "submission", "127.0.0.1", 2587, "192.0.2.7", 40_001)

CHEAP_ARGON2 = "{ARGON2ID}$argon2id$v=19$m=64,t=1,p=1$c2FsdHNhbHRzYWx0$UNU2jmwcmRP9mijkew8o8A"
"""Of `PASSWORD`, at a cost that a test can pay a hundred times."""
SCRAM_KEYS = (
    "{SCRAM-SHA-256}4096,c2FsdHNhbHRzYWx0,kn4rLc4DMj4j6Bm6cE3e2gYJuBaywTAJWOdxjvJPNk0=,"
    "9Y+DR3RvQoiKbbEvAXfFQuvtSAJQ/NB9rc9Avro2ekY="
)
"""Of `PASSWORD`."""


def plain(username: str, password: str = PASSWORD, authzid: str = "", method: str = "PLAIN") -> Credentials:
    return Credentials(method, username, password=password, authzid=authzid)


def token(username: str, access_token: str, method: str = "OAUTHBEARER") -> Credentials:
    return Credentials(method, username, access_token=access_token)


def cram(username: str, password: str = PASSWORD) -> Credentials:
    challenge = "<1896.697170952@front.example>"
    response = hmac.new(password.encode(), challenge.encode(), "md5").hexdigest()
    return Credentials("CRAM-MD5", username, challenge=challenge, challenge_response=response)


class ScramClient:
    """RFC 5802's client, as far as `ask` needs it. `salts`: what the server said; `convinced`: its proof was good."""

    def __init__(self, password: str) -> None:
        self.password = password
        self.bare = "n=,r=clientnonce"
        self.salts: list[tuple[str, int]] = []
        self.convinced = False
        self._signature = b""

    def credentials(self, username: str) -> Credentials:
        self.bare = f"n={username},r=clientnonce"
        first = parse_client_first(f"n,,{self.bare}", plus=False, plus_offered=False)
        made = Credentials("SCRAM-SHA-256", username, conversation=Conversation(first, "servernonce", b""))
        made.ask = self.ask
        return made

    def ask(self, challenge: bytes) -> bytes:
        text = challenge.decode()
        if text.startswith("v="):
            self.convinced = base64.b64decode(text[2:]) == self._signature
            return b""
        nonce, salt, iterations = (part[2:] for part in text.split(","))
        self.salts.append((salt, int(iterations)))
        salted = hashlib.pbkdf2_hmac("sha256", self.password.encode(), base64.b64decode(salt), int(iterations))
        without_proof = f"c=biws,r={nonce}"
        signed = f"{self.bare},{text},{without_proof}".encode()
        client_key = hmac.digest(salted, b"Client Key", "sha256")
        signature = hmac.digest(hashlib.sha256(client_key).digest(), signed, "sha256")
        self._signature = hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), signed, "sha256")
        proof = bytes(one ^ other for one, other in zip(client_key, signature, strict=True))
        return f"{without_proof},p={base64.b64encode(proof).decode()}".encode()
