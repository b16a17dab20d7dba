"""What the pump asks of limits that go beyond one session: those that a whole fleet shares.

The pump knows no store, and the library has no such limits: `OPEN` allows everything. In `serve` it is
`policy.limiting`.
"""

from __future__ import annotations

from typing import Protocol

from mta_front.hooks import Session
from mta_front.smtp.replies import Reply


class Guard(Protocol):
    """Where a method answers with a reply, the client hears it and what it wanted is not done; None allows it. Each but
    `goes_on` and `leaves` may wait, as greenlets do, for a bounded time.
    """

    def arrives(self, session: Session, handshake: bool) -> Reply | None:
        """A client came; nothing was said, and no name looked up. `handshake`: TLS comes first, so a refusal ends the
        connection without a word. Asked again when XCLIENT says that the client is somebody else. Whatever comes of
        it, `leaves` follows.
        """

    def shakes_hands(self, session: Session) -> Reply | None:
        """The client said STARTTLS. The session goes on in clear when it is refused."""

    def fails(self, session: Session) -> Reply | None:
        """A command was answered 5xx. A refusal ends the session."""

    def goes_on(self, session: Session) -> None:
        """The client sent more after the reply to a message, so it has seen that. Does not wait."""

    def leaves(self, session: Session) -> None:
        """The session is over, however it ended. Does not wait, and does nothing for one that never arrived."""


class _Open:
    """Allows everything, at no cost."""

    def arrives(self, session: Session, handshake: bool) -> None:
        """See Guard."""

    def shakes_hands(self, session: Session) -> None:
        """See Guard."""

    def fails(self, session: Session) -> None:
        """See Guard."""

    def goes_on(self, session: Session) -> None:
        """See Guard."""

    def leaves(self, session: Session) -> None:
        """See Guard."""


OPEN: Guard = _Open()
