"""The four messages that every real client is given, and what the server must then have.

Between them they hold what clients and servers have got wrong before: lines that are or begin with dots, lines longer
than any buffer, octets that are no text in any charset, a last line without an end, empty lines at the end.
"""

from __future__ import annotations

import base64
import random
from dataclasses import dataclass

from tests.settingsfile import OURS

LARGE_BYTES = 20 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """A message with its envelope; `content` is what a client is given, its line ends CRLF.

    `eight_bit`: it needs BODY=8BITMIME (RFC 6152). `utf8`: its addresses need SMTPUTF8 (RFC 6531).
    """

    name: str
    mail_from: str
    rcpt_to: tuple[str, ...]
    content: bytes
    eight_bit: bool = False
    utf8: bool = False

    @property
    def unix(self) -> bytes:
        """As a Unix program is given it: its line ends LF."""
        return self.content.replace(b"\r\n", b"\n")

    @property
    def whole(self) -> bytes:
        """As a server has it: the last line has its end, whether the client was given one or not."""
        return self.content if self.content.endswith(b"\r\n") else self.content + b"\r\n"


def _head(name: str, mail_from: str, rcpt_to: str, encoding: str) -> bytes:
    """A complete header, so that no client finds one to add."""
    lines = [
        f"From: {mail_from}",
        f"To: {rcpt_to}",
        f"Subject: {name}",
        "Date: Sat, 21 Nov 2026 12:00:00 +0000",
        f"Message-ID: <{name}@client.example>",
        "MIME-Version: 1.0",
        "Content-Type: text/plain; charset=utf-8",
        f"Content-Transfer-Encoding: {encoding}",
        "X-Folded: one",
        "\ttwo",
        "  three",
    ]
    return "".join(f"{line}\r\n" for line in lines).encode() + b"\r\n"


DOTS = b".\r\n..\r\n...\r\n.begins with one\r\n..begins with two\r\nends with one.\r\n. \r\n .\r\n"
LONG = b"x" * 998 + b"\r\n" + b"y" * 9_973 + b"\r\n." + b"z" * 70_001 + b"\r\n" + b"." * 70_003 + b"\r\n"
OCTETS = bytes(range(0x80, 0x100)) + b"\r\n" + "Überall 日本語 €\r\n".encode()

PLAIN = Letter(
    name="plain",
    mail_from="plain@client.example",
    rcpt_to=(f"b@{OURS}",),
    content=_head("plain", "plain@client.example", f"b@{OURS}", "7bit") + DOTS + LONG + DOTS + b".and no line end",
)
EIGHT_BIT = Letter(
    name="eight-bit",
    mail_from="eight@client.example",
    rcpt_to=(f"b@{OURS}", f"c@{OURS}"),  # LMTP answers for each
    content=_head("eight-bit", "eight@client.example", f"b@{OURS}", "8bit") + OCTETS + DOTS + OCTETS + b"\r\n\r\n\r\n",
    eight_bit=True,
)
UTF8 = Letter(
    name="utf-8",
    mail_from="жук@client.example",
    rcpt_to=(f"δοκιμή@{OURS}",),
    content=_head("utf-8", "жук@client.example", f"δοκιμή@{OURS}", "8bit") + OCTETS + DOTS,
    eight_bit=True,
    utf8=True,
)


def _large() -> bytes:
    head = _head("large", "large@client.example", f"b@{OURS}", "7bit")
    lines = base64.encodebytes(random.Random(20).randbytes(57 * 4096)).replace(b"\n", b"\r\n") + DOTS
    body = lines * (LARGE_BYTES // len(lines) + 1)
    return head + body[: LARGE_BYTES - len(head)].rstrip(b"\r\n") + b"\r\n"


LARGE = Letter(name="large", mail_from="large@client.example", rcpt_to=(f"b@{OURS}",), content=_large())
LETTERS = (PLAIN, EIGHT_BIT, UTF8, LARGE)
