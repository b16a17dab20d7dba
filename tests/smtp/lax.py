r"""A receiver that is lax in every way that smuggling needs.

A line ends at CRLF, at LF or at CR; so a dot between any two of them ends a message, and so does a dot with a NUL
behind it, as for C's string functions. What comes as chunks it counts, and then passes on as DATA to another like
itself, with dots stuffed after CRLF only, which is all that RFC 5321 §4.5.2 asks.
"""

from __future__ import annotations

import re

_END = re.compile(rb"(?:\A|\r\n|\n|\r)\.\x00*(?:\r\n|\n|\r(?!\Z))")
_LINE = re.compile(rb"([^\r\n]*)(?:\r\n|\n|\r(?!\Z))")
_BDAT = re.compile(rb"BDAT ([0-9]+)( LAST)?", re.IGNORECASE)


class LaxReceiver:
    """`messages`: the content of each that it took, `envelopes`: its MAIL and RCPT lines."""

    def __init__(self, *offer: bytes) -> None:
        self.messages: list[bytes] = []
        self.envelopes: list[list[bytes]] = []
        self._offer = offer
        self._pending = b""
        self._chunks: list[bytes] = []
        self._in_data = False
        self._said = b"220 lax\r\n"

    def answers(self) -> bytes:
        return self._said

    def receive(self, data: bytes) -> None:
        self._pending += data
        while self._take():
            pass

    def _take(self) -> bool:
        if self._in_data:
            end = _END.search(self._pending)
            if end is None:
                return False
            self.messages.append(self._pending[: end.start()])
            self._pending = self._pending[end.end() :]
            self._in_data = False
            return self._say(b"250 taken")
        line = _LINE.match(self._pending)
        if line is None:
            return False
        if chunk := _BDAT.fullmatch(line[1]):
            return self._chunk(line.end(), int(chunk[1]), bool(chunk[2]))
        self._pending = self._pending[line.end() :]
        return self._command(line[1])

    def _command(self, line: bytes) -> bool:
        verb = line[:4].upper()
        if verb == b"EHLO":
            lines = [b"lax", *self._offer]
            self._said += b"".join(b"250-%s\r\n" % each for each in lines[:-1])
            return self._say(b"250 " + lines[-1])
        if verb == b"MAIL":
            self.envelopes.append([line])
        elif verb == b"RCPT" and self.envelopes:
            self.envelopes[-1].append(line)
        elif verb == b"DATA":
            self._in_data = True
            return self._say(b"354 go")
        return self._say(b"250 fine")

    def _chunk(self, start: int, octets: int, last: bool) -> bool:
        if len(self._pending) < start + octets:
            return False
        self._chunks.append(self._pending[start : start + octets])
        self._pending = self._pending[start + octets :]
        self._pending = self._pending[start + octets :]
        if last:
            self._pass_on(b"".join(self._chunks))
            self._chunks.clear()
        return self._say(b"250 counted")

    def _pass_on(self, content: bytes) -> None:
        stuffed = re.sub(rb"(\A|\r\n)\.", rb"\1..", content)
        following = LaxReceiver()
        following.receive(b"DATA\r\n" + stuffed + (b"" if stuffed.endswith(b"\r\n") else b"\r\n") + b".\r\n")
        self.messages += following.messages
        self.envelopes += following.envelopes

    def _say(self, reply: bytes) -> bool:
        self._said += reply + b"\r\n"
        return True
