"""One message on its way to a next hop, and what became of its recipients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, TypeAlias

from mta_front.smtp.bodyencoder import BodyEncoder, Encoder
from mta_front.smtp.params import MailDsn, RcptDsn

Kind: TypeAlias = Literal["delivered", "deferred", "failed"]

_NO_DSN = MailDsn()
_NO_RCPT_DSN: Mapping[str, RcptDsn] = MappingProxyType({})


@dataclass(slots=True)
class Outcome:
    """What became of one recipient in one attempt.

    `kind`: delivered (the next hop has it), deferred (to be tried again), failed (for good). `code` is the next hop's
    reply code, or the one that describes our own reason best; 0 where no reply came. `text` is printable and short.
    `uncertain`: the connection broke after the last byte of the message and before the reply to it, so the next attempt
    may be a second delivery (RFC 5321 §4.5.4.2, RFC 1047). `dsn_passed`: the next hop that has it offers DSN, so what
    is to be reported from here on is its business (RFC 3461 §5.2.1); else it is ours (§5.2.2). `wait_s`: nothing was
    tried, and nothing is wrong; it is to be tried in so many seconds. 0 = nobody knows when.
    """

    kind: Kind
    code: int
    text: str
    uncertain: bool = False
    dsn_passed: bool = False
    wait_s: float = 0.0

    def __str__(self) -> str:
        return f"{self.code} {self.text}" if self.code else self.text


class Transaction:
    """One message to some recipients over one connection.

    `mail_from` "" is the null reverse-path; `recipients` has nobody twice; `body_type` "7bit", "8bitmime" or
    "binarymime"; `dsn` and `rcpt_dsn` (by recipient): what the sender wants reported.
    `outcomes` has one entry for each recipient, None until it is known; `done` when all are. `lost`: the connection
    ended before the message was sent and before anybody had an outcome, so another connection may try it at once.
    The rest belongs to `ClientConnection`.
    """

    __slots__ = ("accepted", "body_type", "chunk_refused", "chunks_unanswered", "done", "dsn", "encoder", "final_sent",
                 "lost", "mail_from", "mail_refused", "outcomes", "rcpt_dsn", "recipients", "require_tls", "size_bytes",
                 "smtp_utf8")  # fmt: skip

    def __init__(
        self,
        mail_from: str,
        recipients: Sequence[str],
        size_bytes: int = 0,
        body_type: str = "7bit",
        smtp_utf8: bool = False,
        require_tls: bool = False,
        dsn: MailDsn = _NO_DSN,
        rcpt_dsn: Mapping[str, RcptDsn] = _NO_RCPT_DSN,
    ) -> None:
        self.mail_from = mail_from
        self.recipients = recipients
        self.size_bytes = size_bytes
        self.body_type = body_type
        self.smtp_utf8 = smtp_utf8
        self.require_tls = require_tls
        self.dsn = dsn
        self.rcpt_dsn = rcpt_dsn
        self.outcomes: list[Outcome | None] = [None] * len(recipients)
        self.accepted: list[int] = []  # recipients that the next hop took, by index
        self.encoder: Encoder = BodyEncoder()
        self.chunks_unanswered = 0  # the last one, which ends the message, is not counted
        self.chunk_refused = False
        self.mail_refused = False
        self.final_sent = False
        self.lost = False
        self.done = False

    def resolve(self, outcome: Outcome, indices: Sequence[int] | None = None) -> None:
        """Give `outcome` to those of `indices` (default: all) that have none yet."""
        outcomes = self.outcomes
        for i in range(len(outcomes)) if indices is None else indices:
            if outcomes[i] is None:
                outcomes[i] = outcome
