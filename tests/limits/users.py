"""Hooks of a front whose users have passwords of one SHA-256: argon2 would make a test of guesses one of argon2."""

from __future__ import annotations

import hashlib

from mta_front.hooks import Credentials, Defer, Hooks, Session
from mta_front.smtp.scram import ScramKeys

PASSWORD = "correct horse"


def digest(user: str, password: str) -> bytes:
    """What is kept of a password."""
    return hashlib.sha256(f"{user}:{password}".encode()).digest()


KEYS = ScramKeys.of_password(PASSWORD, b"salt for a test", 4096)


class Users(Hooks):
    """Everybody whose name begins with "user" is one. Of "away" and "broken" nothing can be known now. A token says who
    its owner is, and "user" with an address after it is that mailbox's owner.
    """

    def on_auth(self, credentials: Credentials, session: Session) -> str | None:
        user = credentials.username
        if credentials.access_token:
            return credentials.access_token
        if credentials.method.startswith("SCRAM-"):
            return user if credentials.scram(KEYS) else None
        if user == "away":
            raise Defer(454, "4.7.0", "The directory is away")
        if user == "broken":
            raise RuntimeError("a bug")
        known = user.startswith("user") and digest(user, credentials.password) == digest(user, PASSWORD)
        return user.partition("@")[0] if known else None
