"""What a client that pipelines blindly makes of our replies: the other end's view of a session, from the RFCs alone.

It walks through the octets that it sent beside the replies that it got. Whenever the two drift apart (a reply is
missing, there is one too many, or a body ended elsewhere for us than for the client), somebody could smuggle.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from mta_front.smtp.commands import ConnectionOptions

# Reply-line = *( Reply-code "-" [ textstring ] CRLF ) Reply-code [ SP textstring ] CRLF (RFC 5321 §4.2)
_REPLY = re.compile(rb"(?:([2-5][0-9]{2})-[\x20-\x7e]{0,506}\r\n)*([2-5][0-9]{2}) [\x20-\x7e]{0,506}\r\n")
# bdat-cmd = "BDAT" SP chunk-size [ SP end-marker ] (RFC 3030 §2); white space at the end as RFC 5321 §4.1.1 takes it
_BDAT = re.compile(rb"(?i:BDAT) [ \t]*([0-9]{1,20})(?: +((?i:LAST)))?[ \t]*")
_NEWLINE = re.compile(rb"\r\n|\r|\n")
COMMAND_MAX_OCTETS = 510
LONGER = (b"MAIL", b"RCPT", b"AUTH")  # with their parameters, and with an initial response (RFC 4954 §4)
REFUSED_AT_ONCE = (500, 501, 502, 503, 530)
"""Replies to a BDAT that belongs to no message: whatever the protocol, there is one."""


def split_replies(said: bytes) -> list[int]:
    """The codes of all replies. Raises AssertionError where one is malformed, too long, or of two minds."""
    codes = []
    at = 0
    while at < len(said):
        match = _REPLY.match(said, at)
        assert match is not None, said[at : at + 600]
        assert match[1] in (None, match[2]), match[0]
        codes.append(int(match[2]))
        at = match.end()
    return codes


@dataclass(slots=True)
class Walk:
    """The client's notes while it walks."""

    octets: bytes
    codes: list[int]
    options: ConnectionOptions
    at: int = 0
    heard: int = 0
    recipients: int = 0
    chunks: bytes | None = None  # what was accepted of a message in chunks so far

    def reply(self) -> int:
        """The next reply. Raises AssertionError when there is none."""
        assert self.heard < len(self.codes), f"no reply to what ends at {self.at}"
        self.heard += 1
        return self.codes[self.heard - 1]

    def line(self) -> bytes | None:
        """The next command line, without its CRLF."""
        end = self.octets.find(b"\r\n", self.at)
        if end < 0:
            return None
        line = self.octets[self.at : end]
        self.at = end + 2
        return line


def expected_messages(octets: bytes, codes: list[int], options: ConnectionOptions) -> list[bytes]:
    """The messages that the server must have heard, given its replies. The last reply is a 421 that ends the session.

    Raises AssertionError when replies and commands do not match one to one.
    """
    walk = Walk(octets, codes, options)
    messages: list[bytes] = []
    assert walk.reply() == 220
    while walk.codes[walk.heard - 1] not in (221, 421) and (line := walk.line()) is not None:
        word = line.partition(b" ")[0].upper()
        chunk = _BDAT.fullmatch(line)
        if len(line) > COMMAND_MAX_OCTETS and word not in LONGER:
            assert walk.reply() in (500, 421)
        elif chunk is not None:
            if not _chunk(walk, int(chunk[1]), chunk[2] is not None, messages):
                break
        elif word == b"DATA":
            if walk.reply() == 354 and not _body(walk, messages):
                break
        else:
            _command(walk, word)
    if walk.heard < len(codes):
        assert walk.reply() == 421
    assert walk.heard == len(codes), f"{len(codes) - walk.heard} replies too many after {octets[: walk.at]!r}"
    return messages


def _command(walk: Walk, word: bytes) -> None:
    code = walk.reply()
    while code == 334 and walk.line() is not None:  # AUTH: the next line is a response, whatever it looks like
        code = walk.reply()
    if code >= 400:
        return
    if word == b"RCPT":
        walk.recipients += 1
    elif word in (b"MAIL", b"RSET", b"EHLO", b"HELO", b"LHLO"):
        walk.recipients = 0
        walk.chunks = None


def _answers(walk: Walk) -> int:
    """The reply to a message; in LMTP they are as many as there are recipients (RFC 2033 §4.2), here all the same."""
    code = walk.reply()
    for _ in range(walk.recipients - 1 if walk.options.lmtp and code != 421 else 0):
        assert walk.reply() == code
    walk.recipients = 0
    return code


def _body(walk: Walk, messages: list[bytes]) -> bool:
    """A message by DATA. False: its end was not sent."""
    octets, at = walk.octets, walk.at
    end = at if octets.startswith(b".\r\n", at) else octets.find(b"\r\n.\r\n", at) + 2
    if end < max(at, 2):
        return False
    raw = octets[at:end]
    walk.at = end + 3
    lines = raw.split(b"\r\n")
    text = b"\r\n".join(line[1:] if line.startswith(b".") else line for line in lines)
    bare = any(b"\r" in line or b"\n" in line for line in lines)
    if walk.options.bare_newline == "normalize":
        text = _NEWLINE.sub(b"\r\n", text)
    too_big = bool(walk.options.size_bytes) and len(text) > walk.options.size_bytes
    longest = max(len(line) + 1 for line in raw.split(b"\n"))
    too_long = bool(walk.options.max_text_line_octets) and longest > walk.options.max_text_line_octets
    code = _answers(walk)
    if too_big:
        assert code in (552, 421), code
    elif too_long:
        assert code in (500, 550, 421), code
    elif bare and walk.options.bare_newline == "reject":
        assert code in (550, 421), code
    elif code != 421:
        assert code in (250, 550), code
        messages.append(text)
    return True


def _chunk(walk: Walk, size: int, last: bool, messages: list[bytes]) -> bool:
    """One BDAT. False: not all of its octets were sent."""
    chunk = walk.octets[walk.at : walk.at + size]
    if len(chunk) < size:
        return False
    walk.at += size
    code = walk.codes[walk.heard]
    if code in REFUSED_AT_ONCE or (code == 451 and walk.chunks is None):
        walk.reply()
        if code == 451:
            walk.recipients = 0
        return True
    text = (walk.chunks or b"") + chunk
    too_big = bool(walk.options.size_bytes) and len(text) > walk.options.size_bytes
    if not last and not too_big:
        code = walk.reply()
        assert code in (250, 421), code
        walk.chunks = text
        return True
    walk.chunks = None
    if not last:  # a chunk that is refused has one reply in LMTP, too: those per recipient are for the last
        code = walk.reply()
        walk.recipients = 0
    else:
        code = _answers(walk)
    if too_big:
        assert code in (552, 421), code
    elif code != 421:
        assert code in (250, 550), code
        messages.append(text)
    return True
