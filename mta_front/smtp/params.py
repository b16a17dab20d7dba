"""What the ESMTP parameters of MAIL and RCPT mean. Names that are not here are answered 555 (RFC 5321 §4.1.1.11)."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from mta_front.smtp import grammar, replies
from mta_front.smtp.errors import BadSyntax

_SIZE = re.compile(r"[0-9]{1,20}")  # size-value (RFC 1870 §4)
_BODY = {"7BIT": "7bit", "8BITMIME": "8bitmime", "BINARYMIME": "binarymime"}  # RFC 6152 §2, RFC 3030 §3
_RET = frozenset({"FULL", "HDRS"})  # RFC 3461 §4.3
_NOTIFY = frozenset({"SUCCESS", "FAILURE", "DELAY"})  # RFC 3461 §4.1
MAX_ENVID_OCTETS = 100  # RFC 3461 §4.4, §5.4
MAX_ORCPT_OCTETS = 500  # RFC 3461 §4.2, §5.4
_ADDRESS_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*")  # addr-type = atom (RFC 3461 §4.2)


@dataclass(slots=True)
class MailDsn:
    """What the sender wants to know: `ret` "FULL", "HDRS" or "", `envid` decoded (RFC 3461 §4.3, §4.4)."""

    ret: str = ""
    envid: str = ""


@dataclass(slots=True)
class RcptDsn:
    """`notify`: "NEVER", or any of "SUCCESS", "FAILURE", "DELAY", or nothing; `orcpt` "rfc822;a@b", decoded."""

    notify: tuple[str, ...] = ()
    orcpt: str = ""


@dataclass(slots=True)
class MailParameters:
    """`size_bytes` as declared, 0 when not; `body_type` "7bit", "8bitmime", "binarymime"; `auth`: the submitter that a
    trusted peer names, None when it names none (RFC 4954 §5).
    """

    size_bytes: int = 0
    body_type: str = "7bit"
    smtp_utf8: bool = False
    require_tls: bool = False
    auth: str | None = None
    dsn: MailDsn = field(default_factory=MailDsn)


NO_MAIL_PARAMETERS = MailParameters()


def _valueless(value: str) -> bool:
    if value:
        raise BadSyntax(replies.BAD_PARAMETER)
    return True


def _size(parameters: MailParameters, value: str) -> None:
    if _SIZE.fullmatch(value) is None:
        raise BadSyntax(replies.BAD_PARAMETER)
    parameters.size_bytes = int(value)


def _body(parameters: MailParameters, value: str) -> None:
    if value.upper() not in _BODY:
        raise BadSyntax(replies.BAD_PARAMETER)
    parameters.body_type = _BODY[value.upper()]


def _smtp_utf8(parameters: MailParameters, value: str) -> None:
    parameters.smtp_utf8 = _valueless(value)  # RFC 6531 §3.4


def _require_tls(parameters: MailParameters, value: str) -> None:
    parameters.require_tls = _valueless(value)  # RFC 8689 §3


def _ret(parameters: MailParameters, value: str) -> None:
    if value.upper() not in _RET:
        raise BadSyntax(replies.BAD_PARAMETER)
    parameters.dsn.ret = value.upper()


def _envid(parameters: MailParameters, value: str) -> None:
    if not value or len(value) > MAX_ENVID_OCTETS:
        raise BadSyntax(replies.BAD_PARAMETER)
    parameters.dsn.envid = _ascii(grammar.xtext(value))


def _auth(parameters: MailParameters, value: str) -> None:
    if not value:
        raise BadSyntax(replies.BAD_PARAMETER)
    parameters.auth = grammar.xtext(value)


_MAIL: dict[str, Callable[[MailParameters, str], None]] = {
    "SIZE": _size,
    "BODY": _body,
    "SMTPUTF8": _smtp_utf8,
    "REQUIRETLS": _require_tls,
    "RET": _ret,
    "ENVID": _envid,
    "AUTH": _auth,
}


def mail_parameters(args: dict[str, str]) -> MailParameters:
    """Read the parameters of MAIL; what is xtext is decoded in `args` too. Raises BadSyntax."""
    if not args:
        return NO_MAIL_PARAMETERS
    parameters = MailParameters()
    for name, value in args.items():
        read = _MAIL.get(name)
        if read is None:
            raise BadSyntax(replies.UNKNOWN_PARAMETER)
        read(parameters, value)
    if parameters.dsn.envid:
        args["ENVID"] = parameters.dsn.envid
    if parameters.auth is not None:
        args["AUTH"] = parameters.auth
    return parameters


def rcpt_parameters(args: dict[str, str]) -> RcptDsn:
    """Read the parameters of RCPT; what is xtext is decoded in `args` too. Raises BadSyntax."""
    dsn = RcptDsn()
    for name, value in args.items():
        if name == "NOTIFY":
            dsn.notify = _notify(value)
        elif name == "ORCPT":
            dsn.orcpt = _orcpt(value)
        else:
            raise BadSyntax(replies.UNKNOWN_PARAMETER)
    if dsn.orcpt:
        args["ORCPT"] = dsn.orcpt
    return dsn


def _notify(value: str) -> tuple[str, ...]:
    wanted = tuple(value.upper().split(","))
    if wanted != ("NEVER",) and (not _NOTIFY.issuperset(wanted) or len(set(wanted)) != len(wanted)):
        raise BadSyntax(replies.BAD_PARAMETER)
    return wanted


def _orcpt(value: str) -> str:
    kind, semicolon, address = value.partition(";")
    if not semicolon or not address or len(value) > MAX_ORCPT_OCTETS or _ADDRESS_TYPE.fullmatch(kind) is None:
        raise BadSyntax(replies.BAD_PARAMETER)
    if kind.lower() == "utf-8":
        return f"{kind};{grammar.xtext(address, unitext=True)}"
    decoded = grammar.xtext(address)
    if kind.lower() == "rfc822" and not decoded.isascii():
        return f"utf-8;{decoded}"  # Postfix sends UTF-8 so; this is the type that RFC 6533 §3 has for it
    return f"{kind};{_ascii(decoded)}"


def _ascii(decoded: str) -> str:
    """An ENVID and an ORCPT of any type but utf-8 are printable US-ASCII when decoded (RFC 3461 §4.2, §4.4)."""
    if not decoded.isascii():
        raise BadSyntax(replies.BAD_PARAMETER)
    return decoded
