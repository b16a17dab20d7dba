"""Paths and parameters as RFC 5321 §4.1.2 writes them: each regular expression under the ABNF that it implements.

Everything works on the octets of one command line, without its CRLF. Non-ASCII octets are taken here as RFC 6531 §3.3
allows and must be UTF-8; whether the transaction may have them is for `connection` to say.
"""

from __future__ import annotations

import re
import unicodedata
from ipaddress import AddressValueError, IPv6Address

from mta_front.smtp import replies
from mta_front.smtp.errors import BadSyntax

MAX_LOCAL_PART_OCTETS = 64  # RFC 5321 §4.5.3.1.1
MAX_DOMAIN_OCTETS = 255  # RFC 5321 §4.5.3.1.2
MAX_PATH_OCTETS = 256  # RFC 5321 §4.5.3.1.3, with its punctuation and its source route
MAX_LABEL_OCTETS = 63  # RFC 1035 §2.3.4; of a U-label: of its A-label (RFC 5890 §2.3.2.1)

# atext (RFC 5322 §3.2.3), UTF8-non-ascii (RFC 6531 §3.3)
_ATOM = rb"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\x80-\xff-]++"
# Dot-string = Atom *("." Atom)
_DOT_STRING = _ATOM + rb"(?:\." + _ATOM + rb")*+"
# Quoted-string = DQUOTE *QcontentSMTP DQUOTE; qtextSMTP = %d32-33 / %d35-91 / %d93-126; quoted-pairSMTP = %d92 %d32-126
_QUOTED_STRING = rb'"(?:[\x20\x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\x20-\x7e])*+"'
# sub-domain = Let-dig [Ldh-str]. The real world's "_" within a name is taken, as Postfix does.
_LET_DIG = rb"[A-Za-z0-9_\x80-\xff]++"
_SUB_DOMAIN = _LET_DIG + rb"(?:-++" + _LET_DIG + rb")*+"
# Domain = sub-domain *("." sub-domain)
_DOMAIN = _SUB_DOMAIN + rb"(?:\." + _SUB_DOMAIN + rb")*+"
# IPv4-address-literal, IPv6-address-literal = "IPv6:" IPv6-addr,
# General-address-literal = Standardized-tag ":" 1*dcontent. No zero in front: 010 is 8 to some and 10 to others
# (CVE-2021-29921).
_OCTET = rb"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_LITERAL = rb"\[(?:" + _OCTET + rb"(?:\." + _OCTET + rb"){3}|[A-Za-z0-9-]*[A-Za-z0-9]:[\x21-\x5a\x5e-\x7e]+)\]"
# A-d-l = At-domain *( "," At-domain ): accepted and ignored (RFC 5321 §4.1.1.3, appendix C)
_SOURCE_ROUTE = rb"(@" + _DOMAIN + rb"(?:,@" + _DOMAIN + rb")*:)?"
_MAILBOX = rb"(" + _DOT_STRING + rb"|" + _QUOTED_STRING + rb")@(" + _DOMAIN + rb"|" + _LITERAL + rb")"
# A space after the colon is no RFC's, but half the world's.
_COLON = rb": *<"
_TAIL = rb">(?: +(.*))?"

# Reverse-path = Path / "<>"
_MAIL = re.compile(rb"(?i:FROM)" + _COLON + rb"(?:" + _SOURCE_ROUTE + _MAILBOX + rb")?" + _TAIL, re.DOTALL)
# Forward-path, "<Postmaster>" (RFC 5321 §4.1.1.3)
_RCPT = re.compile(
    rb"(?i:TO)" + _COLON + rb"(?:" + _SOURCE_ROUTE + _MAILBOX + rb"|((?i:postmaster)))" + _TAIL, re.DOTALL
)
# What some senders write all the same: no angle brackets (but both or none), spaces within them, dots anywhere in the
# local part, anything printable in the domain. Never a space, an angle bracket or a control character in the address.
_LENIENT = (
    rb" *: *(?:(<) *)?(?:"  # never two " *" in a row: a line of spaces would cost the square of its length
    + _SOURCE_ROUTE
    + rb"(?:([^\x00-\x20\x7f<>@\"]+|"
    + _QUOTED_STRING
    + rb")@([^\x00-\x20\x7f<>@:]+)%s))(?(1) *>)(?: +(.*))?"
)
_MAIL_LENIENT = re.compile(rb"(?i:FROM)" + _LENIENT % b"", re.DOTALL)
_RCPT_LENIENT = re.compile(rb"(?i:TO)" + _LENIENT % rb"|((?i:postmaster))", re.DOTALL)
# esmtp-param = esmtp-keyword ["=" esmtp-value]
_PARAMETER = re.compile(rb"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([\x21-\x3c\x3e-\x7e\x80-\xff]+))?")
# ehlo = "EHLO" SP ( Domain / address-literal ). Clients say anything; what is printable and has no space is taken.
_HELLO_NAME = re.compile(rb"[\x21-\x7e]{1,255}")

# xtext = *( xchar / hexchar ); hexchar = "+" 2(%x30-39 / %x41-46) (RFC 3461 §4)
_XTEXT = re.compile(r"(?:[^\x00-\x20+=\x7f]|\+[0-9A-F]{2})*")
_HEXCHAR = re.compile(rb"\+([0-9A-F]{2})")
# EmbeddedUnicodeChar = %x5C.78 "{" HEXPOINT "}" (RFC 6533 §3)
_EMBEDDED = re.compile(r"\\x\{([0-9A-F]{2,6})\}")

Path = tuple[str, str, bytes]
"""local part, domain, and the unparsed parameters."""


def mail_path(line: bytes, lenient: bool = False) -> Path:
    """Parse what follows "MAIL ". Raises BadSyntax."""
    match = _MAIL.fullmatch(line)
    if match is not None:
        route, local, domain, rest = match.groups(b"")
    else:
        match = _MAIL_LENIENT.fullmatch(line) if lenient else None
        if match is None:
            raise BadSyntax(replies.BAD_SENDER)
        _, route, local, domain, rest = match.groups(b"")
    return _checked(route, local, domain, rest, replies.BAD_SENDER)


def rcpt_path(line: bytes, lenient: bool = False) -> Path:
    """Parse what follows "RCPT ". Raises BadSyntax."""
    match = _RCPT.fullmatch(line)
    if match is not None:
        route, local, domain, postmaster, rest = match.groups(b"")
    else:
        match = _RCPT_LENIENT.fullmatch(line) if lenient else None
        if match is None:
            raise BadSyntax(replies.BAD_RECIPIENT)
        _, route, local, domain, postmaster, rest = match.groups(b"")
    return _checked(route, local or postmaster, domain, rest, replies.BAD_RECIPIENT)


def _checked(route: bytes, local: bytes, domain: bytes, rest: bytes, refusal: replies.Reply) -> Path:
    octets = len(route) + len(local) + len(domain) + 3
    if len(local) > MAX_LOCAL_PART_OCTETS or len(domain) > MAX_DOMAIN_OCTETS or octets > MAX_PATH_OCTETS:
        raise BadSyntax(replies.PATH_TOO_LONG)
    try:
        path = local.decode(), domain.decode(), rest
    except UnicodeDecodeError:
        raise BadSyntax(refusal) from None
    if domain[:1] == b"[":
        _check_literal(path[1], refusal)
    elif len(domain) > MAX_LABEL_OCTETS or not domain.isascii():
        _check_labels(path[1], refusal)
    if not local.isascii() and not _harmless(path[0]):
        raise BadSyntax(refusal)
    return path


def _check_literal(literal: str, refusal: replies.Reply) -> None:
    """What has the tag IPv6 is an IPv6 address without a zone, and what is one has the tag (RFC 5321 §4.1.3)."""
    tag, _, content = literal[1:-1].partition(":")
    tagged = tag.lower() == "ipv6"
    address, zone, _ = (content if tagged else literal[1:-1]).partition("%")
    try:
        IPv6Address(address)
    except AddressValueError:
        right = not tagged
    else:
        right = tagged and not zone
    if not right:
        raise BadSyntax(refusal)


def _check_labels(domain: str, refusal: replies.Reply) -> None:
    """Each label at most 63 octets; a U-label of letters, marks and digits only (RFC 5892, but for upper case).

    Everything else that Unicode has (other dots, signs in full width, invisible and bidirectional controls) can make
    one domain look like another, or be mapped to it by the next server.
    """
    for label in domain.split("."):
        octets = len(label)
        if octets <= MAX_LABEL_OCTETS and not label.isascii():  # Punycode takes time that grows with the square
            if not all(sign.isascii() or sign in _JOINERS or _of_a_word(sign) for sign in label):
                raise BadSyntax(refusal)
            octets = len("xn--") + len(label.encode("punycode"))
        if octets > MAX_LABEL_OCTETS:
            raise BadSyntax(replies.PATH_TOO_LONG)


_JOINERS = frozenset("\u200c\u200d\u00b7\u0375\u05f3\u05f4\u30fb")  # CONTEXTJ and CONTEXTO (RFC 5892 §2.7)


def _of_a_word(sign: str) -> bool:
    return unicodedata.category(sign)[0] in "LMN" and unicodedata.is_normalized("NFKC", sign)


def _harmless(local: str) -> bool:
    """No control character and no line or paragraph separator of Unicode: either may end a line for who reads it."""
    return not any(unicodedata.category(sign) in ("Cc", "Zl", "Zp") for sign in local)


def parameters(rest: bytes) -> dict[str, str]:
    """Parse `SIZE=10 BODY=8BITMIME` into names (upper case) and values ("" without). Raises BadSyntax."""
    found: dict[str, str] = {}
    for word in rest.split(b" "):
        if not word:
            continue
        match = _PARAMETER.fullmatch(word)
        if match is None:
            raise BadSyntax(replies.BAD_PARAMETER)
        name = match[1].decode().upper()
        if name in found:
            raise BadSyntax(replies.REPEATED_PARAMETER)
        try:
            found[name] = (match[2] or b"").decode()
        except UnicodeDecodeError:
            raise BadSyntax(replies.BAD_PARAMETER) from None
    return found


def xtext(value: str, unitext: bool = False) -> str:
    r"""Decode xtext (RFC 3461 §4): "+" and two upper-case hexadecimal digits stand for an octet. Raises BadSyntax.

    `unitext`: UTF-8 is allowed, and \x{...} as RFC 6533 §3 has it, in the value of ORCPT=utf-8;….
    """
    if _XTEXT.fullmatch(value) is None or not (unitext or value.isascii()):
        raise BadSyntax(replies.BAD_PARAMETER)
    decoded = value
    if "+" in value:  # a hexchar stands for an octet; all octets together are UTF-8
        octets = _HEXCHAR.sub(lambda found: bytes((int(found[1], 16),)), value.encode())
        try:
            decoded = octets.decode()
        except UnicodeDecodeError:
            raise BadSyntax(replies.BAD_PARAMETER) from None
    if unitext:
        decoded = _EMBEDDED.sub(_code_point, decoded)
    if not decoded.isprintable():
        raise BadSyntax(replies.BAD_PARAMETER)  # a line end here would forge a field of a report
    return decoded


def _code_point(found: re.Match[str]) -> str:
    point = int(found[1], 16)
    if point > 0x10FFFF or 0xD800 <= point <= 0xDFFF:
        raise BadSyntax(replies.BAD_PARAMETER)
    return chr(point)


def hello_name(argument: bytes, refusal: replies.Reply) -> str:
    """The name a client gives itself in EHLO, HELO or LHLO. Raises BadSyntax."""
    if _HELLO_NAME.fullmatch(argument) is None:
        raise BadSyntax(refusal)
    return argument.decode("ascii")
