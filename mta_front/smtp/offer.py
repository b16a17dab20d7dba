"""What a next hop offers (EHLO, LHLO), and what of a transaction can be said to it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Literal, TypeAlias

from mta_front.smtp.dsnparams import mail_words, rcpt_words
from mta_front.smtp.transaction import Outcome, Transaction

# ehlo-line = ehlo-keyword *( SP ehlo-param ) (RFC 5321 §4.1.1.1)
_EHLO_LINE = re.compile(rb"([A-Za-z0-9][A-Za-z0-9-]*)(?:[ =]([\x20-\x7e]*))?")
# esmtp-limit = limit-name "=" limit-value; limit-value = %x31-39 0*5DIGIT for those known here (RFC 9422 §3, §5)
_LIMIT = re.compile(r"([A-Za-z0-9-]+)=([1-9][0-9]{0,5})")
_SIZE = re.compile(r"[0-9]{1,18}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

Security: TypeAlias = Literal["clear", "encrypted", "verified"]
"""Of a connection: "verified" is over TLS with whom we meant, "encrypted" over TLS with somebody."""

_LACKS: dict[Security, str] = {
    "clear": "is not reached over TLS",
    "encrypted": "did not prove who it is",
    "verified": "does not offer REQUIRETLS",
}


class Offer:
    """The extensions of one next hop, by keyword in upper case; `lines` are those of its reply after the first."""

    def __init__(self, lines: Iterable[bytes] = ()) -> None:
        self.extensions: dict[str, str] = {}
        for line in lines:
            if match := _EHLO_LINE.fullmatch(line):
                self.extensions[match[1].decode().upper()] = (match[2] or b"").decode()
        extensions = self.extensions
        self.pipelining = "PIPELINING" in extensions
        self.chunking = "CHUNKING" in extensions
        self.dsn = "DSN" in extensions
        size = extensions.get("SIZE", "")
        self.size_bytes = int(size) if _SIZE.fullmatch(size) else 0
        """The largest message; 0: no limit is known."""
        named = [_LIMIT.fullmatch(word) for word in extensions.get("LIMITS", "").split()]
        limits = {limit[1].upper(): int(limit[2]) for limit in named if limit}
        self.messages_max = limits.get("MAILMAX", 0)
        """MAIL commands over one connection; 0: no limit is known."""
        self._recipients_max = limits.get("RCPTMAX", 0)
        self._domains_max = limits.get("RCPTDOMAINMAX", 0)

    def fitting(self, recipients: Sequence[str]) -> int:
        """How many of these, from the first, one transaction may name (RFC 9422 §4.2, §4.3); at least 1."""
        count = len(recipients)
        if 0 < self._recipients_max < count:
            count = self._recipients_max
        if self._domains_max:
            domains = set()
            for i in range(count):
                domains.add(recipients[i].rpartition("@")[2].lower())
                if len(domains) > self._domains_max:
                    return i
        return count

    def screen(self, transaction: Transaction, security: Security) -> list[int]:
        """The recipients to name, by index; gives outcomes to the others, for whom the message cannot be sent here.

        `security`: of the connection.
        """
        refusal = self.unfit(transaction, security) or self._unsendable(transaction.mail_from, "1.7")
        if refusal is not None:
            transaction.resolve(refusal)
            return []
        wanted = []
        for i, recipient in enumerate(transaction.recipients):
            refusal = self._unsendable(recipient, "1.3")
            if refusal is None:
                wanted.append(i)
            else:
                transaction.outcomes[i] = refusal
        return wanted

    def commands(self, transaction: Transaction, wanted: Sequence[int]) -> list[str]:
        """MAIL, and RCPT for each of `wanted`, with the parameters that this next hop takes."""
        extensions = self.extensions
        recipients = [transaction.recipients[i] for i in wanted]
        utf8 = "SMTPUTF8" in extensions and (
            transaction.smtp_utf8
            or not transaction.mail_from.isascii()
            or not all(recipient.isascii() for recipient in recipients)
        )
        mail = f"MAIL FROM:<{transaction.mail_from}>"
        if transaction.size_bytes and "SIZE" in extensions:
            mail += f" SIZE={transaction.size_bytes}"
        if transaction.body_type == "binarymime":
            mail += " BODY=BINARYMIME"
        elif transaction.body_type == "8bitmime" and "8BITMIME" in extensions:
            mail += " BODY=8BITMIME"
        if utf8:
            mail += " SMTPUTF8"
        if transaction.require_tls:
            mail += " REQUIRETLS"
        if not self.dsn:
            return [mail + "\r\n", *(f"RCPT TO:<{recipient}>\r\n" for recipient in recipients)]
        lines = [f"{mail}{mail_words(transaction.dsn)}\r\n"]
        asked = transaction.rcpt_dsn
        for recipient in recipients:
            words = rcpt_words(asked[recipient], utf8) if recipient in asked else ""
            lines.append(f"RCPT TO:<{recipient}>{words}\r\n")
        return lines

    def unfit(self, transaction: Transaction, security: Security) -> Outcome | None:
        """Why the message cannot be sent to this next hop, whoever it is for."""
        if transaction.require_tls and not (security == "verified" and "REQUIRETLS" in self.extensions):
            # Rather not at all than in clear, to a stranger, or to one that would pass it on in clear (RFC 8689 §4.2.1)
            lacks = _LACKS[security]
            return Outcome("failed", 550, f"5.7.30 REQUIRETLS, and the next hop {lacks}")
        if 0 < self.size_bytes < transaction.size_bytes:
            text = f"5.3.4 The message has {transaction.size_bytes} octets, the next hop takes {self.size_bytes}"
            return Outcome("failed", 552, text)
        if transaction.body_type == "binarymime" and not (self.chunking and "BINARYMIME" in self.extensions):
            # DATA would turn each CR or LF into a line end (RFC 3030 §3), and we convert no bodies.
            return Outcome("failed", 554, "5.6.1 A binary message, and the next hop does not offer BINARYMIME")
        return None

    def _unsendable(self, address: str, subject: str) -> Outcome | None:
        """Why this address cannot be named to the next hop. Control characters would be commands of their own.

        A message with SMTPUTF8 whose addresses are ASCII goes to anybody: it may need it for a header, which nobody
        here reads, and most do not (RFC 6531 §3.4).
        """
        if _CONTROL.search(address):
            return Outcome("failed", 501, f"5.{subject} The address has control characters")
        if address.isascii():
            return None
        if "SMTPUTF8" not in self.extensions:
            return Outcome("failed", 553, "5.6.7 The address is not ASCII and the next hop does not offer SMTPUTF8")
        try:
            address.encode()
        except UnicodeEncodeError:
            return Outcome("failed", 501, f"5.{subject} The address is not UTF-8")
        return None
