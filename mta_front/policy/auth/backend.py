"""What a backend is: something that can say yes to credentials.

A backend has three answers: a `User`, which is a yes; None, which is "not known here, or wrong" and leaves it to the
next backend; and `Unavailable`, when it cannot know. No answer, exception or `repr` holds a password or a token.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from mta_front.hooks import Session
    from mta_front.smtp.credentials import Credentials
    from mta_front.smtp.scram import ScramKeys

PASSWORD_METHODS = frozenset({"PLAIN", "LOGIN"})
"""Mechanisms that bring the password itself."""
SCRAM_METHODS = frozenset({"SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"})
TOKEN_METHODS = frozenset({"XOAUTH2", "OAUTHBEARER"})
"""Mechanisms that bring an access token."""

Report = Callable[[str], None]
"""Told one line, without secrets, when something happens that an operator has to know. Must not raise or wait."""


def unheard(line: str) -> None:
    """A `Report` that nobody listens to."""


@dataclass(frozen=True, slots=True)
class User:
    """Somebody who has logged in. `addresses`: what may stand in MAIL FROM, as in `authority`; empty = not listed."""

    id: str
    addresses: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.id


class Unavailable(Exception):
    """The backend cannot know now: 454 4.7.0, if no other one says yes. `reason`: short plain text without secrets."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Backend(Protocol):
    """One place that knows users."""

    @property
    def name(self) -> str:
        """As in `[auth] backends`."""

    @property
    def methods(self) -> frozenset[str]:
        """The mechanisms that it can verify, as things are now."""

    def verify(self, credentials: Credentials, session: Session) -> Any:
        """The user (a `User`; of a hook any object), or None. Raises `Unavailable`; may wait, as greenlets do."""

    def close(self) -> None:
        """Let go of connections."""


class KeyHolder(Backend, Protocol):
    """A backend that holds SCRAM keys: it is asked for them, and never for `verify`, since the exchange is one."""

    def scram_keys(self, username: str, session: Session) -> tuple[ScramKeys, User] | None:
        """The keys of a user who has some."""

    def scram_iterations(self, username: str) -> int:
        """How often keys for somebody who is not there should hash: as those of somebody who is."""
