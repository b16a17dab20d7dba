"""Hooks that take a login from who may say XCLIENT, and write down what XCLIENT and XFORWARD said of each message."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mta_front.hooks import Credentials, Hooks, Reject, Session

NOTES = Path("notes.jsonl")  # in the server's working directory
BANNED = "192.0.2.66"


class Vouching(Hooks):
    """By XCLIENT alone "dev" may log in; 192.0.2.66 may not come in."""

    def on_connect(self, session: Session) -> None:
        if session.remote_address == BANNED:
            raise Reject("Not you")

    def on_auth(self, credentials: Credentials, session: Session) -> str | None:
        return "dev" if credentials.method == "XCLIENT" and credentials.username == "dev" else None

    def on_data(self, message: Any, session: Session) -> None:
        subject = next(line for line in message.read().splitlines() if line.startswith(b"Subject: "))
        line = {"subject": subject.decode()[9:], "client": session.remote_address, "user": session.user}
        line |= {"x_client": session.x_client, "x_forward": session.x_forward}
        with NOTES.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
