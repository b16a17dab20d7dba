"""Every reply we give, with its enhanced status code (RFC 5321 §4.2, RFC 2034, RFC 3463).

A `Reply` is made once and sent many times: its bytes are ready. Enhanced codes are always in the text, whether
ENHANCEDSTATUSCODES is advertised or hidden; 220, 354 and the answer to EHLO and HELO never carry one (RFC 2034 §4).
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence

MAX_LINE_OCTETS = 512
"""A reply line with its code and CRLF (RFC 5321 §4.5.3.1.5)."""

# RFC 3463 §2: class "." subject "." detail
_ENHANCED = re.compile(r"[245]\.\d{1,3}\.\d{1,3}")
_UNPRINTABLE = re.compile(r"[^\x20-\x7e]")


class Reply:
    """One reply: `code` (200–599), `enhanced` ("5.7.1" or ""), `text`.

    Text is cut at the first CR or LF and at 512 octets, and what is not printable ASCII becomes "?": a text that came
    from outside can neither forge a second reply line nor reach a terminal as an escape sequence.
    Raises ValueError for a code or an enhanced code that no SMTP client would understand.
    """

    __slots__ = ("code", "enhanced", "text", "wire")

    def __init__(self, code: int, enhanced: str = "", text: str = "") -> None:
        if not 200 <= code <= 599:
            raise ValueError(f"reply code {code} is not between 200 and 599")
        if enhanced and (not _ENHANCED.fullmatch(enhanced) or int(enhanced[0]) != code // 100):
            raise ValueError(f"enhanced code {enhanced!r} does not fit reply code {code}")
        self.code = code
        self.enhanced = enhanced
        self.text = _clean(text)
        self.wire = _line(code, " ", enhanced, self.text)

    @classmethod
    def of_lines(cls, code: int, enhanced: str, lines: Sequence[str]) -> Reply:
        """A reply of several lines (RFC 5321 §4.2.1); `text` is the first."""
        reply = cls(code, enhanced, lines[0])
        last = len(lines) - 1
        reply.wire = b"".join(
            _line(code, " " if i == last else "-", enhanced, _clean(line)) for i, line in enumerate(lines)
        )
        return reply

    def __repr__(self) -> str:
        return f"Reply({self.code}, {self.enhanced!r}, {self.text!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Reply) and self.wire == other.wire

    def __hash__(self) -> int:
        return hash(self.wire)


def _clean(text: str) -> str:
    if text.isascii() and text.isprintable():
        return text
    return _UNPRINTABLE.sub("?", re.split(r"[\r\n]", text, maxsplit=1)[0])


def _line(code: int, separator: str, enhanced: str, text: str) -> bytes:
    line = f"{code}{separator}{enhanced} {text}" if enhanced else f"{code}{separator}{text}"
    return line[: MAX_LINE_OCTETS - 2].encode("ascii") + b"\r\n"


def derived_enhanced(code: int) -> str:
    """The enhanced code of one who gave none: 554 → "5.0.0" (DECISIONS W3); "" where none belongs (3xx)."""
    return f"{code // 100}.0.0" if code // 100 in (2, 4, 5) else ""


# -- the catalogue ---------------------------------------------------------------------------------------------------

OK = Reply(250, "2.0.0", "Ok")
SENDER_OK = Reply(250, "2.1.0", "Ok")
RECIPIENT_OK = Reply(250, "2.1.5", "Ok")
START_MAIL_INPUT = Reply(354, "", "End data with <CR><LF>.<CR><LF>")
BYE = Reply(221, "2.0.0", "Bye")
CHUNK_OK = Reply(250, "2.0.0", "Chunk received")
CANNOT_VERIFY = Reply(252, "2.1.5", "Cannot VRFY user, but will accept message and attempt delivery")

SHUTTING_DOWN = Reply(421, "4.3.2", "Service shutting down, try again later")
TOO_MANY_CONNECTIONS = Reply(421, "4.3.2", "Too many connections, try again later")
TIMED_OUT = Reply(421, "4.4.2", "Timeout, closing connection")
BUG_CLOSING = Reply(421, "4.3.0", "Local error, closing connection")
LOCAL_ERROR = Reply(451, "4.3.0", "Local error in processing, try again later")
STORE_UNAVAILABLE = Reply(451, "4.3.0", "Cannot store messages now, try again later")
STORE_FULL = Reply(452, "4.3.1", "Insufficient storage, try again later")
TOO_MANY_RECIPIENTS = Reply(452, "4.5.3", "Too many recipients")
TOO_MANY_ERRORS = Reply(421, "4.7.0", "Too many errors, closing connection")
TOO_MANY_JUNK_COMMANDS = Reply(421, "4.7.0", "Too many commands without a message, closing connection")
TOO_MANY_UNAUTHENTICATED = Reply(421, "4.7.0", "Too many commands without authentication, closing connection")
TOO_MANY_MESSAGES = Reply(421, "4.7.0", "Too many messages in one session, closing connection")
NOT_HTTP = Reply(421, "4.7.0", "This is no HTTP server, closing connection")

# Over a limit of the fleet, or banned. None says which limit, or whose count it was: who guesses passwords or floods us
# would learn how to stay below it, and whether a user exists.
NOT_NOW = Reply(421, "4.7.0", "Too many connections or failures, try again later")
TLS_NOT_NOW = Reply(454, "4.7.0", "TLS not available now, try again later")
AUTH_NOT_NOW = Reply(454, "4.7.0", "Authentication not available now, try again later")
MAIL_NOT_NOW = Reply(450, "4.7.1", "Too much mail, try again later")
RECIPIENT_NOT_NOW = Reply(450, "4.7.1", "Too many recipients, try again later")

LINE_TOO_LONG = Reply(500, "5.5.2", "Line too long")
UNKNOWN_COMMAND = Reply(500, "5.5.1", "Command not recognized")
BAD_CHARACTERS = Reply(500, "5.5.2", "Control characters in command")
HELLO_NEEDS_NAME = Reply(501, "5.5.4", "Syntax: EHLO hostname")
LHLO_NEEDS_NAME = Reply(501, "5.5.4", "Syntax: LHLO hostname")
BDAT_NEEDS_SIZE = Reply(501, "5.5.4", "Syntax: BDAT octets [LAST]")
EXPN_NEEDS_NAME = Reply(501, "5.5.4", "Syntax: EXPN list")
NO_ARGUMENT_ALLOWED = Reply(501, "5.5.4", "Syntax: no argument allowed")
VRFY_NEEDS_NAME = Reply(501, "5.5.4", "Syntax: VRFY address")
BAD_SENDER = Reply(501, "5.1.7", "Syntax: MAIL FROM:<address> [parameters]")
BAD_RECIPIENT = Reply(501, "5.1.3", "Syntax: RCPT TO:<address> [parameters]")
PATH_TOO_LONG = Reply(501, "5.1.0", "Path too long")
BAD_PARAMETER = Reply(501, "5.5.4", "Bad parameter value")
REPEATED_PARAMETER = Reply(501, "5.5.4", "Parameter given twice")
UNKNOWN_PARAMETER = Reply(555, "5.5.4", "Parameter not recognized or not implemented")
NOT_UTF8 = Reply(553, "5.6.7", "Non-ASCII addresses need SMTPUTF8")
NO_LISTS = Reply(502, "5.5.1", "Lists are not expanded here")
COMMAND_DISABLED = Reply(502, "5.5.1", "Command not available here")
BINARY_NEEDS_BDAT = Reply(503, "5.5.1", "BODY=BINARYMIME needs BDAT")
REQUIRETLS_NEEDS_TLS = Reply(530, "5.7.0", "REQUIRETLS needs TLS")
READY_FOR_TLS = Reply(220, "2.0.0", "Ready to start TLS")
STARTTLS_FIRST = Reply(530, "5.7.0", "Must issue a STARTTLS command first")
AUTH_SUCCEEDED = Reply(235, "2.7.0", "Authentication successful")
AUTH_UNAVAILABLE = Reply(454, "4.7.0", "Temporary authentication failure")
AUTH_UNKNOWN_MECHANISM = Reply(504, "5.5.4", "Unrecognized authentication type")
AUTH_NEEDS_TLS = Reply(538, "5.7.11", "Encryption required: issue STARTTLS first")
TLS_ACTIVE = Reply(503, "5.5.1", "TLS is active already")
AUTHENTICATED = Reply(503, "5.5.1", "Already authenticated")
AUTH_NEEDS_MECHANISM = Reply(501, "5.5.4", "Syntax: AUTH mechanism [initial-response]")
AUTH_LINE_TOO_LONG = Reply(500, "5.5.6", "Authentication exchange line is too long")
AUTH_CANCELLED = Reply(501, "5.7.0", "Authentication cancelled")
AUTH_SERVER_FIRST = Reply(501, "5.7.0", "This mechanism takes no initial response")
AUTH_NOT_BASE64 = Reply(501, "5.5.2", "Cannot decode Base64")
AUTH_MALFORMED = Reply(501, "5.5.2", "Malformed authentication data")
AUTH_FAILED = Reply(535, "5.7.8", "Authentication credentials invalid")
AUTH_REQUIRED = Reply(530, "5.7.0", "Authentication required")
BAD_SEQUENCE = Reply(503, "5.5.1", "Bad sequence of commands")
HELLO_FIRST = Reply(503, "5.5.1", "Send EHLO or HELO first")
LHLO_FIRST = Reply(503, "5.5.1", "Send LHLO first")
NESTED_MAIL = Reply(503, "5.5.1", "Nested MAIL command")
NEED_MAIL = Reply(503, "5.5.1", "Need MAIL before RCPT")
NEED_RCPT = Reply(503, "5.5.1", "Need RCPT before DATA")
BARE_NEWLINE = Reply(550, "5.5.2", "Bare <CR> or <LF> in message")
TOO_BIG = Reply(552, "5.3.4", "Message size exceeds fixed limit")
TALKED_TOO_SOON = Reply(554, "5.5.0", "You spoke before the greeting")
NOT_IN_STEP = Reply(554, "5.5.0", "Protocol synchronization: you did not wait for a reply")
NOT_ALLOWED = Reply(550, "5.7.1", "Not allowed")
SENDER_NOT_OWNED = Reply(553, "5.7.1", "Sender address rejected: not owned by user")
RELAY_DENIED = Reply(554, "5.7.1", "Relay access denied")
LOOP = Reply(554, "5.4.6", "Too many hops: this message is in a loop")


HELP = Reply(214, "2.0.0", "See RFC 5321; EHLO lists what there is beyond it")


def banner(name: str, text: str = "", protocol: str = "ESMTP") -> Reply:
    """The 220 greeting: the server's name, "ESMTP" or "LMTP", and the operator's own words."""
    return Reply(220, "", f"{name} {protocol} {text}".rstrip())


def auth_required(text: str) -> Reply:
    """530 in the operator's words; "" for ours."""
    return Reply(AUTH_REQUIRED.code, AUTH_REQUIRED.enhanced, text) if text else AUTH_REQUIRED


def challenge(data: bytes) -> Reply:
    """334 with a challenge of a SASL mechanism (RFC 4954 §4); no data: "334 ". Up to 12,288 octets, so never cut."""
    reply = Reply(334)
    reply.wire = b"334 " + base64.b64encode(data) + b"\r\n"
    return reply


def queued(message_id: str) -> Reply:
    """The promise (RFC 5321 §6.1): given only for what is durable."""
    return Reply(250, "2.0.0", f"Ok: queued as {message_id}")
