"""The transport that delivers into nothing: for tests, and for mail that nobody wants."""

from __future__ import annotations

from mta_front.relay.attempt import Attempt
from mta_front.smtp.transaction import Outcome


class DiscardTransport:
    """Everything is delivered at once."""

    name = "discard"
    recipients_max = 1_000_000
    by_domain = False

    def deliver(self, attempt: Attempt) -> None:
        """Report success."""
        if attempt.may_finish():
            attempt.report(attempt, [Outcome("delivered", 250, "2.0.0 discarded")] * len(attempt.recipients), self.name)
        else:
            attempt.report(attempt, None, self.name)

    def look(self, now: float) -> None:
        """Nothing to watch."""

    def close(self) -> None:
        """Nothing to close."""
