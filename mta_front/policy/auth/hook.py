"""The backend `hook`: `on_auth` of the user's hooks."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mta_front.hooks import Session
    from mta_front.smtp.credentials import Credentials


class HookBackend:
    """Asks `on_auth(credentials, session)`: the user is what it returns, any object; None leaves it to the next
    backend. What it raises comes through: a `Reject` ends the login whatever other backends would say, other exceptions
    are faults. Nobody but the hook knows what it can verify, so it is asked for everything in `methods`.
    """

    name = "hook"

    def __init__(self, on_auth: Callable[[Credentials, Session], Any], methods: frozenset[str]) -> None:
        self._on_auth = on_auth
        self.methods = methods

    def verify(self, credentials: Credentials, session: Session) -> Any:
        """As the hook says."""
        return self._on_auth(credentials, session)

    def close(self) -> None:
        """Nothing is held."""
