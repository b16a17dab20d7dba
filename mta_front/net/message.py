"""The message as a hook reads it: each segment is taken from the socket when the hook asks for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from mta_front.smtp import replies
from mta_front.smtp.events import End, Segment
from mta_front.smtp.replies import Reply


class IncomingMessage:
    """`hooks.Message` over `pull`, which waits for the next `Segment` or `End` and raises when the client is gone."""

    __slots__ = ("_broken", "_pull", "byte_length", "complete", "refusal")

    def __init__(self, pull: Callable[[], Segment | End]) -> None:
        self._pull = pull
        self._broken: ConnectionError | None = None
        self.byte_length = 0
        self.complete = False
        self.refusal: Reply | None = None

    @property
    def size_exceeded(self) -> bool:
        """More came than the limit; known at the end."""
        return self.refusal is replies.TOO_BIG

    def __iter__(self) -> Iterator[bytes]:
        while not self.complete:
            if self._broken is not None:
                raise self._broken  # a hook may have swallowed it
            try:
                event = self._pull()
            except ConnectionError as error:
                self._broken = error
                raise
            if isinstance(event, End):
                self.byte_length = event.size_bytes
                self.refusal = event.refusal
                self.complete = True
            else:
                self.byte_length += len(event.data)
                yield event.data

    def read(self) -> bytes:
        """All that is left, in one piece."""
        return b"".join(self)

    def drain(self) -> None:
        """Read and drop what is left."""
        for _ in self:
            pass
