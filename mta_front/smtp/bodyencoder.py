r"""A message as it travels: after 354 (RFC 5321 §4.5.2), or as chunks (RFC 3030 §2). DECISIONS W7.

Every line end becomes CRLF first (CRLF stays; a CR or an LF alone becomes one). For DATA, lines that begin with a dot
then get another: in this order a "\n.\n" in the message is stuffed like any line, so no receiver, however lax about
what ends a line, can see an end of data where we did not send one. No CR or LF ever leaves outside a CRLF.

Chunks are counted, so nothing in them can end a message. Text is normalised all the same: without BODY=BINARYMIME it
may have no CR or LF of its own (RFC 3030 §3), and the next hop but one may be spoken to by DATA, by somebody who stuffs
after CRLF only. A binary message is sent byte for byte.

Segments may be cut anywhere; a CR at the end of one is held back, for it may be half of a CRLF. Each costs a few passes
at C speed, and none is looked at twice.
"""

from __future__ import annotations

from typing import Protocol

from mta_front.smtp.scan import find, has_bare_newline

END_OF_DATA = b".\r\n"

CHUNK_BYTES = 131_072
"""Segments are put together up to this size: one reply for so much, and so much memory."""


class Encoder(Protocol):
    """Encodes one message: `encode` each segment, then `finish`."""

    def encode(self, segment: bytes) -> bytes:
        """The bytes to send for this segment; may be empty."""

    def finish(self) -> bytes:
        """The bytes that end the message."""


class LineEnds:
    """Makes every line end a CRLF. `cr_held`: the last byte so far was a CR, and has not been given out."""

    __slots__ = ("cr_held",)

    def __init__(self) -> None:
        self.cr_held = False

    def clean(self, segment: bytes) -> bytes:
        """The segment with CRLF line ends; may be empty."""
        if self.cr_held:
            segment = b"\r" + segment
        self.cr_held = segment.endswith(b"\r")
        if self.cr_held:
            segment = segment[:-1]
        if segment and has_bare_newline(segment):
            segment = segment.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
        return segment


class BodyEncoder:
    """For DATA."""

    __slots__ = ("_at_line_start", "_ends")

    def __init__(self) -> None:
        self._ends = LineEnds()
        self._at_line_start = True

    def encode(self, segment: bytes) -> bytes:
        """The bytes to send for this segment; may be empty."""
        segment = self._ends.clean(segment) if segment else b""
        if not segment:
            return b""
        if find(segment, b"\r\n.") >= 0:
            segment = segment.replace(b"\r\n.", b"\r\n..")
        if self._at_line_start and segment[0] == 46:
            segment = b"." + segment
        self._at_line_start = segment.endswith(b"\r\n")
        return segment

    def finish(self) -> bytes:
        """The end of data, after the line end that the message may lack."""
        if self._ends.cr_held or not self._at_line_start:
            return b"\r\n" + END_OF_DATA
        return END_OF_DATA


class ChunkEncoder:
    """For BDAT. What is not empty is one command with its octets, at most CHUNK_BYTES or the largest segment.

    `binary`: byte for byte.
    """

    __slots__ = ("_ends", "_pieces", "_size_bytes")

    def __init__(self, binary: bool) -> None:
        self._ends = None if binary else LineEnds()
        self._pieces: list[bytes] = []  # of the next chunk
        self._size_bytes = 0

    def encode(self, segment: bytes) -> bytes:
        """A chunk of what came before, when this segment is too much for it; else b""."""
        if self._ends is not None and segment:
            segment = self._ends.clean(segment)
        if not segment:
            return b""
        full = self._size_bytes and self._size_bytes + len(segment) > CHUNK_BYTES
        chunk = self._chunk(b"BDAT %d\r\n") if full else b""
        self._pieces.append(segment)
        self._size_bytes += len(segment)
        return chunk

    def finish(self) -> bytes:
        """The last chunk."""
        if self._ends is not None and self._ends.cr_held:
            self._pieces.append(b"\r\n")
            self._size_bytes += 2
        return self._chunk(b"BDAT %d LAST\r\n")

    def _chunk(self, command: bytes) -> bytes:
        chunk = b"".join([command % self._size_bytes, *self._pieces])
        self._pieces.clear()
        self._size_bytes = 0
        return chunk
