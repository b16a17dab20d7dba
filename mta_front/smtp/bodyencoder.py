r"""A message as it travels after 354 (RFC 5321 §4.5.2, DECISIONS W7).

First every line end becomes CRLF (CRLF stays; a CR or an LF alone becomes one), then lines that begin with a dot get
another. In this order a "\n.\n" in the message is stuffed like any line, so no receiver, however lax about what ends a
line, can see an end of data where we did not send one: no CR or LF ever leaves outside a CRLF.

Segments may be cut anywhere; a CR at the end of one is held back, for it may be half of a CRLF. Each costs a few passes
at C speed, and none is looked at twice.
"""

from __future__ import annotations

from mta_front.smtp.scan import count, find

END_OF_DATA = b".\r\n"


class BodyEncoder:
    """Encodes one message: `encode` each segment, then `finish`."""

    __slots__ = ("_at_line_start", "_cr_held")

    def __init__(self) -> None:
        self._at_line_start = True
        self._cr_held = False

    def encode(self, segment: bytes) -> bytes:
        """The bytes to send for this segment; may be empty."""
        if not segment:
            return b""
        if self._cr_held:
            segment = b"\r" + segment
        self._cr_held = segment[-1] == 13
        if self._cr_held:
            segment = segment[:-1]
            if not segment:
                return b""
        lines = count(segment, b"\r\n")
        if count(segment, b"\n") != lines or count(segment, b"\r") != lines:
            segment = segment.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
        if find(segment, b"\r\n.") >= 0:
            segment = segment.replace(b"\r\n.", b"\r\n..")
        if self._at_line_start and segment[0] == 46:
            segment = b"." + segment
        self._at_line_start = segment.endswith(b"\r\n")
        return segment

    def finish(self) -> bytes:
        """The end of data, after the line end that the message may lack."""
        if self._cr_held or not self._at_line_start:
            return b"\r\n" + END_OF_DATA
        return END_OF_DATA
