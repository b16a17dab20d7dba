"""Whatever a client sends, in whatever pieces, the receiving core, under any options,

- raises nothing but RemoteError (LocalError would be our bug, anything else a hole),
- answers with well-formed reply lines of at most 512 octets,
- answers the same, asks the same and hears the same messages, however the bytes were cut,
- keeps what it has not looked at bounded: a command line, or a piece of a body line,
- stays in step: a client that takes our replies at their word finds one for each of its commands, and one for each
  message (in LMTP for each recipient), and we heard exactly the messages that it sent. What the client's side makes
  of the octets is `tests.fuzz.clientside`, written from the RFCs and without a look at the core.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from mta_front.smtp import events, replies
from mta_front.smtp.connection import Connection, ConnectionOptions
from mta_front.smtp.errors import RemoteError
from mta_front.smtp.extensions import advertised, hello_reply
from mta_front.smtp.replies import Reply
from mta_front.smtp.state import Phase, Verb
from tests.fuzz.clientside import expected_messages, split_replies

HEADER_BYTES = 6
"""Octets of an input that choose the options, the answers and the cuts."""

COMMAND_MAX_BYTES = 12_288
MESSAGE_MAX_BYTES = 2 * 65536
REFUSAL = Reply(550, "5.7.1", "Not today")
LATER = Reply(451, "4.3.0", "Try again later")
CLOSING = Reply(421, "4.7.0", "Enough")
WRONG = Reply(535, "5.7.8", "Not you")
CHALLENGE = Reply(334, "", "Go on")
STARTTLS = re.compile(rb"STARTTLS[ \t]*\r\n", re.IGNORECASE)
DISABLED = ((), ("BDAT",), ("VRFY", "EXPN", "HELP"), ("RSET", "NOOP", "DATA"))

SEEDS = [
    b"EHLO a\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\nSubject: x\r\n\r\n..dot\r\n.\r\nQUIT\r\n",
    b"HELO a\r\nMAIL FROM:<>\r\nRCPT TO:<postmaster>\r\nDATA\r\n.\r\nRSET\r\nNOOP x\r\nVRFY y\r\nHELP\r\nQUIT\r\n",
    b'ehlo [IPv6:::1]\r\nmail from:<@x,@y:"a b"@c> size=10 body=8bitmime\r\nrcpt to:<"\\""@[192.0.2.1]>\r\n',
    b"EHLO a\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\na\n.\r\nb\r.\r\nc\r\n.\rd\n.\n\r\n.\r\n",
    b"EHLO a\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n" + b"x" * 70_000 + b"\r\n.\r\n",
    b"x" * 5000 + b"\r\nEHLO a\r\n",
    b"EHLO \xc3\xbc\r\nMAIL FROM:<\xff@b>\r\n\x00\r\n\r\n",
    b"LHLO a\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nRCPT TO:<e@f>\r\nDATA\r\nx\r\n.\r\nMAIL FROM:<a@b>\r\nQUIT\r\n",
    b"EHLO a\r\nMAIL FROM:<a@b> BODY=BINARYMIME\r\nRCPT TO:<c@d>\r\nBDAT 3\r\na\nbBDAT 4 LAST\r\n.\r\n.RSET\r\n",
    b"LHLO a\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nRCPT TO:<e@f>\r\nBDAT 2\r\nabRSET\r\nBDAT 3\r\nabcNOOP\r\n",
    b"LHLO a\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nRCPT TO:<e@f>\r\nBDAT 101\r\n%0101dBDAT 0 LAST\r\nNOOP\r\n" % 0,
    b"EHLO a\r\nMAIL FROM:<a@b> SMTPUTF8 RET=HDRS ENVID=a+20b AUTH=<> REQUIRETLS\r\nRCPT TO:<\xc3\xbc@b>\r\n",
    b"EHLO a\r\nMAIL FROM:<a@b>\r\nRCPT TO:<a@b> NOTIFY=SUCCESS,DELAY ORCPT=utf-8;\\x{FC}@b\r\n",
]

# fmt: off
TOKENS = [
    "EHLO ", "HELO ", "LHLO ", "MAIL FROM:", "RCPT TO:", "DATA\r\n", "BDAT ", " LAST\r\n", "RSET\r\n", "NOOP ", "VRFY ",
    "EXPN ", "HELP ", "STARTTLS\r\n", "AUTH PLAIN ", "AUTH LOGIN\r\n", "*\r\n",
    "QUIT\r\n", "GET / HTTP/1.1", "\r\n.\r\n", "\r\n..", "\n.\r\n", "\r.\r", "\r\n", "<a@b>", "<>",
    "<postmaster>", "[192.0.2.1]", " SIZE=", " BODY=", "BINARYMIME", "8BITMIME", " SMTPUTF8", " REQUIRETLS", " RET=",
    " ENVID=", " AUTH=", "+20", " NOTIFY=", " ORCPT=rfc822;",
]
# fmt: on


SEEDS += [
    b"EHLO a\r\nSTARTTLS\r\nMAIL FROM:<a@b>\r\nEHLO a\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nSTARTTLS\r\nQUIT\r\n",
    b"EHLO a\r\nAUTH PLAIN AGEAYg==\r\nQUIT\r\n*\r\nAUTH LOGIN\r\n\r\nQUIT\r\n%013000d\r\nAUTH\r\nMAIL FROM:<>\r\n" % 0,
]


@dataclass(slots=True)
class Setting:
    """What the first octets of an input choose."""

    options: ConnectionOptions
    secure: bool
    gate_until: int  # the gate is lifted after so many events; 0: there is none
    answers: int  # a bit for each of 16 questions in turn: refuse it
    close_at: int  # this event is answered 421; 0: none
    handshakes: bool  # the client waits after STARTTLS, and has TLS then

    @classmethod
    def of(cls, header: bytes) -> Setting:
        """From `HEADER_BYTES` - 1 octets."""
        sizes, how, who, low, high = header
        options = ConnectionOptions(
            lmtp=bool(how & 1),
            size_bytes=(0, 100, 1000, 100_000)[sizes & 3],
            max_recipients=(0, 1, 2, 3)[sizes >> 2 & 3],
            max_text_line_octets=50 if sizes & 128 else 0,
            bare_newline=("normalize", "reject", "accept")[(sizes >> 4 & 7) % 3],
            lenient_address_parsing=bool(how & 2),
            disabled_commands=frozenset(DISABLED[how >> 2 & 3]),
        )
        return cls(
            options,
            secure=bool(how & 16),
            gate_until=who & 7 if how & 32 else 0,
            answers=low | high << 8,
            close_at=who >> 3 if how & 64 else 0,
            handshakes=not how & 128,
        )

    def refuses(self, question: int) -> bool:
        """Is this question answered no?"""
        return bool(self.answers >> question % 16 & 1)


@dataclass(slots=True)
class Heard:
    """What one session came to."""

    said: bytes = b""
    asked: list[str] = field(default_factory=list)
    messages: list[bytes] = field(default_factory=list)
    body: bytes = b""
    recipients: int = 0
    errors: int = 0
    junk: int = 0


def one_input(data: bytes) -> None:
    """Five octets choose options and answers, one the cuts; the rest is what the client sends."""
    header = data[:HEADER_BYTES].ljust(HEADER_BYTES, b"\0")
    setting, cut = Setting.of(header[:-1]), header[-1]
    octets = data[HEADER_BYTES:]
    flights = [octets]
    if setting.handshakes:
        ends = [match.end() for match in STARTTLS.finditer(octets)]
        flights = [octets[at:end] for at, end in itertools.pairwise([0, *ends, len(octets)])]
    whole = play(flights, setting, eager=False)
    in_pieces = play((piece for flight in flights for piece in pieces(flight, cut)), setting, eager=bool(cut & 128))
    assert in_pieces == whole, f"cut by {cut}: {in_pieces} instead of {whole}"
    assert expected_messages(octets, split_replies(whole.said), setting.options) == whole.messages, whole


def pieces(octets: bytes, cut: int) -> Iterator[bytes]:
    """The octets in pieces of 1 to 8 and 1 to 16 by turns, or larger ones of long inputs: at most 512 in all."""
    least = len(octets) // 512 + 1
    at = 0
    for size in itertools.cycle([max((cut & 7) + 1, least), max((cut >> 3 & 15) + 1, least)]):
        if at >= len(octets):
            return
        yield octets[at : at + size]
        at += size


def play(chunks: Iterable[bytes], setting: Setting, *, eager: bool) -> Heard:
    """One session. `eager`: what is to be sent is asked for after each answer, not at the end of the input only."""
    connection = Connection(setting.options, secure=setting.secure)
    connection.gate = replies.AUTH_REQUIRED if setting.gate_until else None
    heard = Heard()
    connection.reply(replies.banner("mx.example"))
    for chunk in chunks:
        connection.receive(chunk)
        try:
            while (event := connection.next_event()) is not None:
                _hear(connection, event, heard, setting)
                if eager and connection.flush_due:
                    heard.said += connection.data_to_send()
        except RemoteError as error:
            heard.said += connection.data_to_send() + error.reply.wire
            return heard
        heard.said += connection.data_to_send()
        if connection.closed:
            break
        in_message = connection.phase in (Phase.BODY, Phase.CHUNKS)
        bound = MESSAGE_MAX_BYTES if in_message else COMMAND_MAX_BYTES
        assert connection.buffered_bytes <= bound, connection.buffered_bytes
    connection.interrupt(CLOSING)
    heard.said += connection.data_to_send()
    heard.body = b""
    heard.errors, heard.junk = connection.errors, connection.junk
    return heard


def _hear(connection: Connection, event: events.Event, heard: Heard, setting: Setting) -> None:
    """Note the event, and answer it if it is a question."""
    if isinstance(event, events.Segment):
        assert event.data
        assert event.partial or event.data.endswith(b"\r\n") or setting.options.bare_newline == "accept"
        heard.body += event.data
        return
    heard.asked.append(type(event).__name__)
    count = len(heard.asked)
    if count == setting.gate_until:
        connection.gate = None
    if isinstance(event, events.Answered):
        heard.asked[-1] += f" {Verb(event.verb).name} {event.reply.code}"
    elif isinstance(event, events.Abandoned):
        heard.asked[-1] += f" {heard.body!r}"
    elif count == setting.close_at:
        connection.reply(CLOSING)
    elif isinstance(event, events.StartTls) and setting.handshakes:
        connection.reply(replies.READY_FOR_TLS)
        heard.said += connection.data_to_send()
        connection.restart()
    elif isinstance(event, events.Auth | events.Response):
        _exchange(connection, event, heard, setting.refuses(count))
    elif isinstance(event, events.End) and setting.options.lmtp:
        connection.reply_each([_answer(event, heard, setting.refuses(count))] * heard.recipients)
    else:
        connection.reply(_answer(event, heard, setting.refuses(count)))


def _exchange(connection: Connection, event: events.Auth | events.Response, heard: Heard, refused: bool) -> None:
    said = event.initial if isinstance(event, events.Auth) else event.line
    heard.asked[-1] += f" {said!r}"
    if refused or (said is None and isinstance(event, events.Response)):
        connection.reply(WRONG)
    elif len(heard.asked) % 3:
        connection.reply(CHALLENGE)
    else:
        connection.authenticated()
        connection.reply(replies.AUTH_SUCCEEDED)


def _answer(event: events.Event, heard: Heard, refused: bool) -> Reply:
    match event:
        case events.Hello():
            return hello_reply("mx.example", () if event.command == "HELO" else advertised(size_bytes=0))
        case events.Mail():
            heard.recipients = 0
        case events.Rcpt():
            heard.recipients += not refused
        case events.Data():
            heard.body = b""
            return LATER if refused else replies.START_MAIL_INPUT
        case events.End():
            if event.refusal is None:
                heard.messages.append(heard.body)
            heard.body = b""  # of what is refused, how much is given as segments depends on the cuts
            return event.refusal or (REFUSAL if refused else replies.OK)
        case events.Quit():
            return replies.BYE
        case events.Reset():
            return replies.OK
        case events.StartTls():
            return LATER
        case _:
            pass
    return REFUSAL if refused else replies.OK
