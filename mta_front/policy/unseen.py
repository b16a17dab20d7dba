"""Replies to messages that their clients may not have seen, and may so send again (DECISIONS S4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mta_front.hooks import Session
    from mta_front.store.duplicates import Remembered
    from mta_front.store.spool import Spool, Upload


class Unseen:
    """One for all listeners of a worker."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._of_sessions: dict[str, Remembered] = {}

    def answered(self, session: Session, upload: Upload) -> None:
        """A message was stored and its 250 goes out next."""
        if upload.remembered is not None:
            self._of_sessions[session.id] = upload.remembered
            self._spool.records.live(upload.remembered)

    def goes_on(self, session: Session) -> None:
        """The client has seen the last reply: an equal message from now on is meant to be another one."""
        remembered = self._of_sessions.pop(session.id, None)
        if remembered is not None:
            self._spool.records.seen(remembered)

    def leaves(self, session: Session) -> None:
        """The session is over. What its client did not go on from counts from now on as the first copy of a retry."""
        remembered = self._of_sessions.pop(session.id, None)
        if remembered is not None:
            self._spool.records.lost(remembered)
