"""Hooks that refuse what is called "nobody", or comes from there."""

from __future__ import annotations

from mta_front.hooks import Address, Hooks, Reject, Session


class Nobody(Hooks):
    """See above."""

    def on_mail_from(self, address: Address, session: Session) -> None:
        if address.local_part == "nobody":
            raise Reject(550, "5.1.8", "Not from there")

    def on_rcpt_to(self, address: Address, session: Session) -> None:
        if address.local_part == "nobody":
            raise Reject(550, "5.1.1", "No such user")
