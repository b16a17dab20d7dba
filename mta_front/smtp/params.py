"""What the ESMTP parameters of MAIL and RCPT mean. Names that are not here are answered 555 (RFC 5321 §4.1.1.11)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mta_front.smtp import replies
from mta_front.smtp.errors import BadSyntax

_SIZE = re.compile(r"[0-9]{1,20}")  # size-value (RFC 1870 §4)
_BODY = {"7BIT": "7bit", "8BITMIME": "8bitmime"}  # RFC 6152 §2


@dataclass(slots=True)
class MailParameters:
    """`size_bytes` as declared, 0 when not; `body_type` "7bit" or "8bitmime"."""

    size_bytes: int = 0
    body_type: str = "7bit"


NO_MAIL_PARAMETERS = MailParameters()


def mail_parameters(args: dict[str, str]) -> MailParameters:
    """Read the parameters of MAIL. Raises BadSyntax."""
    if not args:
        return NO_MAIL_PARAMETERS
    parameters = MailParameters()
    for name, value in args.items():
        if name == "SIZE":
            if _SIZE.fullmatch(value) is None:
                raise BadSyntax(replies.BAD_PARAMETER)
            parameters.size_bytes = int(value)
        elif name == "BODY":
            if value.upper() not in _BODY:
                raise BadSyntax(replies.BAD_PARAMETER)
            parameters.body_type = _BODY[value.upper()]
        else:
            raise BadSyntax(replies.UNKNOWN_PARAMETER)
    return parameters


def check_rcpt_parameters(args: dict[str, str]) -> None:
    """Read the parameters of RCPT: none is known yet. Raises BadSyntax."""
    if args:
        raise BadSyntax(replies.UNKNOWN_PARAMETER)
