"""Calls to the store and the batches in which they travel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gevent.event import Event

from mta_front.store.errors import StoreError

BATCH_CALLS = 256
BATCH_BYTES = 1024 * 1024


class Call:
    """One command on its way.

    `then(call)`, if given, runs in the publisher when the outcome is known; it must not wait and not raise.
    """

    __slots__ = ("args", "deadline", "done", "error", "gate", "late", "reply", "sent", "size_bytes", "then", "timed")

    def __init__(
        self, args: list[Any], *, late: int = 0, size_bytes: int = 0, then: Callable[[Call], None] | None = None
    ) -> None:
        self.args = args
        self.late = late  # index of the argument that becomes the deadline on the store's clock, µs; 0 = none
        self.size_bytes = size_bytes
        self.then = then
        self.deadline = 0.0  # time.monotonic()
        self.timed = False  # the caller keeps this deadline itself, since it comes before that of others
        self.sent = False
        self.done = False
        self.reply: Any = None
        self.error: StoreError | None = None
        self.gate: Any = None  # of its batch

    def finish(self, error: StoreError | None = None) -> None:
        """The outcome is known. Only the first one counts."""
        if not self.done:
            self.error = error
            self.done = True
            if self.then is not None:
                self.then(self)

    def result(self) -> Any:
        """The reply, or the error raised."""
        if self.error is not None:
            raise self.error
        return self.reply


class Batch:
    """What was gathered while the batch before was under way. Its callers wait at one gate."""

    __slots__ = ("alone", "asked_at", "calls", "gate", "size_bytes")

    def __init__(self, *, alone: bool = False, asked_at: tuple[str, int] | None = None) -> None:
        """`alone`: sent again, in no transaction, so that nobody's refusal is everybody's. `asked_at`: the node that
        must be asked, where their slot is on its way.
        """
        self.calls: list[Call] = []
        self.size_bytes = 0
        self.gate = Event()
        self.alone = alone
        self.asked_at = asked_at

    def has_room(self, call: Call) -> bool:
        """Whether the call may travel with these. The first one always may."""
        return not self.calls or (len(self.calls) < BATCH_CALLS and self.size_bytes + call.size_bytes <= BATCH_BYTES)

    def add(self, call: Call) -> None:
        """Let the call travel with these, and its caller wait at this gate."""
        call.gate = self.gate
        self.calls.append(call)
        self.size_bytes += call.size_bytes
