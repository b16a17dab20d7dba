"""The sending side of SMTP and LMTP, without I/O: RFC 5321, 2033 (LMTP), 2920 (PIPELINING), 1870 (SIZE), 6152, 6531.

    bytes of the next hop ──> receive ──> replies ──> outcomes of transactions
    begin, write, finish ──> commands and body ──> data_to_send ──> bytes for the next hop

The driver owns socket and clock. It tells `receive` what came (b"" at the end) and `lost` when I/O failed, and sends
what `data_to_send` gives. The rest it reads off three properties: `can_begin` (a transaction may start), `body_wanted`
(354 was said: `write` segments, then `finish`), `closed` (every transaction has its outcomes: close the socket).

With PIPELINING a transaction is two groups: MAIL, RCPT… and DATA; then the body. The next transaction may begin as soon
as `finish` was called, so that its first group leaves together with the end of this body (RFC 2920 §3.1): then a
message costs one round trip. Replies come in the order of commands, so `_expected` is the whole state of the dialog:
who waits for the next reply. Nothing that a next hop sends raises an exception here: what answers nothing ends the
connection.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from typing import TypeAlias

from mta_front.smtp.bodyencoder import END_OF_DATA
from mta_front.smtp.replyreader import MalformedReply, RemoteReply, ReplyReader
from mta_front.smtp.transaction import Outcome, Transaction

# ehlo-line = ehlo-keyword *( SP ehlo-param ) (RFC 5321 §4.1.1.1)
_EHLO_LINE = re.compile(rb"([A-Za-z0-9][A-Za-z0-9-]*)(?:[ =]([\x20-\x7e]*))?")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# 552 for RCPT is RFC 821's "too many recipients", to be read as 452 (RFC 5321 §4.5.3.1.10), unless an enhanced code
# says that it is something else
_TOO_MANY_RECIPIENTS = re.compile(r"5\.5\.3(?![0-9])|(?!5\.[0-9]{1,3}\.[0-9]{1,3})")


_Handler: TypeAlias = Callable[[Transaction, int, RemoteReply], None]
_Command: TypeAlias = tuple[str, _Handler, Transaction, int]
_NONE = Transaction("", ())
"""Stands where a command belongs to no transaction."""


class ClientConnection:
    """One connection to a next hop; many transactions, one after the other."""

    def __init__(self, helo_name: str, *, lmtp: bool = False) -> None:
        self.extensions: dict[str, str] = {}
        """What EHLO or LHLO offered: keyword in upper case -> parameters."""
        self.ready = False
        """Greeting and hello are done."""
        self.closed = False
        self.reason = ""
        """Why it is closed: what the next hop said, or what happened."""
        self.reason_code = 0
        """The code of the reply that closed it; 0 if none did."""
        self.begun = 0
        """How many transactions were begun."""
        self._helo_name = helo_name
        self._lmtp = lmtp
        self._pipelining = False
        self._size_limit_bytes = 0
        self._reader = ReplyReader()
        self._out: list[bytes] = []
        self._expected: deque[tuple[_Handler, Transaction, int]] = deque([(self._on_greeting, _NONE, 0)])
        self._unsent: deque[_Command] = deque()  # commands that wait for the reply to the one before (no PIPELINING)
        self._open: deque[Transaction] = deque()  # begun and not done, the oldest first
        self._body: Transaction | None = None
        self._reset_needed = False
        self._quitting = False

    # -- what the driver reads -----------------------------------------------------------------------------------------

    @property
    def can_begin(self) -> bool:
        """Whether `begin` may be called now."""
        if not self.ready or self._body is not None or self._quitting:
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
        """Whether nothing is under way."""
        return self.ready and not self._expected and self._body is None and not self._reader.pending

    # -- what the driver calls -----------------------------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """Take what the next hop sent; b"" when it closed the connection."""
        if not data:
            self.lost("the next hop closed the connection")
        elif not self.closed:
            self._take(data)

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
        wanted, parameters = self._screen(transaction)
        if not wanted:
            transaction.done = True
            return
        self.begun += 1
        self._open.append(transaction)
        commands: list[_Command] = []
        if self._reset_needed:
            self._reset_needed = False
            commands.append(("RSET\r\n", self._on_reset, transaction, 0))
        commands.append((f"MAIL FROM:<{transaction.mail_from}>{parameters}\r\n", self._on_mail, transaction, 0))
        recipients = transaction.recipients
        commands += [(f"RCPT TO:<{recipients[i]}>\r\n", self._on_rcpt, transaction, i) for i in wanted]
        commands.append(("DATA\r\n", self._on_data, transaction, 0))
        if self._pipelining:
            self._out.append("".join([command[0] for command in commands]).encode())
            self._expected.extend([command[1:] for command in commands])
        else:
            self._unsent.extend(commands)
            self._send_one()

    def write(self, segment: bytes) -> None:
        """Add a piece of the body, cut anywhere. Nothing happens if the connection was closed meanwhile."""
        if self._body is not None:
            self._out.append(self._body.encoder.encode(segment))

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
            while not self.closed and (reply := self._reader.next()) is not None:
                self._handle(reply)
        except MalformedReply as error:
            self.lost(f"protocol error: {error}")

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

    def _on_greeting(self, transaction: Transaction, index: int, reply: RemoteReply) -> None:
        if reply.code // 100 != 2:
            # 554: no mail service here (RFC 5321 §3.1). It concerns the host, not the message: another may take it.
            self.lost(reply.text, reply.code)
        elif self._lmtp:
            self._command(f"LHLO {self._helo_name}\r\n", self._on_hello, _NONE, 0)
        else:
            self._command(f"EHLO {self._helo_name}\r\n", self._on_hello, _NONE, 0)

    def _on_hello(self, transaction: Transaction, index: int, reply: RemoteReply) -> None:
        if reply.code // 100 == 2:
            for line in reply.lines[1:]:
                if match := _EHLO_LINE.fullmatch(line):
                    self.extensions[match[1].decode().upper()] = (match[2] or b"").decode()
            self._pipelining = "PIPELINING" in self.extensions
            size = self.extensions.get("SIZE", "")
            if size.isdigit() and len(size) <= 18:
                self._size_limit_bytes = int(size)
            self.ready = True
        elif reply.code // 100 == 5 and not self._lmtp:
            self._command(f"HELO {self._helo_name}\r\n", self._on_helo, _NONE, 0)
        else:
            self.lost(reply.text, reply.code)

    def _on_helo(self, transaction: Transaction, index: int, reply: RemoteReply) -> None:
        if reply.code // 100 == 2:
            self.ready = True
        else:
            self.lost(reply.text, reply.code)

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

    def _on_lone_dot(self, transaction: Transaction, index: int, reply: RemoteReply) -> None:
        """Whatever it says: there was nothing to deliver."""

    def _on_final(self, transaction: Transaction, index: int, reply: RemoteReply) -> None:
        if reply.code // 100 == 3:
            self.lost(f"protocol error: {reply.code} in answer to the end of data")
            return
        outcome = Outcome("delivered", reply.code, reply.text) if reply.code < 300 else _refusal(reply)
        if not self._lmtp:
            transaction.resolve(outcome, transaction.accepted)
            self._close_oldest()
            return
        transaction.resolve(outcome, (index,))
        if index == transaction.accepted[-1]:
            self._close_oldest()

    def _on_quit(self, transaction: Transaction, index: int, reply: RemoteReply) -> None:
        self.lost("quit")

    # -- what the next hop can take ------------------------------------------------------------------------------------

    def _screen(self, transaction: Transaction) -> tuple[list[int], str]:
        """The recipients to name, by index, and the parameters of MAIL; gives outcomes to the other recipients."""
        extensions = self.extensions
        limit = self._size_limit_bytes
        if limit and transaction.size_bytes > limit:
            text = f"5.3.4 The message has {transaction.size_bytes} octets, the next hop takes {limit}"
            transaction.resolve(Outcome("failed", 552, text))
            return [], ""
        if transaction.body_type == "binarymime":
            # DATA would turn each CR or LF into a line end (RFC 3030 §3); BDAT is not spoken here yet.
            transaction.resolve(Outcome("failed", 554, "5.6.1 A binary message cannot be sent to the next hop"))
            return [], ""
        takes_utf8 = "SMTPUTF8" in extensions
        refusal = _unsendable(transaction.mail_from, takes_utf8, "1.7")
        if refusal is not None:
            transaction.resolve(refusal)
            return [], ""
        wanted = []
        for i, recipient in enumerate(transaction.recipients):
            refusal = _unsendable(recipient, takes_utf8, "1.3")
            if refusal is None:
                wanted.append(i)
            else:
                transaction.outcomes[i] = refusal
        parameters = ""
        if transaction.size_bytes and "SIZE" in extensions:
            parameters = f" SIZE={transaction.size_bytes}"
        if transaction.body_type == "8bitmime" and "8BITMIME" in extensions:
            parameters += " BODY=8BITMIME"
        if transaction.smtp_utf8 and takes_utf8:
            parameters += " SMTPUTF8"
        return wanted, parameters


def _refusal(reply: RemoteReply) -> Outcome:
    return Outcome("failed" if reply.code >= 500 else "deferred", reply.code, reply.text)


def _unsendable(address: str, takes_utf8: bool, subject: str) -> Outcome | None:
    """Why this address cannot be named to the next hop. Control characters would be commands of their own."""
    if _CONTROL.search(address):
        return Outcome("failed", 501, f"5.{subject} The address has control characters")
    if address.isascii():
        return None
    if not takes_utf8:
        return Outcome("failed", 553, "5.6.7 The address is not ASCII and the next hop does not offer SMTPUTF8")
    try:
        address.encode()
    except UnicodeEncodeError:
        return Outcome("failed", 501, f"5.{subject} The address is not UTF-8")
    return None
