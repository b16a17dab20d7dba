"""A hook class that breaks with secrets in its hands: what a report of its exception shows must show none."""

from __future__ import annotations

from mta_front.hooks import Credentials, Defer, Hooks, Reject, Session


class Breaking(Hooks):
    """Breaks, refuses or defers, as the user's name says; else nobody is admitted."""

    def on_auth(self, credentials: Credentials, session: Session) -> None:
        shown = [credentials.password, credentials.access_token, credentials.challenge_response]
        if credentials.username == "breaks":
            raise RuntimeError(f"the directory is away: {credentials}, {len(shown)} secrets")
        if credentials.username == "deep":
            self._search(*shown)
        if credentials.username == "refused":
            raise Reject(535, "5.7.8", "Account suspended")
        if credentials.username == "deferred":
            raise Defer(454, "4.7.0", "Later")

    def _search(self, *secrets: str) -> None:
        raise LookupError("nobody") from KeyError(len(secrets))
