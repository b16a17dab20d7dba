"""The two kinds of error of the core: ours and theirs.

No input whatever makes the core raise anything else (DESIGN §4, rule 8); the fuzzer holds it to that.
"""

from __future__ import annotations

from mta_front.smtp.replies import Reply


class LocalError(Exception):
    """We broke the core's contract: asked for an event while one was unanswered, answered twice. A bug, never input."""


class RemoteError(Exception):
    """The peer broke the protocol in a way that ends the session. `reply` is its last answer."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(f"{reply.code} {reply.enhanced} {reply.text}".replace("  ", " "))
        self.reply = reply


class BadSyntax(Exception):
    """A command did not parse; `reply` is the answer. Raised by the parsers, never seen outside `connection`."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.text)
        self.reply = reply
