"""The sending side of SMTP and LMTP, without I/O: RFC 5321, 2033 (LMTP), 2920 (PIPELINING), 3030 (CHUNKING).

How it begins, with STARTTLS and a login where they are wanted, is `clientopening`'s; the parameters of other
extensions (RFC 1870, 3461, 6152, 6531, 8689, 9422) are `offer`'s.

    bytes of the next hop ──> receive ──> replies ──> outcomes of transactions
    begin, write, finish ──> commands and body ──> data_to_send ──> bytes for the next hop

The driver owns socket and clock. It tells `receive` what came (b"" at the end) and `lost` when I/O failed, and sends
what `data_to_send` gives. The rest it reads off five properties: `tls_wanted` (handshake, then `secured`), `can_begin`
(a transaction may start), `body_wanted` (`write` segments, then `finish`), `body_held` (not yet: first a reply),
`closed` (every transaction has its outcomes: close the socket).

With PIPELINING a transaction is two groups: MAIL, RCPT… and DATA; then the body. The next transaction may begin as soon
as `finish` was called, so that its first group leaves together with the end of this body (RFC 2920 §3.1): then a
message costs one round trip. Replies come in the order of commands, so `_expected` is the whole state of the dialog:
who waits for the next reply. Nothing that a next hop sends raises an exception here: what answers nothing ends the
connection.

Where the next hop offers CHUNKING, the body goes as BDAT and there is no DATA. The first chunk waits until somebody is
accepted: a server that refuses BDAT and does not drop its octets would take the message for commands. A refused chunk
ends the message; no other follows, those on their way are answered too, and RSET comes before the next message. In
LMTP it ends the connection, since servers differ in how many replies follow (RFC 2033 §4.3 speaks of the last only).
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from typing import TypeAlias

from mta_front.smtp.bodyencoder import END_OF_DATA, ChunkEncoder
from mta_front.smtp.clientopening import Opening, Plan
from mta_front.smtp.offer import Offer, Security
from mta_front.smtp.replyreader import MalformedReply, RemoteReply, ReplyReader
from mta_front.smtp.transaction import Outcome, Transaction

# 552 for RCPT is RFC 821's "too many recipients", to be read as 452 (RFC 5321 §4.5.3.1.10), unless an enhanced code
# says that it is something else
_TOO_MANY_RECIPIENTS = re.compile(r"5\.5\.3(?![0-9])|(?!5\.[0-9]{1,3}\.[0-9]{1,3})")

_Handler: TypeAlias = Callable[[Transaction, int, RemoteReply], None]
_Command: TypeAlias = tuple[str, _Handler, Transaction, int]
_NONE = Transaction("", ())
"""Stands where a command belongs to no transaction."""
_NO_PLAN = Plan()


class ClientConnection:
    """One connection to a next hop; many transactions, one after the other."""

    def __init__(self, helo_name: str, *, lmtp: bool = False, plan: Plan = _NO_PLAN) -> None:
        self.security: Security = "clear"
        """What protects the connection, as `secured` said."""
        self.ready = False
        """Greeting, hello, and what the plan wants besides are done."""
        self.closed = False
        self.reason = ""
        """Why it is closed: what the next hop said, or what happened."""
        self.reason_code = 0
        """The code of the reply that closed it; 0 if none did."""
        self.begun = 0
        """How many transactions were begun."""
        self._lmtp = lmtp
        self._opening = Opening(helo_name, lmtp, plan)
        self._reader = ReplyReader()
        self._out: list[bytes] = []
        self._expected: deque[tuple[_Handler, Transaction, int]] = deque([(self._on_opening, _NONE, 0)])
        self._unsent: deque[_Command] = deque()  # commands that wait for the reply to the one before (no PIPELINING)
        self._open: deque[Transaction] = deque()  # begun and not done, the oldest first
        self._body: Transaction | None = None
        self._reset_needed = False
        self._quitting = False

    # -- what the driver reads -----------------------------------------------------------------------------------------

    @property
    def offer(self) -> Offer:
        """What EHLO or LHLO offered."""
        return self._opening.offer

    @property
    def tls_wanted(self) -> bool:
        """Whether the next hop waits for a TLS handshake: do it, then call `secured`."""
        return self._opening.tls_wanted and not self.closed

    @property
    def can_begin(self) -> bool:
        """Whether `begin` may be called now."""
        if not self.ready or self._body is not None or self._quitting:
            return False
        if not self._expected:
            return True
        if not self.offer.pipelining:
            return False
        if not self._open:
            return True
        # A refused chunk is followed by RSET, so those before the last must have been accepted.
        last = self._open[-1]
        return last.final_sent and not last.chunks_unanswered and not last.chunk_refused

    @property
    def spent(self) -> bool:
        """The next hop takes no more messages over this connection (RFC 9422 §4.1)."""
        return 0 < self.offer.messages_max <= self.begun

    @property
    def body_wanted(self) -> Transaction | None:
        """The transaction whose body the next hop waits for."""
        return self._body

    @property
    def body_held(self) -> bool:
        """A chunk is not answered and the next hop does not offer PIPELINING: `write` and `finish` have to wait."""
        return self._body is not None and self._body.chunks_unanswered > 0 and not self.offer.pipelining

    @property
    def idle(self) -> bool:
        """Whether nothing is under way."""
        return self.ready and not self._expected and self._body is None and not self._reader.pending

    # -- what the driver calls -----------------------------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """Take what the next hop sent; b"" when it closed the connection."""
        if not data:
            self.lost("the next hop closed the connection")
        elif not self.closed:
            self._take(data)

    def secured(self, security: Security, binding: bytes | None = None) -> None:
        """The connection is over TLS: after `tls_wanted`, or before anything else. `binding`: its tls-exporter."""
        self.security = security
        line = self._opening.secured(security, binding)
        if line:
            self._command(line, self._on_opening, _NONE, 0)

    def lost(self, reason: str, code: int = 0) -> None:
        """The connection is over: I/O failed, a deadline passed, or the driver gives up. What is open is deferred."""
        if self.closed:
            return
        self.closed = True
        self.ready = False
        self.reason = reason
        self.reason_code = code
        self._body = None
        self._out.clear()
        self._expected.clear()
        self._unsent.clear()
        for transaction in self._open:
            transaction.lost = not transaction.final_sent and not any(transaction.outcomes)
            transaction.resolve(Outcome("deferred", code, reason, transaction.final_sent))
            transaction.done = True
        self._open.clear()

    def data_to_send(self) -> bytes:
        """The bytes to send now; b"" if there are none."""
        out = self._out
        if not out:
            return b""
        data = out[0] if len(out) == 1 else b"".join(out)
        out.clear()
        return data

    def begin(self, transaction: Transaction) -> None:
        """Start a transaction, when `can_begin`. It may be done at once: what the next hop cannot take is not sent."""
        assert self.can_begin
        offer = self.offer
        wanted = offer.screen(transaction, self.security)
        if not wanted:
            transaction.done = True
            return
        self.begun += 1
        self._open.append(transaction)
        commands: list[_Command] = []
        if self._reset_needed:
            self._reset_needed = False
            commands.append(("RSET\r\n", self._on_reset, transaction, 0))
        mail, *recipients = offer.commands(transaction, wanted)
        commands.append((mail, self._on_mail, transaction, 0))
        commands += [(line, self._on_rcpt, transaction, i) for i, line in zip(wanted, recipients, strict=True)]
        if offer.chunking:
            transaction.encoder = ChunkEncoder(binary=transaction.body_type == "binarymime")
            commands[-1] = (recipients[-1], self._on_last_rcpt, transaction, wanted[-1])
        else:
            commands.append(("DATA\r\n", self._on_data, transaction, 0))
        if offer.pipelining:
            self._out.append("".join([command[0] for command in commands]).encode())
            self._expected.extend([command[1:] for command in commands])
        else:
            self._unsent.extend(commands)
            self._send_one()

    def write(self, segment: bytes) -> None:
        """Add a piece of the body, cut anywhere. Nothing happens if the body is not wanted any more."""
        transaction = self._body
        if transaction is None:
            return
        data = transaction.encoder.encode(segment)
        if data:
            self._out.append(data)
            if self.offer.chunking:
                transaction.chunks_unanswered += 1
                self._expected.append((self._on_chunk, transaction, 0))

    def finish(self) -> None:
        """End the body. From the bytes that `data_to_send` gives now, the next hop may have the message."""
        transaction, self._body = self._body, None
        if transaction is None:
            return
        self._out.append(transaction.encoder.finish())
        transaction.final_sent = True
        if self._lmtp:
            # One reply for each recipient that was accepted, in the order of RCPT (RFC 2033 §4.2).
            self._expected.extend([(self._on_final, transaction, i) for i in transaction.accepted])
        else:
            self._expected.append((self._on_final, transaction, 0))

    def quit(self) -> None:
        """Say QUIT; then `closed` comes with the answer. Without a body under way only."""
        if self._body is None and not self.closed and not self._quitting:
            self._quitting = True
            self._command("QUIT\r\n", self._on_quit, _NONE, 0)

    # -- the dialog ----------------------------------------------------------------------------------------------------

    def _take(self, data: bytes) -> None:
        self._reader.receive(data)
        try:
            while not self.closed and not self.tls_wanted and (reply := self._reader.next()) is not None:
                self._handle(reply)
        except MalformedReply as error:
            self.lost(f"protocol error: {error}")
        if self.tls_wanted and self._reader.pending:
            # What came in clear must not be taken for an answer given over TLS (the twin of CVE-2011-0411)
            self.lost("protocol error: input between the answer to STARTTLS and the handshake")

    def _handle(self, reply: RemoteReply) -> None:
        if self._expected:
            handler, transaction, index = self._expected.popleft()
            # 421 answers any command (RFC 5321 §3.8) and says more of the next hop than of a recipient. Only as the
            # reply to a message it says what became of that.
            if reply.code != 421 or transaction.final_sent:
                handler(transaction, index, reply)
            if reply.code == 421:
                self.lost(reply.text, 421)
            elif self._unsent and not self._expected:
                self._send_one()
        elif self._body is not None and reply.code >= 400:
            # Refused before the end. We cannot take back what was sent of the body, so the connection is done for.
            self._body.resolve(_refusal(reply), self._body.accepted)
            self.lost(f"refused within the message: {reply.text}", reply.code)
        elif reply.code == 421:
            self.lost(reply.text, 421)
        else:
            self.lost(f"protocol error: a reply to nothing: {reply.code} {reply.text}")

    def _command(self, line: str, handler: _Handler, transaction: Transaction, index: int) -> None:
        self._out.append(line.encode())
        self._expected.append((handler, transaction, index))

    def _send_one(self) -> None:
        """The next command of a dialog without PIPELINING; DATA only if there is somebody to send it to."""
        _, handler, transaction, _ = self._unsent[0]
        if handler == self._on_data and not transaction.accepted:
            self._unsent.clear()
            self._reset_needed = True
            self._close_oldest()
            return
        self._command(*self._unsent.popleft())

    def _close_oldest(self) -> None:
        """The oldest open transaction has all its outcomes."""
        self._open.popleft().done = True

    def _on_opening(self, transaction: Transaction, index: int, reply: RemoteReply) -> None:
        opening = self._opening
        line = opening.answer(reply)
        if opening.failure:
            self.lost(opening.failure, opening.failure_code)
        elif line:
            self._command(line, self._on_opening, _NONE, 0)
        else:
            self.ready = opening.ready

    def _on_reset(self, transaction: Transaction, index: int, reply: RemoteReply) -> None:
        if reply.code // 100 != 2:
            self.lost(f"RSET was refused: {reply.text}", reply.code)

    def _on_mail(self, transaction: Transaction, index: int, reply: RemoteReply) -> None:
        if reply.code // 100 == 3:
            self.lost(f"protocol error: {reply.code} in answer to MAIL")
        elif reply.code >= 400:
            transaction.mail_refused = True
            transaction.resolve(_refusal(reply))
            if self._unsent:
                self._unsent.clear()
                self._close_oldest()

    def _on_rcpt(self, transaction: Transaction, index: int, reply: RemoteReply) -> None:
        if reply.code // 100 == 2:
            transaction.accepted.append(index)
        elif reply.code >= 400:
            outcome = _refusal(reply)
            if reply.code == 552 and _TOO_MANY_RECIPIENTS.match(outcome.text):
                outcome.kind, outcome.code = "deferred", 452
            transaction.resolve(outcome, (index,))
        else:
            self.lost(f"protocol error: {reply.code} in answer to RCPT")

    def _on_data(self, transaction: Transaction, index: int, reply: RemoteReply) -> None:
        if reply.code // 100 == 2:
            self.lost(f"protocol error: {reply.code} in answer to DATA")
        elif reply.code >= 400:
            transaction.resolve(_refusal(reply), transaction.accepted)
            self._reset_needed = not transaction.mail_refused
            self._close_oldest()
        elif transaction.accepted and not transaction.mail_refused:
            self._body = transaction
        elif transaction.accepted or self._lmtp:
            # A dot here could deliver an empty message to somebody, or wait for replies that nobody has counted.
            self.lost("protocol error: DATA was accepted after a refusal")
        else:
            # Nobody was accepted and DATA was: an empty message ends it (RFC 2920 §3.1).
            self._out.append(END_OF_DATA)
            self._expected.append((self._on_lone_dot, transaction, 0))
            self._close_oldest()

    def _on_last_rcpt(self, transaction: Transaction, index: int, reply: RemoteReply) -> None:
        """Where the body goes as chunks: now it may, if anybody is to have it."""
        self._on_rcpt(transaction, index, reply)
        if self.closed:
            return
        if transaction.accepted and not transaction.mail_refused:
            self._body = transaction
        else:
            self._reset_needed = not transaction.mail_refused or bool(transaction.accepted)
            self._close_oldest()

    def _on_chunk(self, transaction: Transaction, index: int, reply: RemoteReply) -> None:
        transaction.chunks_unanswered -= 1
        if reply.code // 100 == 3:
            self.lost(f"protocol error: {reply.code} in answer to BDAT")
            return
        if reply.code >= 400 and not transaction.chunk_refused:
            transaction.chunk_refused = True
            transaction.resolve(_refusal(reply), transaction.accepted)
            self._body = None  # where the end was sent it is None, and no other transaction has begun
            if self._lmtp:
                self.lost(f"a chunk was refused: {reply.text}", reply.code)
                return
        if transaction.chunk_refused and not transaction.chunks_unanswered and not transaction.final_sent:
            self._reset_needed = True
            self._close_oldest()

    def _on_lone_dot(self, transaction: Transaction, index: int, reply: RemoteReply) -> None:
        """Whatever it says: there was nothing to deliver."""

    def _on_final(self, transaction: Transaction, index: int, reply: RemoteReply) -> None:
        if reply.code // 100 == 3:
            self.lost(f"protocol error: {reply.code} in answer to the end of data")
            return
        if reply.code < 300:
            outcome = Outcome("delivered", reply.code, reply.text, dsn_passed=self.offer.dsn)
        else:
            outcome = _refusal(reply)
        if not self._lmtp:
            transaction.resolve(outcome, transaction.accepted)
            self._reset_needed = transaction.chunk_refused
            self._close_oldest()
            return
        transaction.resolve(outcome, (index,))
        if index == transaction.accepted[-1]:
            self._close_oldest()

    def _on_quit(self, transaction: Transaction, index: int, reply: RemoteReply) -> None:
        self.lost("quit")


def _refusal(reply: RemoteReply) -> Outcome:
    return Outcome("failed" if reply.code >= 500 else "deferred", reply.code, reply.text)
