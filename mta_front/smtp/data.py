"""The message after 354: where it ends, and its bytes without transparency (RFC 5321 §4.5.2).

Order matters, for it is what SMTP smuggling plays with: first the end of the body is found, and only CRLF "." CRLF
ends it; then dots are un-stuffed, after CRLF only; then bare CR and LF are treated. A bare newline around a dot can
thus never end a message, whatever is done with it afterwards.

The body is cut at line ends: every segment begins and ends on a line, so un-stuffing is one `replace`, and a bare CR or
LF is found without a look at single lines. A line over 64 KiB goes on in pieces; a CR at a piece's end is held back,
for it may be half of a CRLF.
"""

from __future__ import annotations

import re

from mta_front.smtp import replies
from mta_front.smtp.buffer import HOLD_BYTES, ReceiveBuffer
from mta_front.smtp.events import End, Segment
from mta_front.smtp.scan import find, has_bare_newline

TINY_CHUNKS = 1000
TINY_CHUNK_OCTETS = 64

_STUFFED = re.compile(rb"\r\n\.")  # where dots are rare, three times the speed of `bytes.replace`
_ANY_NEWLINE = re.compile(rb"\r\n|\r|\n")


class BodyReader:
    """Reads one message from the buffer. `limit_bytes` 0: no limit. `bare_newline`: "normalize", "reject", "accept".
    `max_line_octets`: of a line with its CRLF, as it is sent; 0: no limit (RFC 5321 §4.5.3.1.6 has 1000).

    A message over the limit is read to its end and thrown away (RFC 1870 §6.3), then refused.
    """

    __slots__ = ("_at_line", "_bare_newline", "_limit_bytes", "_max_line_octets", "_refusal", "size_bytes")

    def __init__(self, limit_bytes: int, bare_newline: str, max_line_octets: int = 0) -> None:
        self._limit_bytes = limit_bytes
        self._bare_newline = bare_newline
        self._max_line_octets = max_line_octets
        self._at_line = True
        self._refusal: replies.Reply | None = None
        self.size_bytes = 0

    def next(self, buffer: ReceiveBuffer) -> Segment | End | None:
        """The next segment, the end, or None: more bytes are wanted."""
        while buffer.fresh:
            data = buffer.data
            pos = buffer.pos
            if self._at_line and data.startswith(b".\r\n", pos):
                buffer.pos = pos + 3
                return End(self.size_bytes, self._refusal)
            dot = find(data, b"\r\n.", pos)  # the end, if it is there, and all that is stuffed lie behind it
            cut, partial = self._cut(data, pos, dot)
            if cut <= pos:
                buffer.fresh = False
                break
            segment = data[pos:cut] if pos or cut != len(data) else data
            buffer.pos = cut
            if self._max_line_octets and max(map(len, segment.split(b"\n"))) >= self._max_line_octets:
                self._refusal = self._refusal or replies.LINE_TOO_LONG
            segment = self._clean(segment, stuffed=0 <= dot < cut - 2)
            self._at_line = not partial
            self.size_bytes += len(segment)
            if self._limit_bytes and self.size_bytes > self._limit_bytes:
                self._refusal = replies.TOO_BIG
            if self._refusal is None:
                return Segment(segment, partial)
        return None

    def _cut(self, data: bytes, pos: int, dot: int) -> tuple[int, bool]:
        """Where the next segment ends, and whether that is inside a line. `pos` or less: not yet."""
        if dot >= 0:
            end = find(data, b"\r\n.\r\n", dot)
            if end >= 0:
                return end + 2, False
        cut = data.rfind(b"\r\n", pos) + 2
        if cut >= pos + 2:
            return cut, False
        if len(data) - pos < HOLD_BYTES:
            return 0, False
        return (len(data) - 1 if data[-1] == 13 else len(data)), True

    def _clean(self, segment: bytes, stuffed: bool) -> bytes:
        bare = has_bare_newline(segment)
        if stuffed:
            segment = _STUFFED.sub(b"\r\n", segment)
        if self._at_line and segment.startswith(b"."):
            segment = segment[1:]
        if bare and self._bare_newline != "accept":
            if self._bare_newline == "reject":
                self._refusal = self._refusal or replies.BARE_NEWLINE
            else:
                segment = _ANY_NEWLINE.sub(b"\r\n", segment)
        return segment


class ChunkReader:
    """Reads the chunks of one message (RFC 3030 §2): octets that are counted, not lines, so nothing is un-stuffed and
    no newline is looked at. `left_bytes` and `last` are those of the present chunk.
    """

    __slots__ = ("_count", "_limit_bytes", "last", "left_bytes", "refusal", "size_bytes")

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._count = 0
        self.left_bytes = 0
        self.last = False
        self.refusal: replies.Reply | None = None
        self.size_bytes = 0

    def begin(self, octets: int, last: bool) -> None:
        """A BDAT command announced a chunk."""
        self._count += 1
        self.left_bytes = octets
        self.last = last

    @property
    def tiny(self) -> bool:
        """So many chunks have so little in them that this is no message but a flood of commands."""
        return self._count > TINY_CHUNKS and self.size_bytes < self._count * TINY_CHUNK_OCTETS

    def next(self, buffer: ReceiveBuffer) -> Segment | None:
        """The next octets of the present chunk; None: it is complete (`left_bytes` 0), or more are wanted."""
        while self.left_bytes:
            taken = buffer.take(self.left_bytes)
            if not taken:
                return None
            self.left_bytes -= len(taken)
            self.size_bytes += len(taken)
            if self._limit_bytes and self.size_bytes > self._limit_bytes:
                self.refusal = replies.TOO_BIG
            if self.refusal is None:
                return Segment(taken, not taken.endswith(b"\r\n"))
        return None
