"""Whatever a client sends, in whatever pieces, the receiving core

- raises nothing but RemoteError (LocalError would be our bug, anything else a hole),
- answers with well-formed reply lines of at most 512 octets, one reply for each question,
- hears the same commands and messages, and answers the same, however the bytes were cut,
- keeps what it has not looked at bounded: a command line, or a piece of a body line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from mta_front.smtp import events, replies
from mta_front.smtp.connection import Connection, ConnectionOptions
from mta_front.smtp.errors import RemoteError
from mta_front.smtp.extensions import advertised, hello_reply
from mta_front.smtp.replies import Reply

REPLY_LINES = re.compile(rb"(?:[2-5][0-9]{2}[ -][\x20-\x7e]{0,506}\r\n)*")
UNSEEN_MAX_BYTES = 128 * 1024
REFUSAL = Reply(550, "5.7.1", "Not today")
LATER = Reply(451, "4.3.0", "Try again later")

SEEDS = [
    b"EHLO a\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\nSubject: x\r\n\r\n..dot\r\n.\r\nQUIT\r\n",
    b"HELO a\r\nMAIL FROM:<>\r\nRCPT TO:<postmaster>\r\nDATA\r\n.\r\nRSET\r\nNOOP x\r\nVRFY y\r\nHELP\r\nQUIT\r\n",
    b'ehlo [IPv6:::1]\r\nmail from:<@x,@y:"a b"@c> size=10 body=8bitmime\r\nrcpt to:<"\\""@[192.0.2.1]>\r\n',
    b"EHLO a\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\na\n.\r\nb\r.\r\nc\r\n.\rd\n.\n\r\n.\r\n",
    b"EHLO a\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n" + b"x" * 70_000 + b"\r\n.\r\n",
    b"x" * 5000 + b"\r\nEHLO a\r\n",
    b"EHLO \xc3\xbc\r\nMAIL FROM:<\xff@b>\r\n\x00\r\n\r\n",
]


@dataclass(slots=True)
class Heard:
    """What one session came to."""

    said: bytes = b""
    asked: list[str] = field(default_factory=list)
    messages: list[bytes] = field(default_factory=list)
    body: bytes = b""


def one_input(data: bytes) -> None:
    """Three octets choose options, answers and cuts; the rest is what the client sends."""
    settings, answers, cut = (*data[:3], 0, 0, 0)[:3]
    octets = data[3:]
    whole = play([octets], settings, answers)
    assert REPLY_LINES.fullmatch(whole.said), whole.said
    in_pieces = play(pieces(octets, cut), settings, answers)
    assert in_pieces == whole, f"cut by {cut % 7 + 1}: {in_pieces} instead of {whole}"


def pieces(octets: bytes, cut: int) -> Iterator[bytes]:
    """The octets in pieces of 1 to 7, or larger ones of long inputs: at most 256 in all."""
    size = max(cut % 7 + 1, len(octets) // 256 + 1)
    for at in range(0, len(octets), size):
        yield octets[at : at + size]


def play(chunks: Iterator[bytes] | list[bytes], settings: int, answers: int) -> Heard:
    """One session. `answers` has a bit for each of eight questions in turn: refuse it."""
    connection = Connection(
        ConnectionOptions(
            size_bytes=(0, 100, 1000, 100_000)[settings & 3],
            max_recipients=(0, 1, 2, 3)[settings >> 2 & 3],
            bare_newline=("normalize", "reject", "accept")[(settings >> 4) % 3],
        )
    )
    heard = Heard()
    connection.reply(replies.banner("mx.example"))
    for chunk in chunks:
        if connection.closed:
            break
        connection.receive(chunk)
        try:
            while (event := connection.next_event()) is not None:
                _answer(connection, event, heard, answers)
        except RemoteError as error:
            heard.said += connection.data_to_send() + error.reply.wire
            return heard
        heard.said += connection.data_to_send()
        assert connection.buffered_bytes <= UNSEEN_MAX_BYTES, connection.buffered_bytes
    connection.interrupt(replies.OK)
    heard.said += connection.data_to_send()
    heard.body = b""
    return heard


def _answer(connection: Connection, event: events.Event, heard: Heard, answers: int) -> None:
    if isinstance(event, events.Segment):
        heard.body += event.data
        return
    heard.asked.append(type(event).__name__)
    if isinstance(event, events.Abandoned):
        return
    refused = bool(answers >> len(heard.asked) % 8 & 1)
    match event:
        case events.Hello():
            reply = hello_reply("mx.example", () if event.command == "HELO" else advertised(size_bytes=0))
        case events.Data():
            reply = LATER if refused else replies.START_MAIL_INPUT
            heard.body = b""
        case events.End():
            if event.refusal is None:
                heard.messages.append(heard.body)
            reply = event.refusal or (LATER if refused else replies.OK)
        case events.Quit():
            reply = replies.BYE
        case _:
            reply = REFUSAL if refused else replies.OK
    connection.reply(reply)
