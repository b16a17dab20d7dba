"""The sending side of SMTP and LMTP, without I/O: RFC 5321, 2033 (LMTP), 2920 (PIPELINING), 1870 (SIZE), 6152, 6531.

    bytes of the next hop ──> receive ──> replies ──> outcomes of transactions
    begin / write / finish ──> commands and body ──> data_to_send ──> bytes for the next hop

The driver owns socket and clock. It tells `receive` what came (b"" at the end) and `lost` when I/O failed, and sends what
`data_to_send` gives. The rest it reads off three properties: `can_begin` (a transaction may start), `body_wanted` (354 was
said: `write` segments, then `finish`), `closed` (every transaction has its outcomes; close the socket).

With PIPELINING a transaction is two groups: MAIL, RCPT… and DATA; then the body. The next transaction may begin as soon as
`finish` was called, so that its first group leaves with the end of this body (RFC 2920 §3.1); then a message costs one
round trip. Replies come in the order of commands, so `_expected` is the whole state of the dialog: who waits for the
next reply. Nothing that a next hop sends raises an exception here: what is not a reply to anything ends the connection.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Sequence
from typing import TypeAlias

from mta_front.smtp.bodyencoder import END_OF_DATA, BodyEncoder
from mta_front.smtp.outcome import Outcome
from mta_front.smtp.replyreader import MalformedReply, RemoteReply, ReplyReader

_KEYWORD = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*)[ =]?([ -~]*)")
_CONTROL = re.compile(r"[\x00-\x20\x7f<>]")
_SIZE = re.compile(r"[0-9]{1,18}")
_TOO_MANY_RECIPIENTS = re.compile(r"(?![45]\.)|[45]\.5\.3")


class Transaction:
    """One message to some recipients over one connection.

    `mail_from` "" is the null reverse-path; `recipients` must not repeat; `body_type` "7bit" or "8bitmime".
    `outcomes` has one entry for each recipient, None until it is known; `done` when all are. `lost`: some of them are
    deferred because the connection ended, not because a reply said so; `started`: its commands were handed out.
    """

    __slots__ = ("accepted", "body_type", "done", "encoder", "final_sent", "lost", "mail_from", "mail_refused", "outcomes",
                 "recipients", "size_bytes", "smtp_utf8", "started", "wanted")  # fmt: skip

    def __init__(
        self, mail_from: str, recipients: Sequence[str], size_bytes: int = 0, body_type: str = "7bit", smtp_utf8: bool = False
    ) -> None:
        self.mail_from = mail_from
        self.recipients = recipients
        self.size_bytes = size_bytes
        self.body_type = body_type
        self.smtp_utf8 = smtp_utf8
        self.outcomes: list[Outcome | None] = [None] * len(recipients)
        self.wanted: list[int] = []  # recipients to name to the next hop, by index
        self.accepted: list[int] = []  # those it took
        self.encoder = BodyEncoder()
        self.done = False
        self.lost = False
        self.started = False
        self.final_sent = False
        self.mail_refused = False

    def resolve(self, outcome: Outcome, indices: Sequence[int] | None = None) -> None:
        """Give `outcome` to those of `indices` (default: all) that have none."""
        outcomes = self.outcomes
        for i in range(len(outcomes)) if indices is None else indices:
            if outcomes[i] is None:
                outcomes[i] = outcome


_Handler: TypeAlias = Callable[[Transaction, int, RemoteReply], None]


class ClientConnection:
    """One connection to a next hop; several transactions, one after the other."""

    def __init__(self, helo_name: str, *, lmtp: bool = False) -> None:
        self.extensions: dict[str, str] = {}
        """Of the last EHLO or LHLO: keyword in upper case -> parameters."""
        self.ready = False
        """Greeting and hello are done."""
        self.closed = False
        self.reason = ""
        """Why it is closed: a reply of the next hop, or what happened."""
        self.transactions = 0
        """How many were begun here."""
        self._helo_name = helo_name
        self._lmtp = lmtp
        self._reader = ReplyReader()
        self._out: list[bytes] = []
        self._greeted = Transaction("", ())  # stands for no transaction
        self._open: deque[Transaction] = deque()  # begun, not done; the last one is the youngest
        self._expected: deque[tuple[_Handler, Transaction, int]] = deque()
        self._body: Transaction | None = None
        self._pipelining = False
        self._reset_needed = False
        self._quitting = False
        self._expect(self._on_greeting, self._greeted)

    # -- what the driver reads -------------------------------------------------------------------------------------

    @property
    def can_begin(self) -> bool:
        """Whether `begin` may be called now."""
        if not self.ready or self.closed or self._quitting or self._body is not None:
            return False
        if not self._expected:
            return True
        return self._pipelining and (not self._open or self._open[-1].final_sent)

    @property
    def body_wanted(self) -> Transaction | None:
        """The transaction whose body the next hop waits for."""
        return self._body

    @property
    def idle(self) -> bool:
        """Nothing is under way, and nothing unexpected was said."""
        return self.ready and not self.closed and not self._expected and not self._reader.pending

    # -- what the driver calls -------------------------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """Take what the next hop sent; b"" if it closed the connection."""
        if self.closed:
            return
        if not data:
            self.lost("the next hop closed the connection")
            return
        self._reader.receive(data)
        try:
            while not self.closed and (reply := self._reader.next()) is not None:
                self._handle(reply)
        except MalformedReply as error:
            self.lost(f"protocol error: {error}")

    def lost(self, reason: str, code: int = 0) -> None:
        """The connection is over: I/O failed, a deadline passed, or the driver gives up. Defers what has no outcome."""
        if self.closed:
            return
        self.closed = True
        self.ready = False
        self.reason = reason
        self._body = None
        self._expected.clear()
        for transaction in self._open:
            transaction.resolve(Outcome("deferred", code, reason, uncertain=transaction.final_sent))
            transaction.lost = transaction.done = True
        self._open.clear()

    def data_to_send(self) -> bytes:
        """The bytes to send now; b"" if none."""
        out = self._out
        if not out:
            return b""
        data = out[0] if len(out) == 1 else b"".join(out)
        out.clear()
        return data

    def begin(self, transaction: Transaction) -> None:
        """Start a transaction; only when `can_begin`. It may be done at once: what the next hop cannot take is not sent."""
        assert self.can_begin
        parameters = self._screen(transaction)
        if not transaction.wanted:
            transaction.done = True
            return
        self.transactions += 1
        transaction.started = True
        self._open.append(transaction)
        commands = [f"MAIL FROM:<{transaction.mail_from}>{parameters}\r\n"]
        if not self._pipelining:
            self._out.append(commands[0].encode())
            if self._reset_needed:
                self._reset_needed = False
                self._out.insert(-1, b"RSET\r\n")
                self._expect(self._on_reset_alone, transaction)
                self._held = self._out.pop()
            else:
                self._expect(self._on_mail, transaction)
            return
        if self._reset_needed:
            self._reset_needed = False
            commands.insert(0, "RSET\r\n")
            self._expect(self._on_reset, transaction)
        self._expect(self._on_mail, transaction)
        for index in transaction.wanted:
            commands.append(f"RCPT TO:<{transaction.recipients[index]}>\r\n")
            self._expect(self._on_rcpt, transaction, index)
        commands.append("DATA\r\n")
        self._expect(self._on_data, transaction)
        self._out.append("".join(commands).encode())
