"""Hooks of a front whose users have passwords of one SHA-256: argon2 would make a test of guesses one of argon2."""

from __future__ import annotations

import hashlib

from mta_front.hooks import Credentials, Defer, Hooks, Session

PASSWORD = "correct horse"


def digest(user: str, password: str) -> bytes:
    """What is kept of a password."""
    return hashlib.sha256(f"{user}:{password}".encode()).digest()


class Users(Hooks):
    """Everybody whose name begins with "user" is one. Of "away" and "broken" nothing can be known now."""

    def on_auth(self, credentials: Credentials, session: Session) -> str | None:
        user = credentials.username
        if user == "away":
            raise Defer(454, "4.7.0", "The directory is away")
        if user == "broken":
            raise RuntimeError("a bug")
        known = user.startswith("user") and digest(user, credentials.password) == digest(user, PASSWORD)
        return user if known else None
