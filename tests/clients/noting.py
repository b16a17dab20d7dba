"""A hook class for the server under test: it notes what each client declared, and changes nothing.

It looks at RCPT, not at DATA, so that bodies take the way that they take without hooks.
"""

from __future__ import annotations

import json
from pathlib import Path

from mta_front.hooks import Address, Hooks, Session

NOTES = Path("notes.jsonl")  # in the server's working directory


class Noting(Hooks):
    """Appends a line for each recipient."""

    def on_rcpt_to(self, address: Address, session: Session) -> None:
        envelope = session.envelope
        assert envelope.mail_from is not None
        note = {
            "mail_from": envelope.mail_from.address,
            "rcpt_to": address.address,
            "body_type": envelope.body_type,
            "smtp_utf8": envelope.smtp_utf8,
        }
        with NOTES.open("a", encoding="utf-8") as file:
            file.write(json.dumps(note) + "\n")
