"""A hook class for the server under test: it admits one user, by every mechanism, and notes who sends what."""

from __future__ import annotations

import json
from pathlib import Path

from mta_front.hooks import Address, Credentials, Hooks, Session

NOTES = Path("senders.jsonl")  # in the server's working directory
USER, PASSWORD, TOKEN = "hook", "correct horse-battery", "hooks-token"


class Admitting(Hooks):
    """Admits `USER`, and appends a line for each recipient."""

    def on_auth(self, credentials: Credentials, session: Session) -> str | None:
        if credentials.method == "OAUTHBEARER":
            return USER if credentials.access_token == TOKEN else None
        if credentials.username != USER:
            return None
        if credentials.method == "EXTERNAL":
            return USER  # the certificate is the proof
        if credentials.access_token:
            return USER if credentials.access_token == TOKEN else None
        return USER if credentials.validate_password(PASSWORD) else None

    def on_rcpt_to(self, address: Address, session: Session) -> None:
        assert session.envelope.mail_from is not None
        note = {
            "mail_from": session.envelope.mail_from.address,
            "user": str(session.user),
            "kind": session.transmission_type,
        }
        with NOTES.open("a", encoding="utf-8") as file:
            file.write(json.dumps(note) + "\n")
