"""What the core tells its owner: one event at a time, in the order of the wire.

Every event but `Answered`, `Segment` and `Abandoned` is a question, to be answered with `Connection.reply` before the
next one is given.
"""

from __future__ import annotations

from mta_front.smtp import replies
from mta_front.smtp.address import Address
from mta_front.smtp.params import MailParameters


class Event:
    """Base of all events; never made itself."""

    __slots__ = ()


class Answered(Event):
    """The core answered a command by itself: `verb` (Verb.UNKNOWN for what is none) with `reply`. Needs no answer."""

    __slots__ = ("reply", "verb")

    def __init__(self, verb: int, reply: replies.Reply) -> None:
        self.verb = verb
        self.reply = reply


class Hello(Event):
    """`command` EHLO, HELO or LHLO, with the name that the client gave itself. The transaction, if any, is void."""

    __slots__ = ("command", "name")

    def __init__(self, command: str, name: str) -> None:
        self.command = command
        self.name = name


class Mail(Event):
    """MAIL FROM, its syntax and declared size checked."""

    __slots__ = ("address", "parameters")

    def __init__(self, address: Address, parameters: MailParameters) -> None:
        self.address = address
        self.parameters = parameters


class Rcpt(Event):
    """RCPT TO, its syntax and the number of recipients checked."""

    __slots__ = ("address",)

    def __init__(self, address: Address) -> None:
        self.address = address


class Data(Event):
    """DATA, or (`chunked`) the first BDAT: answer 354 to have the message, else refuse. To BDAT no 354 is sent."""

    __slots__ = ("chunked",)

    def __init__(self, chunked: bool) -> None:
        self.chunked = chunked


class Segment(Event):
    """A piece of the message, un-stuffed. It begins and ends on a line, but for lines over 64 KiB, which come in
    pieces: a segment that ends inside a line is `partial`. Needs no answer.
    """

    __slots__ = ("data", "partial")

    def __init__(self, data: bytes, partial: bool) -> None:
        self.data = data
        self.partial = partial


class End(Event):
    """The message is complete: the answer is the promise. `refusal` is set when the core found that it must not be
    taken (too big, bare newline): what was given as segments is then not the whole message.
    """

    __slots__ = ("refusal", "size_bytes")

    def __init__(self, size_bytes: int, refusal: replies.Reply | None) -> None:
        self.size_bytes = size_bytes
        self.refusal = refusal


class Abandoned(Event):
    """The message will not be completed: between two chunks the client said something else (RSET, EHLO, QUIT), which is
    the next event. Needs no answer.
    """

    __slots__ = ()


class StartTls(Event):
    """STARTTLS: after a 220 the owner makes the handshake and says `Connection.restart`."""

    __slots__ = ()


class Auth(Event):
    """AUTH: `mechanism` in upper case, `initial` the initial response as it was sent, None without one. Answer 334 to
    have a `Response`.
    """

    __slots__ = ("initial", "mechanism")

    def __init__(self, mechanism: str, initial: str | None) -> None:
        self.mechanism = mechanism
        self.initial = initial


class Response(Event):
    """The client's line after a 334; None: it was too long to keep, so the exchange is over (RFC 4954 §4)."""

    __slots__ = ("line",)

    def __init__(self, line: str | None) -> None:
        self.line = line


class XClient(Event):
    """XCLIENT: who the client is, as somebody between it and us says. Values that are not known are None."""

    __slots__ = ("attributes",)

    def __init__(self, attributes: dict[str, str | None]) -> None:
        self.attributes = attributes


class XForward(Event):
    """XFORWARD: whom the message came from, for the logs."""

    __slots__ = ("attributes",)

    def __init__(self, attributes: dict[str, str | None]) -> None:
        self.attributes = attributes


class Reset(Event):
    """RSET: forget the transaction."""

    __slots__ = ()


class Quit(Event):
    """QUIT."""

    __slots__ = ()
