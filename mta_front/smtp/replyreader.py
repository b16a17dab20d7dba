"""The replies of a next hop: bytes in, whole replies out (RFC 5321 §4.2).

    Reply-line = *( Reply-code "-" [ textstring ] CRLF ) Reply-code [ SP textstring ] CRLF
    Reply-code = %x32-35 %x30-35 %x30-39

Lenient where the world is: a bare LF ends a line too, the second digit may be any, text may be UTF-8 (RFC 6531 §3.7.4).
Strict where leniency would guess: a line without a code, or a reply whose lines carry different codes, says nothing
that can be relied on, so it is an error of the next hop, and what it was to answer is tried again later.

Memory is bounded: a line has at most 4 KiB, a reply at most 64 KiB (RFC 5321 §4.5.3.1.5 allows a line 512 octets). So
is time, without remembering how far a search for the line's end has come.
"""

from __future__ import annotations

import re

MAX_LINE_BYTES = 4096
MAX_REPLY_BYTES = 65_536
MAX_TEXT_CHARS = 500
"""What is kept of a reply's text for logs, the queue's history and DSNs."""

_LINE = re.compile(rb"([2-5][0-9][0-9])(?:([ -])(.*))?", re.DOTALL)


class MalformedReply(Exception):
    """What the next hop sent is no reply. The connection is of no more use: nobody knows what its next bytes answer."""


class RemoteReply:
    """One reply of a next hop: `code` 200–599 and its `lines`, as octets without code and line end."""

    __slots__ = ("code", "lines")

    def __init__(self, code: int, lines: list[bytes]) -> None:
        self.code = code
        self.lines = lines

    @property
    def text(self) -> str:
        """The lines as one line of printable text, at most 500 characters: fit for a log, whoever wrote it."""
        joined = b" ".join(self.lines) if len(self.lines) > 1 else self.lines[0]
        text = joined[: 4 * MAX_TEXT_CHARS].decode("utf-8", "replace")[:MAX_TEXT_CHARS]
        if not text.isprintable():
            text = "".join(c if c.isprintable() else "?" for c in text)
        return text

    def __repr__(self) -> str:
        return f"RemoteReply({self.code}, {self.lines!r})"


class ReplyReader:
    """Gathers bytes and yields replies. After a MalformedReply it stays broken."""

    __slots__ = ("_buffer", "_code", "_lines", "_pos", "_size_bytes")

    def __init__(self) -> None:
        self._buffer = b""
        self._pos = 0  # of the first unread byte
        self._code = 0  # of the reply that is under way
        self._lines: list[bytes] = []
        self._size_bytes = 0

    def receive(self, data: bytes) -> None:
        """Add what the next hop sent. The bytes stay here until `next` has taken them."""
        self._buffer = data if self._pos >= len(self._buffer) else self._buffer[self._pos :] + data
        self._pos = 0

    @property
    def pending(self) -> bool:
        """Whether there are bytes, or lines of a reply, that no whole reply has come from yet."""
        return self._pos < len(self._buffer) or bool(self._lines)

    def next(self) -> RemoteReply | None:
        """The next whole reply, or None: more bytes are wanted. Raises MalformedReply."""
        while True:
            buffer, pos = self._buffer, self._pos
            end = buffer.find(b"\n", pos) + 1
            size = (end or len(buffer)) - pos
            if size > MAX_LINE_BYTES:
                raise MalformedReply(f"a reply line of more than {MAX_LINE_BYTES} octets")
            if not end:
                return None
            line = buffer[pos:end].rstrip(b"\r\n")
            match = _LINE.fullmatch(line)
            if match is None:
                raise MalformedReply(f"not a reply: {line[:80]!r}")
            self._pos = end
            digits, separator, text = match.groups(b"")
            code = int(digits)
            if self._lines:
                if code != self._code:
                    raise MalformedReply(f"a reply with two codes, {self._code} and {code}")
                self._size_bytes += size
                if self._size_bytes > MAX_REPLY_BYTES:
                    raise MalformedReply(f"a reply of more than {MAX_REPLY_BYTES} octets")
            if separator == b"-":
                if not self._lines:
                    self._code = code
                    self._size_bytes = size
                self._lines.append(text)
                continue
            if not self._lines:
                return RemoteReply(code, [text])
            self._lines.append(text)
            lines, self._lines = self._lines, []
            return RemoteReply(code, lines)
