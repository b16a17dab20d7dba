"""The receiving side of SMTP and LMTP without I/O.

    connection = Connection(options)
    connection.reply(banner)                      # the first event is the connection itself
    connection.receive(bytes)                     # whatever the socket gave, cut anywhere
    while (event := connection.next_event()) is not None:
        connection.reply(...)                     # every event but Answered, Segment and Abandoned
    socket.send(connection.data_to_send())

What the owner owes the core: it answers each event before it asks for the next (LMTP: `End` with `reply_each`); it
sends `data_to_send()` when `next_event()` gave None, and whenever `flush_due` says that a client may be waiting; it
ends the session when `closed` is true and everything is sent.

What the core does by itself: syntax, legality (`state`), limits of the grammar, the commands that need nobody's opinion
(NOOP, HELP, VRFY, EXPN), and all chunks of a message but its first and last (RFC 3030). Of each such answer it tells
by `Answered`, so that the owner can count, yield, and end a session that does nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence

from mta_front.smtp import commands, replies
from mta_front.smtp.buffer import ReceiveBuffer
from mta_front.smtp.commands import ConnectionOptions, Facts
from mta_front.smtp.data import BodyReader, ChunkReader
from mta_front.smtp.errors import BadSyntax, LocalError, RemoteError
from mta_front.smtp.events import Abandoned, Answered, Data, End, Event, Mail, Response
from mta_front.smtp.params import NO_MAIL_PARAMETERS, MailParameters
from mta_front.smtp.replies import Reply
from mta_front.smtp.state import HOLDS_REPLY, Machine, Phase, Verb

__all__ = ["Connection", "ConnectionOptions"]

MAX_COMMAND_OCTETS = 512
"""A command line with its CRLF (RFC 5321 §4.5.3.1.4)."""

MAX_PATH_COMMAND_OCTETS = 2048
"""A MAIL or RCPT line: each extension's parameters need room beside the 512 (RFC 5321 §4.5.3.1.4, RFC 3461 §5)."""

MAX_LINE_OCTETS = 12_288
"""An AUTH line or response (RFC 4954 §4), and so any line: no command has a longer one."""

MAX_DEFERRALS = 1000
"""MAIL and RCPT that may be answered 4xx before each is junk: a client may name more recipients than fit, or be told to
come again for each of them, and is no flood for that."""

# An attribute of an Enum class costs 70 ns (CPython 3.11), a name of the module 5; these are asked for at each command.
_CONNECT, _MAIL, _RCPT, _DATA, _BDAT, _DOT = Verb.CONNECT, Verb.MAIL, Verb.RCPT, Verb.DATA, Verb.BDAT, Verb.DOT
_UNKNOWN, _CLOSED, _AUTH = Verb.UNKNOWN, Phase.CLOSED, Phase.AUTH

_LONGER = {
    Verb.MAIL: MAX_PATH_COMMAND_OCTETS,
    Verb.RCPT: MAX_PATH_COMMAND_OCTETS,
    Verb.AUTH: MAX_LINE_OCTETS,
    Verb.XCLIENT: MAX_PATH_COMMAND_OCTETS,
    Verb.XFORWARD: MAX_PATH_COMMAND_OCTETS,
}
_GATED = frozenset({Verb.MAIL, Verb.RCPT, Verb.DATA, Verb.BDAT, Verb.VRFY, Verb.EXPN})
"""What a client that must log in first may not do before (RFC 4954 §6, 530)."""

_JUNK = frozenset({Verb.NOOP, Verb.RSET, Verb.VRFY, Verb.EXPN, Verb.HELP, Verb.EHLO, Verb.HELO, Verb.LHLO})
_VERBS = {False: commands.verbs(lmtp=False), True: commands.verbs(lmtp=True)}


class Connection:
    """One session's protocol state. See the module's text.

    `gate`: set by the owner while something is missing (a login): the answer
    to every command of a mail transaction. `errors`: commands answered 5xx, `junk`: commands that lead to no message;
    both since the last message that was accepted.
    """

    __slots__ = (
        "_body", "_buffer", "_chunks", "_cut_short", "_deferrals", "_discard_bytes", "_discard_reply", "_facts",
        "_in_chunk", "_machine", "_next", "_options", "_out", "_overlong", "_pending", "_proposed", "_verbs", "errors",
        "flush_due", "gate", "junk",
    )  # fmt: skip

    def __init__(self, options: ConnectionOptions, *, secure: bool = False) -> None:
        """`secure`: TLS is up from the first octet."""
        self._options = options
        self._verbs = _VERBS[options.lmtp]
        self._buffer = ReceiveBuffer()
        self._machine = Machine()
        self._facts = Facts(options, secure)
        self._pending: int | None = _CONNECT  # the verb whose answer is owed
        self._next: tuple[int, Event] | None = None  # what follows on Abandoned
        self._out: list[bytes] = []
        self._body: BodyReader | None = None
        self._chunks: ChunkReader | None = None
        self._cut_short = False  # the message ended in a chunk that was refused and not the last
        self._in_chunk = False  # octets of a chunk come now
        self._deferrals = 0  # MAIL and RCPT answered 4xx since the last message that was accepted
        self._discard_bytes = 0  # octets of a chunk that nobody wants
        self._discard_reply: tuple[int, Reply] | None = None  # the verb and its answer, when they have come
        self._proposed: MailParameters = NO_MAIL_PARAMETERS  # of a MAIL that is not answered yet
        self._overlong = b""  # the beginning of the present line, which is too long to keep
        self.gate: Reply | None = None
        self.errors = 0
        self.junk = 0
        self.flush_due = False

    @property
    def phase(self) -> Phase:
        """Where the session stands."""
        return self._machine.phase

    @property
    def closed(self) -> bool:
        """The last reply closed the session."""
        return self._machine.phase is _CLOSED

    @property
    def buffered_bytes(self) -> int:
        """Bytes received and not yet looked at."""
        return len(self._buffer)

    @property
    def discarding(self) -> bool:
        """The octets of a chunk that was refused are coming in."""
        return self._discard_reply is not None

    def restart(self) -> None:
        """TLS is up: forget all that the client said in the clear (RFC 3207 §4.2).

        Raises RemoteError when there is input left from before the handshake: whoever put it there could not have
        known the keys (CVE-2011-0411).
        """
        if len(self._buffer):
            raise RemoteError(replies.NOT_IN_STEP)
        self._facts = Facts(self._options, secure=True)

    def begin_anew(self, options: ConnectionOptions, gate: Reply | None, authenticated: bool) -> None:
        """Somebody else is the client now (XCLIENT): forget all that was said, and go on by that one's options."""
        self._options = options
        self._facts = Facts(options, self._facts.secure, authenticated)
        self.gate = gate

    def authenticated(self) -> None:
        """The client has logged in; the owner answers 235 next."""
        self._facts.authenticated = True
        self.gate = None

    def receive(self, data: bytes) -> None:
        """Take what the socket gave; b"" is nothing, and what comes after the end is dropped."""
        if data and self._machine.phase is not _CLOSED:
            self._buffer.receive(data)

    # -- in: bytes to events -----------------------------------------------------------------------------------------

    def next_event(self) -> Event | None:
        """The next event, or None: send what there is to send, then wait for more bytes.

        Raises LocalError when the last event was not answered.
        """
        if self._pending is not None:
            raise LocalError(f"{Verb(self._pending).name} is not answered yet")
        while self._machine.phase is not _CLOSED:
            if self._body is not None:
                read = self._body.next(self._buffer)
                if type(read) is End:
                    self._pending = _DOT
                    self._body = None
                    self._cut_short = False
                elif read is None:
                    break
                return read
            if self._in_chunk:
                event = self._next_of_chunk()
                if event is None:
                    break
            elif self._discard_reply is not None:
                event = self._discard()
                if event is None:
                    break
            elif self._next is not None:
                self._pending, event = self._next
                self._next = None
            else:
                line = self._next_line()
                if line is None:
                    break
                event = self._command(line) if self._machine.phase is not _AUTH else self._response(line)
                if event is None:  # a BDAT: its octets come next
                    continue
            return event
        self.flush_due = bool(self._out)
        return None

    def _next_line(self) -> bytes | None:
        """A command line; of one that is too long its beginning, which is too long, too; None: more is wanted."""
        buffer = self._buffer
        while True:
            data = buffer.data
            pos = buffer.pos
            end = data.find(b"\r\n", pos, pos + MAX_LINE_OCTETS)
            if end >= 0:
                buffer.pos = end + 2
                if not self._overlong:
                    return data[pos:end]
                line, self._overlong = self._overlong, b""
                return line
            if len(data) - pos >= MAX_LINE_OCTETS:
                # Answered once, when its end has come. A CR at the edge may be half of its CRLF.
                buffer.pos = pos + MAX_LINE_OCTETS - 1
                self._overlong = self._overlong or data[pos : buffer.pos]
            elif buffer.aside_bytes:
                buffer.settle()
            else:
                return None

    def _command(self, line: bytes) -> Event | None:
        """Check one command line: an event, or None for a BDAT whose octets come next."""
        word, _, argument = line.partition(b" ")
        verb = self._verbs.get(word)
        if verb is None:
            verb = self._verbs.get(word.upper(), _UNKNOWN)
        if len(line) > MAX_COMMAND_OCTETS - 2 and len(line) > _LONGER.get(verb, 0) - 2:
            return self._answer(_UNKNOWN, commands.too_long(line))
        if verb is _UNKNOWN:
            return self._answer(_UNKNOWN, commands.unknown(line))
        if verb is _BDAT:
            return self._bdat(argument)
        if self.gate is not None or self._options.disabled_commands or not self._machine.allows(verb):
            refusal = self._illegal(verb)
            if refusal is not None:
                return self._answer(verb, refusal)
        if verb in _JUNK:
            self.junk += 1
        try:
            parsed = commands.PARSERS[verb](argument, self._facts)
        except BadSyntax as error:
            return self._answer(verb, error.reply)
        if isinstance(parsed, Reply):
            return self._answer(verb, parsed)
        if self._chunks is not None:
            self._chunks = None
            self._next = verb, parsed
            return Abandoned()
        self._pending = verb
        if type(parsed) is Mail:
            self._proposed = parsed.parameters
        return parsed

    def _response(self, line: bytes) -> Response:
        """A line of an AUTH exchange."""
        self._pending = Verb.RESPONSE
        return Response(None if len(line) > MAX_LINE_OCTETS - 2 else line.decode("latin-1"))

    def _illegal(self, verb: Verb) -> Reply | None:
        options = self._options
        if options.disabled_commands and verb.name in options.disabled_commands:
            return replies.COMMAND_DISABLED
        phase = self._machine.phase
        if self.gate is not None and verb in _GATED and phase is not Phase.HELLO:
            return self.gate
        if not self._machine.allows(verb):
            return commands.out_of_sequence(phase, verb, options.lmtp)
        return None

    def _answer(self, verb: int, reply: Reply) -> Answered:
        """Answer what nobody else is asked. Between chunks that moves nothing: they are kept."""
        self._pending = verb if self._chunks is None or verb == _BDAT else _UNKNOWN
        self.reply(reply)
        return Answered(verb, reply)

    # -- chunks (RFC 3030) -------------------------------------------------------------------------------------------

    def _bdat(self, argument: bytes) -> Event | None:
        """Whatever the answer will be, the chunk's octets follow the command and are no commands."""
        try:
            octets, last = commands.chunk(argument)
        except BadSyntax as error:
            if self._chunks is None:
                return self._answer(_BDAT, error.reply)
            return self._end(self._chunks, error.reply, last=False)
        refusal = self._illegal(_BDAT)
        if refusal is not None:
            self._discard_bytes = octets
            self._discard_reply = _BDAT, refusal
            return None
        first = self._chunks is None
        if self._chunks is None:
            self._chunks = ChunkReader(self._options.size_bytes)
        self._chunks.begin(octets, last)
        if self._chunks.tiny:
            self.junk += 1
        if not first:
            self._in_chunk = True
            return None
        self._pending = _BDAT
        return Data(chunked=True)

    def _next_of_chunk(self) -> Event | None:
        chunks = self._chunks
        assert chunks is not None
        segment = chunks.next(self._buffer)
        if segment is not None or chunks.left_bytes:
            return segment
        self._in_chunk = False
        if chunks.last or chunks.refusal is not None:
            return self._end(chunks, chunks.refusal, chunks.last)
        return self._answer(_BDAT, replies.CHUNK_OK)

    def _end(self, chunks: ChunkReader, refusal: Reply | None, last: bool) -> End:
        """The message in chunks is over: complete, or refused in its middle."""
        self._chunks = None
        self._cut_short = not last
        self._pending = _DOT
        return End(chunks.size_bytes, refusal)

    def _discard(self) -> Answered | None:
        """Drop what there is of an unwanted chunk; answer when it is all gone. None: more must come."""
        self._discard_bytes -= len(self._buffer.take(self._discard_bytes))
        if self._discard_bytes:
            return None
        assert self._discard_reply is not None
        verb, reply = self._discard_reply
        self._discard_reply = None
        return self._answer(verb, reply)

    # -- out: replies to bytes ---------------------------------------------------------------------------------------

    def reply(self, reply: Reply) -> None:
        """Answer the event last given. The answer moves the state. Raises LocalError when nothing is owed."""
        verb = self._pending
        if verb is None:
            raise LocalError("no event waits for a reply")
        self._pending = None
        code = reply.code
        if verb == _BDAT and self._chunks is not None and not self._in_chunk and code != 250:
            self._answer_first_chunk(self._chunks, reply)
            return
        self._out.append(reply.wire)
        if verb != _UNKNOWN:
            self._machine.answered(verb, code)
        elif code == 421:
            self._machine.close()
        if code >= 400:
            self._count_refusal(verb, code)
        if verb == _RCPT:
            self._facts.recipients += code < 400
        elif verb == _MAIL:
            if code < 400:
                self._facts.recipients = 0
                self._facts.mail = self._proposed
        elif verb == _DATA:
            if code < 400:
                self._buffer.settle()
                options = self._options
                self._body = BodyReader(options.size_bytes, options.bare_newline, options.max_text_line_octets)
        elif verb == _DOT and code < 400:
            self.junk = 0
            self.errors = 0
            self._deferrals = 0
        if verb not in HOLDS_REPLY:
            self.flush_due = True

    def _count_refusal(self, verb: int, code: int) -> None:
        if code >= 500:
            self.errors += 1
        elif verb in (_MAIL, _RCPT):
            self._deferrals += 1
            if self._deferrals > MAX_DEFERRALS:
                self.junk += 1

    def _answer_first_chunk(self, chunks: ChunkReader, reply: Reply) -> None:
        """354 lets the octets come, and is not sent; a refusal is sent when they have been dropped (RFC 3030 §2)."""
        if reply.code < 400:
            self._machine.answered(_BDAT, reply.code)
            self._in_chunk = True
        else:
            self._chunks = None
            self._discard_bytes = chunks.left_bytes
            self._discard_reply = _BDAT, reply

    def reply_each(self, each: Sequence[Reply]) -> None:
        """Answer `End` in LMTP: one reply per accepted recipient, in their order (RFC 2033 §4.2). A chunk that was
        refused before the last one has one reply only (§4.3).
        """
        if self._pending != _DOT or not each:
            raise LocalError("only the end of a message has a reply for each recipient")
        if not self._cut_short:
            self._out.extend(reply.wire for reply in each[:-1])
        self.reply(each[-1])
        if any(reply.code == 421 for reply in each):
            self._machine.close()

    def take_back(self) -> None:
        """Drop the answer to the last event, which was `Answered` and is not sent yet: `interrupt` gives another."""
        self._out.pop()

    def interrupt(self, reply: Reply) -> None:
        """Say something that answers nothing (421 before a close), and close."""
        self._pending = None
        self._out.append(reply.wire)
        self._machine.close()
        self.flush_due = True

    def data_to_send(self) -> bytes:
        """What is to be sent now; b"" while a group of commands may still go on."""
        if not self.flush_due:
            return b""
        self.flush_due = False
        out = self._out
        data = out[0] if len(out) == 1 else b"".join(out)
        out.clear()
        return data
