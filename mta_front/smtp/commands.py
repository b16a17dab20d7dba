"""From one command line to an event: which verb it is, and its arguments by the grammar.

Pure functions over what the session has told so far (`Facts`); legality is for `state`, answering for `connection`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from mta_front.smtp import grammar, replies
from mta_front.smtp.address import Address
from mta_front.smtp.errors import BadSyntax
from mta_front.smtp.events import (
    Auth,
    Data,
    Event,
    Hello,
    Mail,
    Quit,
    Rcpt,
    Reset,
    StartTls,
    XClient,
    XForward,
)
from mta_front.smtp.params import NO_MAIL_PARAMETERS, MailParameters, mail_parameters, rcpt_parameters
from mta_front.smtp.replies import Reply
from mta_front.smtp.state import Phase, Verb
from mta_front.smtp.xclient import xclient_attributes, xforward_attributes


@dataclass(slots=True, kw_only=True)
class ConnectionOptions:
    """What a listener says of its sessions. Sizes in octets; 0: no limit. `disabled_commands` in upper case."""

    lmtp: bool = False
    size_bytes: int = 0
    max_recipients: int = 0
    max_text_line_octets: int = 0
    bare_newline: str = "normalize"
    lenient_address_parsing: bool = False
    disabled_commands: frozenset[str] = frozenset()


@dataclass(slots=True)
class Facts:
    """What the grammar of later commands depends on."""

    options: ConnectionOptions
    secure: bool = False
    authenticated: bool = False
    recipients: int = 0
    mail: MailParameters = field(default_factory=lambda: NO_MAIL_PARAMETERS)


def verbs(lmtp: bool) -> dict[bytes, Verb]:
    """The commands that exist in this protocol: LMTP has LHLO for EHLO and HELO (RFC 2033 §4.1)."""
    absent = (Verb.EHLO, Verb.HELO) if lmtp else (Verb.LHLO,)
    named = [verb for verb in Verb if verb not in (Verb.CONNECT, Verb.DOT, Verb.RESPONSE, Verb.UNKNOWN, *absent)]
    return {verb.name.encode(): verb for verb in named}


MAX_RECIPIENTS = 50_000
"""Of one transaction where there is no limit: what a session keeps is bounded."""

# A browser that was made to POST to us: the rest of what it sends is the attacker's (cross-protocol scripting).
_HTTP = re.compile(rb"[A-Z]+ [^ ]+ HTTP/[0-9.]+", re.IGNORECASE)
_HTTP_METHOD = re.compile(rb"(?:GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS|CONNECT|TRACE) [^ ]", re.IGNORECASE)
# bdat-cmd = "BDAT" SP chunk-size [ SP end-marker ] (RFC 3030 §2)
# sasl-mech (RFC 4954 §8), with room for one that we do not know
_AUTH = re.compile(rb"([A-Za-z0-9_-]{1,40})(?: +([^ ]+))?")
_BDAT = re.compile(rb"([0-9]{1,20})(?: +((?i:LAST)))?")
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_BLANK = b" \t"
"""White space before CRLF is tolerated (RFC 5321 §4.1.1), a bare CR or LF is not white space."""


def chunk(argument: bytes) -> tuple[int, bool]:
    """Octets of a BDAT command, and whether it is the last. Raises BadSyntax."""
    match = _BDAT.fullmatch(argument.strip(_BLANK))
    if match is None:
        raise BadSyntax(replies.BDAT_NEEDS_SIZE)
    return int(match[1]), match[2] is not None


def unknown(line: bytes) -> Reply:
    """The reply to what is no command; 421 to an HTTP request."""
    if _HTTP.fullmatch(line):
        return replies.NOT_HTTP
    return replies.UNKNOWN_COMMAND if line.isascii() and line.decode().isprintable() else replies.BAD_CHARACTERS


def too_long(line: bytes) -> Reply:
    """The reply to a line that is longer than its command may be; 421 to an HTTP request."""
    return replies.NOT_HTTP if _HTTP_METHOD.match(line) else replies.LINE_TOO_LONG


def out_of_sequence(phase: Phase, verb: Verb, lmtp: bool) -> Reply:
    """503, with the word that helps."""
    if phase is Phase.HELLO:
        return replies.LHLO_FIRST if lmtp else replies.HELLO_FIRST
    if verb is Verb.MAIL:
        return replies.NESTED_MAIL
    if verb is Verb.RCPT:
        return replies.NEED_MAIL if phase is Phase.READY else replies.BAD_SEQUENCE
    if verb in (Verb.DATA, Verb.BDAT) and phase is not Phase.CHUNKS:
        return replies.NEED_RCPT  # not 554, though RFC 5321 §4.1.1.4 allows either: RFC 2033 §4.2 does not
    return replies.BAD_SEQUENCE


def _hello(verb: Verb, refusal: Reply) -> Callable[[bytes, Facts], Event]:
    def parse_hello(argument: bytes, _facts: Facts) -> Event:
        return Hello(verb.name, grammar.hello_name(argument.strip(_BLANK), refusal))

    return parse_hello


def _mail(argument: bytes, facts: Facts) -> Event:
    options = facts.options
    local, domain, rest = grammar.mail_path(argument.rstrip(_BLANK), options.lenient_address_parsing)
    args = grammar.parameters(rest) if rest else {}
    parameters = mail_parameters(args)
    if not (parameters.smtp_utf8 or (local.isascii() and domain.isascii())):
        raise BadSyntax(replies.NOT_UTF8)
    if parameters.require_tls and not facts.secure:
        raise BadSyntax(replies.REQUIRETLS_NEEDS_TLS)  # RFC 8689 §3
    if options.size_bytes and parameters.size_bytes > options.size_bytes:
        raise BadSyntax(replies.TOO_BIG)  # RFC 1870 §6.1
    return Mail(Address(local, domain, args), parameters)


def _rcpt(argument: bytes, facts: Facts) -> Event:
    options = facts.options
    local, domain, rest = grammar.rcpt_path(argument.rstrip(_BLANK), options.lenient_address_parsing)
    args = grammar.parameters(rest) if rest else {}
    dsn = rcpt_parameters(args) if args else None
    if not (facts.mail.smtp_utf8 or (local.isascii() and domain.isascii())):
        raise BadSyntax(replies.NOT_UTF8)
    if facts.recipients >= (options.max_recipients or MAX_RECIPIENTS):
        raise BadSyntax(replies.TOO_MANY_RECIPIENTS)  # RFC 5321 §4.5.3.1.10
    return Rcpt(Address(local, domain, args, dsn))


def _data(argument: bytes, facts: Facts) -> Event:
    _no_argument(argument)
    if facts.mail.body_type == "binarymime":
        raise BadSyntax(replies.BINARY_NEEDS_BDAT)  # RFC 3030 §3
    return Data(chunked=False)


def _rset(argument: bytes, _facts: Facts) -> Event:
    _no_argument(argument)
    return Reset()


def _quit(argument: bytes, _facts: Facts) -> Event:
    _no_argument(argument)
    return Quit()


def _starttls(argument: bytes, facts: Facts) -> Event:
    _no_argument(argument)  # RFC 3207 §4
    if facts.secure:
        raise BadSyntax(replies.TLS_ACTIVE)
    return StartTls()


def _auth(argument: bytes, facts: Facts) -> Event:
    match = _AUTH.fullmatch(argument.rstrip(_BLANK))
    if match is None:
        raise BadSyntax(replies.AUTH_NEEDS_MECHANISM)
    if facts.authenticated:
        raise BadSyntax(replies.AUTHENTICATED)  # RFC 4954 §4: not twice
    return Auth(match[1].decode().upper(), match[2].decode("latin-1") if match[2] else None)


def _vrfy(argument: bytes, _facts: Facts) -> Reply:
    # RFC 5321 §7.3: who exists here is nobody's business.
    return _for_text(argument, replies.CANNOT_VERIFY, replies.VRFY_NEEDS_NAME)


def _expn(argument: bytes, _facts: Facts) -> Reply:
    return _for_text(argument, replies.NO_LISTS, replies.EXPN_NEEDS_NAME)


def _noop(argument: bytes, _facts: Facts) -> Reply:
    return _for_text(argument, replies.OK, replies.OK)


def _help(argument: bytes, _facts: Facts) -> Reply:
    return _for_text(argument, replies.HELP, replies.HELP)


def _for_text(argument: bytes, reply: Reply, without: Reply) -> Reply:
    """The reply to a command whose argument means nothing to us, and `without` an argument."""
    if _CONTROL.search(argument):
        return replies.BAD_CHARACTERS  # RFC 5321 §2.3.8: a bare LF here may be a second command to somebody else
    return reply if argument.strip(_BLANK) else without


def _no_argument(argument: bytes) -> None:
    if argument.strip(_BLANK):
        raise BadSyntax(replies.NO_ARGUMENT_ALLOWED)


PARSERS: dict[int, Callable[[bytes, Facts], Event | Reply]] = {
    Verb.EHLO: _hello(Verb.EHLO, replies.HELLO_NEEDS_NAME),
    Verb.HELO: _hello(Verb.HELO, replies.HELLO_NEEDS_NAME),
    Verb.LHLO: _hello(Verb.LHLO, replies.LHLO_NEEDS_NAME),
    Verb.MAIL: _mail,
    Verb.RCPT: _rcpt,
    Verb.DATA: _data,
    Verb.RSET: _rset,
    Verb.NOOP: _noop,
    Verb.VRFY: _vrfy,
    Verb.EXPN: _expn,
    Verb.HELP: _help,
    Verb.QUIT: _quit,
    Verb.STARTTLS: _starttls,
    Verb.AUTH: _auth,
    Verb.XCLIENT: lambda argument, _facts: XClient(xclient_attributes(argument)),
    Verb.XFORWARD: lambda argument, _facts: XForward(xforward_attributes(argument)),
}
"""By verb: the event that a legal command is, or the reply where nobody is asked. They raise BadSyntax."""
