"""What one session may do before it is ended: errors, junk, messages, commands without a login, and slowness.

Counts only; the pump asks after each command and says what comes of it. What the fleet shares is in `store.limits`.
"""

from __future__ import annotations

from collections.abc import Callable

from mta_front.net.options import SessionOptions
from mta_front.smtp import replies
from mta_front.smtp.connection import Connection
from mta_front.smtp.replies import Reply


class SessionOver(ConnectionError):
    """The session cannot go on: `reason` as in Events.session_closed, `reply` the last word to the client if any."""

    def __init__(self, reason: str, reply: Reply | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.reply = reply


def _nobody() -> None:
    """Nobody else counts failures."""


class Conduct:
    """The counts of one session. Its methods raise SessionOver when there was too much of something.

    `failed`: called for each command that was answered 5xx, before it is judged here; may raise SessionOver.
    """

    __slots__ = (
        "_connection",
        "_credit_s",
        "_errors",
        "_in_message",
        "_line_since",
        "_options",
        "_unauthenticated",
        "failed",
        "messages",
    )

    def __init__(self, options: SessionOptions, connection: Connection) -> None:
        self._options = options
        self._connection = connection
        self._errors = 0
        self._unauthenticated = 0
        self._line_since = 0.0  # when the wait for the present command began; 0.0: it did not yet
        self._in_message = False
        self._credit_s = 0.0  # how much longer the client may take for the message, or for a chunk that nobody wants
        self.failed: Callable[[], None] = _nobody
        self.messages = 0

    # -- what it does ------------------------------------------------------------------------------------------------

    def without_login(self) -> None:
        """A command came from a client that has yet to log in."""
        self._unauthenticated += 1
        allowed = self._options.max_unauthenticated_commands
        if allowed and self._unauthenticated > allowed:
            raise SessionOver("limit", replies.TOO_MANY_UNAUTHENTICATED)

    def message_begins(self) -> None:
        """MAIL was said."""
        allowed = self._options.max_messages
        if allowed and self.messages >= allowed:
            raise SessionOver("limit", replies.TOO_MANY_MESSAGES)

    def in_step(self) -> None:
        """A command came whose answer decides what may follow it, so nothing may have been sent behind it (RFC 2920
        §3.1): a client that does not wait has a script, or somebody else's bytes, to send.
        """
        if self._connection.buffered_bytes:
            raise SessionOver("limit", replies.NOT_IN_STEP)

    def answered(self) -> float:
        """A command was answered: the seconds by which the answer must be late."""
        self._line_since = 0.0
        connection, options = self._connection, self._options
        if options.max_junk_commands and connection.junk > options.max_junk_commands:
            raise SessionOver("limit", replies.TOO_MANY_JUNK_COMMANDS)
        errors, before = connection.errors, self._errors
        if errors == before:
            return 0.0
        self._errors = errors
        if errors > before:  # an accepted message forgives, too
            self.failed()
        if options.max_errors and errors >= options.max_errors:
            raise SessionOver("limit", replies.TOO_MANY_ERRORS)
        return options.error_delay_s if errors > before and errors > options.soft_errors else 0.0

    # -- how long it takes -------------------------------------------------------------------------------------------

    def line_begins(self) -> None:
        """What was due before was said: the wait for the next line begins."""
        self._line_since = 0.0

    def patience_s(self, now: float, in_message: bool) -> float:
        """How long to wait for bytes. A drip resets nothing: a command line has one time, however many pieces it comes
        in, and in a message each octet buys its share of a second at the least rate.
        """
        if in_message:
            if not self._in_message:
                self._in_message = True
                self._credit_s = self._options.socket_timeout_s
            return self._credit_s
        self._in_message = False
        if not self._line_since:
            self._line_since = now
        return self._line_since + self._options.socket_timeout_s - now

    def received(self, size_bytes: int, waited_s: float) -> None:
        """Octets of a message came after a wait."""
        limit_s, rate = self._options.socket_timeout_s, self._options.min_data_rate_bytes_s
        self._credit_s = min(limit_s, self._credit_s - waited_s + size_bytes / rate) if rate else limit_s
