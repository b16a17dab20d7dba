"""The backend `http`: somebody else's program decides.

    POST /auth   {"method": "PLAIN", "username": "ann", "password": "…", "client_address": "192.0.2.1", "helo": "…",
                  "listener": "submission", "servername": "mail.example.net", "secure": true, "session": "…"}
    200          {"user": "ann@example.net", "addresses": ["ann@example.net", "*@lists.example.net"]}
    401, 403     no

With XOAUTH2 and OAUTHBEARER `access_token` stands in the place of `password`; with EXTERNAL there is neither. Both keys
of the answer may be missing: the user is then the username, with no addresses listed. Everything else is "cannot know
now": the client hears 454.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from mta_front.policy.auth.authority import check_pattern
from mta_front.policy.auth.backend import User
from mta_front.policy.auth.web import Web

if TYPE_CHECKING:
    from mta_front.hooks import Session
    from mta_front.smtp.credentials import Credentials

YES, NO = 200, (401, 403)


class HttpBackend:
    """Asks over HTTP."""

    name = "http"

    def __init__(self, web: Web, methods: frozenset[str], token: str = "") -> None:
        """`token`: sent as `Authorization: Bearer`, so that the program knows us."""
        self.methods = methods
        self._web = web
        self._headers = {"content-type": "application/json", "accept": "application/json"}
        if token:
            self._headers["authorization"] = f"Bearer {token}"

    def verify(self, credentials: Credentials, session: Session) -> User | None:
        """One request."""
        question = json.dumps(_question(credentials, session)).encode()
        status, answer = self._web.ask("POST", question, self._headers, (YES, *NO))
        if status in NO:
            return None
        user = _user(answer, credentials.username)
        if user is None:
            raise self._web.doubt("its answer is not understood")
        return user

    def close(self) -> None:
        """Close idle connections."""
        self._web.close()


def _question(credentials: Credentials, session: Session) -> dict[str, Any]:
    question: dict[str, Any] = {"method": credentials.method, "username": credentials.username}
    if credentials.password:
        question["password"] = credentials.password
    if credentials.access_token:
        question["access_token"] = credentials.access_token
    return question | {
        "client_address": session.remote_address,
        "helo": session.host_name_appears_as,
        "listener": session.listener,
        "servername": getattr(session, "servername", ""),
        "secure": session.secure,
        "session": session.id,
    }


def _user(answer: bytes, username: str) -> User | None:
    """The user in an answer; None where it is not understood. What is doubtful is no yes."""
    try:
        found = json.loads(answer)
        name, addresses = found.get("user", username), found.get("addresses", [])
        if not isinstance(name, str) or not name.isprintable() or not name or not isinstance(addresses, list):
            return None
        return User(name, tuple(map(check_pattern, addresses)))
    except (ValueError, AttributeError, TypeError, RecursionError):
        return None
