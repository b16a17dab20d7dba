r"""What a sender wants reported, as ESMTP parameters (RFC 3461 §4, RFC 6533 §3): the inverse of `params`.

Values come from a queue that others may write too, so what cannot be said in these parameters is left out: nothing
here lets a space or a line end through.
"""

from __future__ import annotations

import re

from mta_front.smtp.params import MAX_ENVID_OCTETS, MAX_ORCPT_OCTETS, MailDsn, RcptDsn

_RET = frozenset({"FULL", "HDRS"})
_NOTIFY = re.compile(r"NEVER|(?:SUCCESS|FAILURE|DELAY)(?:,(?:SUCCESS|FAILURE|DELAY)){0,2}")
# addr-type = atom (RFC 3461 §4.2)
_ORCPT = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*);(.+)", re.DOTALL)
# xchar = any ASCII CHAR between "!" and "~" inclusive, except for "+" and "=" (RFC 3461 §4)
_NOT_XCHAR = re.compile(r"[^\x21-\x2a\x2c-\x3c\x3e-\x7e]")
# QCHAR: the same without "\" (RFC 6533 §3)
_NOT_QCHAR = re.compile(r"[^\x21-\x2a\x2c-\x3c\x3e-\x5b\x5d-\x7e]")
# QUCHAR: QCHAR and UTF-8 beyond ASCII
_NOT_QUCHAR = re.compile(r"[^\x21-\x2a\x2c-\x3c\x3e-\x5b\x5d-\x7e\xa1-\U0010ffff]")


def mail_words(dsn: MailDsn) -> str:
    """RET and ENVID, each with a space before it; "" where nothing was asked for."""
    words = f" RET={dsn.ret}" if dsn.ret in _RET else ""
    if dsn.envid.isprintable():
        envid = xtext(dsn.envid)
        if envid and len(envid) <= MAX_ENVID_OCTETS:
            words += f" ENVID={envid}"
    return words


def rcpt_words(dsn: RcptDsn, utf8: bool) -> str:
    """NOTIFY and ORCPT, each with a space before it. `utf8`: the transaction is one with SMTPUTF8."""
    notify = ",".join(dsn.notify)
    words = f" NOTIFY={notify}" if _NOTIFY.fullmatch(notify) else ""
    match = _ORCPT.fullmatch(dsn.orcpt)
    if match is not None and dsn.orcpt.isprintable():
        kind, address = match.groups()
        if kind.lower() == "utf-8":
            # The form without UTF-8 is understood by all who offer DSN; it may be too long, and then the other will do.
            encoded = unitext(address, _NOT_QCHAR)
            if utf8 and len(kind) + 1 + len(encoded) > MAX_ORCPT_OCTETS:
                encoded = unitext(address, _NOT_QUCHAR)
        else:
            encoded = xtext(address)
        if encoded and len(f"{kind};{encoded}".encode()) <= MAX_ORCPT_OCTETS:
            words += f" ORCPT={kind};{encoded}"
    return words


def xtext(text: str) -> str:
    """US-ASCII as xtext; "" where there is anything else."""
    if not text.isascii():
        return ""
    return _NOT_XCHAR.sub(lambda found: f"+{ord(found[0]):02X}", text)


def unitext(text: str, special: re.Pattern[str]) -> str:
    r"""The value of an ORCPT of type utf-8, with \x{...} for what is `special`."""
    return special.sub(lambda found: f"\\x{{{ord(found[0]):02X}}}", text)
