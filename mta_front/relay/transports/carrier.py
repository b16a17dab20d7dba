"""One connection that carries attempts: the pump between a wire and the sending core.

The next message's envelope leaves with the end of the body before it, where the next hop offers PIPELINING; nothing is
said between messages; an idle connection stays open for a while. One that turns out to be dead costs a message nothing:
if it broke before anything was said about that message, a fresh connection gets it at once.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass

from mta_front.net.dialer import WireError
from mta_front.observe.events import Events
from mta_front.relay.attempt import Attempt
from mta_front.relay.hop import Hop
from mta_front.relay.transports.opener import Opener, SmtpOptions
from mta_front.smtp.params import MailDsn, RcptDsn
from mta_front.smtp.transaction import Outcome, Transaction
from mta_front.store.entry import Entry
from mta_front.store.errors import StoreBodyGone, StoreError

IDLE_S = 10.0
"""An idle connection is closed after so long (RFC 5321 §4.5.3.2.7 lets the next hop close it after five minutes)."""
QUIT_S = 2.0
"""How long the answer to QUIT is waited for."""


class SmtpCarrier:
    """One connection: the pump between a wire and the client's protocol machine.

    It has at most two attempts in hand: the one whose reply is awaited, and the next one, which is already on its way.
    """

    def __init__(self, hop: Hop, opener: Opener, options: SmtpOptions, events: Events) -> None:
        """Connect and say hello. Raises Unreachable."""
        self._hop = hop
        self._transport = options.protocol
        self._timeout_s = options.timeout_s
        self._max_messages = options.max_messages
        self._events = events
        self._in_hand: deque[_Begun] = deque()
        self._timed_out = False
        self._given_up = False  # the connection was ended by us, and the next hop is not to blame
        self._wire, self._client = opener.open()

    def close(self) -> None:
        """Close the socket."""
        self._wire.close()

    def serve(self) -> None:
        """Carry attempts until none comes for a while, or the connection is done for."""
        try:
            while self._in_hand or self._fetch():
                self._carry()
        except Exception:
            self._client.lost("local error")
            for begun in self._in_hand:
                attempt = begun.attempt
                local_error = Outcome("deferred", 451, "4.3.0 Local error")
                attempt.report(attempt, [local_error] * len(attempt.recipients), self._hop.name)
            raise

    # -- attempts ------------------------------------------------------------------------------------------------------

    def _fetch(self) -> bool:
        """Get an attempt in hand; waits for one. False: there will be none, or not over this connection."""
        hop, client = self._hop, self._client
        while not client.closed and not self._spent:
            attempt = self._next()
            if attempt is not None:
                self._begin(attempt)
                return True
            if not hop.wait(IDLE_S):
                break
            self._hear()
        if not client.closed:
            self._quit()
        return False

    @property
    def _spent(self) -> bool:
        """Whether this connection has carried what it may."""
        return self._client.begun >= self._max_messages or self._client.spent

    def _next(self) -> Attempt | None:
        """The next attempt that waits. What this next hop cannot take goes to another one, while there is any: it may
        offer more.
        """
        while (attempt := self._hop.next()) is not None:
            why = self._unconverted(attempt)
            if attempt.hops and why is None:
                transaction = transaction_of(attempt.envelope, attempt.recipients)
                why = self._client.offer.unfit(transaction, self._client.security)
            if why is None:
                break
            if attempt.hops:
                self._hop.pass_on(attempt, why)
            else:
                self._events.attempted(self._transport, why.kind, len(attempt.recipients), 0.0)
                attempt.report(attempt, [why] * len(attempt.recipients), self._hop.name)
        return attempt

    def _unconverted(self, attempt: Attempt) -> Outcome | None:
        """Why a message of 8-bit octets cannot go where 8BITMIME is not offered (RFC 6152 §3). We convert no bodies.

        Many clients say BODY=8BITMIME of any message, so the message itself is looked at.
        """
        if attempt.envelope.body_type != "8bitmime" or "8BITMIME" in self._client.offer.extensions:
            return None
        try:
            plain = all(segment.isascii() for segment in attempt.body())
        except StoreError:
            return None  # sending it will tell
        if plain:
            return None
        return Outcome("failed", 554, "5.6.3 The message is 8-bit, and the next hop does not offer 8BITMIME")

    def _begin(self, attempt: Attempt) -> None:
        fitting = self._client.offer.fitting(attempt.recipients)
        if fitting < len(attempt.recipients):
            self._hop.rest(attempt.divide(fitting))
        self._hop.paid()
        transaction = transaction_of(attempt.envelope, attempt.recipients)
        self._client.begin(transaction)
        now = time.monotonic()
        self._in_hand.append(_Begun(attempt, transaction, now, now))

    def _carry(self) -> None:
        """Bring the first attempt in hand to its end."""
        client = self._client
        begun = self._in_hand[0]
        transaction = begun.transaction
        self._flush()
        while not transaction.done and client.body_wanted is None:
            self._read()
        if not transaction.done and self._send_body(begun):
            if self._hop.health.quick and client.can_begin and not self._spent:
                following = self._next()
                if following is not None:
                    self._begin(following)
            begun.sent_at = time.monotonic()
            self._flush()
            while not transaction.done:
                self._read()
        while len(self._in_hand) == 1 and not client.can_begin and not client.closed:
            self._read()
        self._in_hand.popleft()
        self._report(begun)

    def _send_body(self, begun: _Begun) -> bool:
        """Everything but what `finish` adds is handed out here; False: given up, or the next hop wants no more."""
        client, attempt, transaction = self._client, begun.attempt, begun.transaction
        try:
            segments = iter(attempt.body())
            client.write(next(segments, b""))
            for segment in segments:
                self._flush()
                self._hear()  # replies to chunks; a refusal in the middle
                self._await_room()
                if client.body_wanted is not transaction:
                    return False
                client.write(segment)
            self._await_room()
        except StoreBodyGone:
            transaction.resolve(Outcome("failed", 554, "5.3.0 The body of the message is lost"))
            return self._give_up("the body of the message is lost")
        except StoreError as error:
            transaction.resolve(Outcome("deferred", 451, f"4.3.0 No body from the store: {error.reason}"))
            return self._give_up("no body from the store")
        if not attempt.may_finish():
            begun.let_go = True
            return self._give_up("the message is no longer ours")
        client.finish()
        return True

    def _await_room(self) -> None:
        """Where the next hop wants to answer each chunk before the next, let it."""
        while self._client.body_held:
            self._flush()
            self._read()

    def _give_up(self, reason: str) -> bool:
        """End the connection before the final dot: there is no other way to take a message back."""
        self._given_up = True
        self._client.lost(reason)
        return False

    def _report(self, begun: _Begun) -> None:
        attempt, transaction, hop = begun.attempt, begun.transaction, self._hop
        now = time.monotonic()
        if begun.let_go:
            attempt.report(attempt, None, hop.name)
            return
        if not self._client.closed:
            hop.health.answered(now, now - begun.sent_at)
        elif not self._given_up:
            self._judge(begun)
        if transaction.lost and not attempt.again and not self._timed_out:
            hop.again(attempt)
            return
        outcomes = [outcome for outcome in transaction.outcomes if outcome is not None]
        for kind, recipients in Counter(outcome.kind for outcome in outcomes).items():
            self._events.attempted(self._transport, kind, recipients, now - begun.at)
        attempt.report(attempt, outcomes, hop.name)

    def _judge(self, begun: _Begun) -> None:
        """The connection ended while it carried something. Does that speak against the next hop?"""
        self._given_up = True  # once is enough
        health = self._hop.health
        silent = self._timed_out and health.good_at < begun.at
        if silent or health.lost():
            self._hop.set_aside(Outcome("deferred", self._client.reason_code, self._client.reason))

    # -- the wire ------------------------------------------------------------------------------------------------------

    def _read(self) -> None:
        try:
            data = self._wire.recv(self._timeout_s)
        except WireError as error:
            self._broken(error)
            return
        self._client.receive(data)
        self._flush()

    def _flush(self) -> None:
        data = self._client.data_to_send()
        if not data:
            return
        try:
            self._wire.send(data, self._timeout_s)
        except WireError as error:
            if not error.timed_out:
                # A next hop that refuses and closes breaks our sending first; what it said may still be there.
                self._hear()
            self._broken(error)

    def _hear(self) -> None:
        """Take what has come without being waited for: the end of an idle connection, a last word."""
        with contextlib.suppress(WireError):
            while not self._client.closed and (data := self._wire.recv_now()) is not None:
                self._client.receive(data)

    def _broken(self, error: WireError) -> None:
        self._timed_out = error.timed_out
        self._client.lost(f"connection with {self._hop.name}: {error.reason}")

    def _quit(self) -> None:
        self._client.quit()
        self._flush()
        with contextlib.suppress(WireError):
            self._wire.recv(QUIT_S)


def transaction_of(envelope: Entry, recipients: Sequence[str]) -> Transaction:
    """What is to be said of a message to these of its recipients."""
    asked = envelope.dsn or {}
    each = asked.get("rcpt", {})
    return Transaction(
        envelope.mail_from,
        recipients,
        envelope.size_bytes,
        envelope.body_type,
        envelope.smtp_utf8,
        envelope.require_tls,
        MailDsn(asked.get("ret", ""), asked.get("envid", "")),
        {who: RcptDsn(tuple(said.get("notify", ())), said.get("orcpt", "")) for who, said in each.items()},
    )


@dataclass(slots=True)
class _Begun:
    """An attempt that is under way."""

    attempt: Attempt
    transaction: Transaction
    at: float
    sent_at: float = 0.0
    let_go: bool = False
