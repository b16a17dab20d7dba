"""The receiving side of SMTP without I/O.

    connection = Connection(options)
    connection.reply(banner)                      # the first event is the connection itself
    connection.receive(bytes)                     # whatever the socket gave, cut anywhere
    while (event := connection.next_event()) is not None:
        connection.reply(...)                     # every event but Segment
    socket.send(connection.data_to_send())

What the owner owes the core: it answers each event before it asks for the next; it sends `data_to_send()` when
`next_event()` gave None, and whenever `flush_due` says that a client may be waiting; it ends the session when
`closed` is true and everything is sent, or when RemoteError was raised, after sending what is left and its reply.

What the core does by itself: syntax, legality (`state`), limits of the grammar, and the commands that need nobody's
opinion (NOOP, HELP, VRFY).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mta_front.smtp import grammar, replies
from mta_front.smtp.address import Address
from mta_front.smtp.buffer import ReceiveBuffer
from mta_front.smtp.data import BodyReader
from mta_front.smtp.errors import BadSyntax, LocalError
from mta_front.smtp.events import Data, End, Event, Hello, Mail, Quit, Rcpt, Reset
from mta_front.smtp.params import check_rcpt_parameters, mail_parameters
from mta_front.smtp.replies import Reply
from mta_front.smtp.state import HOLDS_REPLY, Machine, Phase, Verb

MAX_LINE_OCTETS = 2048
"""A command line with its CRLF. RFC 5321 §4.5.3.1.4 wants 512 and room for every extension's parameters beside it."""


@dataclass(slots=True, kw_only=True)
class ConnectionOptions:
    """What a listener says of its sessions. Sizes in octets; 0: no limit."""

    size_bytes: int = 0
    max_recipients: int = 0
    bare_newline: str = "normalize"


class Connection:
    """One session's protocol state. See the module's text."""

    __slots__ = (
        "_body",
        "_buffer",
        "_machine",
        "_options",
        "_out",
        "_pending",
        "_recipients",
        "_skipping",
        "flush_due",
    )

    def __init__(self, options: ConnectionOptions) -> None:
        self._options = options
        self._buffer = ReceiveBuffer()
        self._machine = Machine()
        self._pending: int | None = Verb.CONNECT  # the verb whose answer is owed
        self._out: list[bytes] = []
        self._body: BodyReader | None = None
        self._recipients = 0
        self._skipping = False  # inside a line that was too long
        self.flush_due = False

    @property
    def phase(self) -> Phase:
        """Where the session stands."""
        return self._machine.phase

    @property
    def closed(self) -> bool:
        """The last reply closed the session."""
        return self._machine.phase is Phase.CLOSED

    @property
    def buffered_bytes(self) -> int:
        """Bytes received and not yet looked at."""
        return len(self._buffer)

    def receive(self, data: bytes) -> None:
        """Take what the socket gave; b"" is nothing."""
        if data:
            self._buffer.receive(data)

    # -- in: bytes to events -----------------------------------------------------------------------------------------

    def next_event(self) -> Event | None:
        """The next event, or None: send what there is to send, then wait for more bytes.

        Raises LocalError when the last event was not answered.
        """
        if self._pending is not None:
            raise LocalError(f"{Verb(self._pending).name} is not answered yet")
        event: Event | None
        while self._machine.phase is not Phase.CLOSED:
            if self._body is not None:
                event = self._body.next(self._buffer)
                if event is not None and type(event) is End:
                    self._pending = Verb.DOT
                    self._body = None
            else:
                line = self._next_line()
                event = None if line is None else self._command(line)
                if event is None and line is not None:
                    continue
            if event is None:
                self.flush_due = bool(self._out)
            return event
        self.flush_due = bool(self._out)
        return None

    def _next_line(self) -> bytes | None:
        buffer = self._buffer
        while True:
            data = buffer.data
            pos = buffer.pos
            end = data.find(b"\r\n", pos, pos + MAX_LINE_OCTETS)
            if end >= 0:
                buffer.pos = end + 2
                if not self._skipping:
                    return data[pos:end]
                self._skipping = False
                self._refuse(Verb.UNKNOWN, replies.LINE_TOO_LONG)
            elif len(data) - pos >= MAX_LINE_OCTETS:
                # Too long: answered once, when its end has come. A CR at the edge may be half of its CRLF.
                buffer.pos = pos + MAX_LINE_OCTETS - 1
                self._skipping = True
            elif len(buffer) - (len(data) - pos):
                buffer.settle()
            else:
                return None

    def _command(self, line: bytes) -> Event | None:
        """Check one command line: an event, or None when the core has answered it itself."""
        verb_word, _, argument = line.partition(b" ")
        verb = _VERBS.get(verb_word)
        if verb is None:
            verb = _VERBS.get(verb_word.upper())
            if verb is None:
                self._refuse(Verb.UNKNOWN, _unknown(line))
                return None
        if not self._machine.allows(verb):
            self._refuse(verb, _out_of_sequence(self._machine.phase, verb))
            return None
        self._pending = verb
        try:
            return _PARSERS[verb](self, argument)
        except BadSyntax as error:
            self.reply(error.reply)
            return None

    def _refuse(self, verb: Verb, reply: Reply) -> None:
        self._pending = verb
        self.reply(reply)

    def _hello(self, argument: bytes) -> Event:
        return Hello(grammar.hello_name(argument.strip()), self._pending == Verb.EHLO)

    def _mail(self, argument: bytes) -> Event:
        local, domain, rest = grammar.mail_path(argument)
        args = grammar.parameters(rest) if rest else {}
        parameters = mail_parameters(args)
        if not (local.isascii() and domain.isascii()):
            raise BadSyntax(replies.NOT_UTF8)
        if self._options.size_bytes and parameters.size_bytes > self._options.size_bytes:
            raise BadSyntax(replies.TOO_BIG)  # RFC 1870 §6.1
        return Mail(Address(local, domain, args), parameters)

    def _rcpt(self, argument: bytes) -> Event:
        local, domain, rest = grammar.rcpt_path(argument)
        args = grammar.parameters(rest) if rest else {}
        check_rcpt_parameters(args)
        if not (local.isascii() and domain.isascii()):
            raise BadSyntax(replies.NOT_UTF8)
        if self._options.max_recipients and self._recipients >= self._options.max_recipients:
            raise BadSyntax(replies.TOO_MANY_RECIPIENTS)  # RFC 5321 §4.5.3.1.10
        return Rcpt(Address(local, domain, args))

    def _data(self, argument: bytes) -> Event:
        _no_argument(argument)
        return Data()

    def _rset(self, argument: bytes) -> Event:
        _no_argument(argument)
        return Reset()

    def _quit(self, argument: bytes) -> Event:
        _no_argument(argument)
        return Quit()

    def _noop(self, argument: bytes) -> None:
        self.reply(replies.OK)

    def _help(self, argument: bytes) -> None:
        self.reply(replies.HELP)

    def _vrfy(self, argument: bytes) -> None:
        # RFC 5321 §7.3: what exists here is nobody's business.
        self.reply(replies.CANNOT_VERIFY if argument.strip() else replies.VRFY_NEEDS_NAME)

    # -- out: replies to bytes ---------------------------------------------------------------------------------------

    def reply(self, reply: Reply) -> None:
        """Answer the event last given. The answer moves the state. Raises LocalError when nothing is owed."""
        verb = self._pending
        if verb is None:
            raise LocalError("no event waits for a reply")
        self._pending = None
        self._out.append(reply.wire)
        code = reply.code
        if verb != Verb.UNKNOWN:
            self._machine.answered(verb, code)
        if verb == Verb.RCPT:
            self._recipients += code < 400
        elif verb == Verb.MAIL:
            self._recipients = 0
        elif verb == Verb.DATA and code < 400:
            self._buffer.settle()
            self._body = BodyReader(self._options.size_bytes, self._options.bare_newline)
        if verb not in HOLDS_REPLY:
            self.flush_due = True

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


def _no_argument(argument: bytes) -> None:
    if argument.strip():
        raise BadSyntax(replies.NO_ARGUMENT_ALLOWED)


def _unknown(line: bytes) -> Reply:
    return replies.UNKNOWN_COMMAND if line.isascii() and line.decode().isprintable() else replies.BAD_CHARACTERS


def _out_of_sequence(phase: Phase, verb: Verb) -> Reply:
    """503, with the word that helps."""
    if phase is Phase.HELLO:
        return replies.HELLO_FIRST
    if verb is Verb.MAIL:
        return replies.NESTED_MAIL
    if verb is Verb.RCPT:
        return replies.NEED_MAIL
    if verb is Verb.DATA:
        return replies.NO_VALID_RECIPIENTS if phase is Phase.MAIL else replies.NEED_RCPT
    return replies.BAD_SEQUENCE


_COMMANDS: tuple[tuple[Verb, Callable[[Connection, bytes], Event | None]], ...] = (
    (Verb.EHLO, Connection._hello),
    (Verb.HELO, Connection._hello),
    (Verb.MAIL, Connection._mail),
    (Verb.RCPT, Connection._rcpt),
    (Verb.DATA, Connection._data),
    (Verb.RSET, Connection._rset),
    (Verb.NOOP, Connection._noop),
    (Verb.VRFY, Connection._vrfy),
    (Verb.HELP, Connection._help),
    (Verb.QUIT, Connection._quit),
)
_VERBS: dict[bytes, Verb] = {verb.name.encode(): verb for verb, _ in _COMMANDS}
_PARSERS: dict[int, Callable[[Connection, bytes], Event | None]] = dict(_COMMANDS)
