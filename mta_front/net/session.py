"""The pump: one greenlet that carries one session between its socket, the core and the hooks.

It owns the socket. It asks the core for one event at a time, gives it to the hooks, answers, and sends what the core
has to send when the input is used up or a client may be waiting. It holds one segment of a message at most: the hook
that reads the message drives the socket.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from time import monotonic
from typing import Any

import gevent

from mta_front.hooks import (
    CONNECT_REFUSAL,
    TRANSACTION_REFUSAL,
    Address,
    Envelope,
    Hooks,
    Refusal,
    Session,
    refusal_of,
    reply_of,
)
from mta_front.net.conduct import Conduct, SessionOver
from mta_front.net.message import IncomingMessage
from mta_front.net.options import SessionOptions
from mta_front.net.reverse import client_hostname
from mta_front.net.roster import Roster
from mta_front.net.stream import RECEIVE_BYTES, Stream
from mta_front.observe.events import Events
from mta_front.smtp import events, replies
from mta_front.smtp.connection import Connection
from mta_front.smtp.errors import RemoteError
from mta_front.smtp.extensions import hello_reply
from mta_front.smtp.replies import Reply
from mta_front.smtp.state import Phase

EVENTS_PER_TURN = 64
"""After so many events the pump lets others run, so that one client that never pauses delays nobody (DECISIONS P9)."""

COMMAND_BYTES = 4096
"""Received at once between messages."""

_HOOK_ERRORS = (Exception, gevent.Timeout, gevent.GreenletExit, SystemExit, KeyboardInterrupt)
"""What a hook, or code that it calls, may raise: a `sys.exit()` in there must not end a worker and its sessions."""


class MessageAbandoned(ConnectionError):
    """The client will not complete the message: between two chunks it said RSET, EHLO or QUIT (RFC 3030 §2)."""


class Pump:
    """One session. `run()` returns when it is over and never raises."""

    __slots__ = (
        "_conduct", "_connection", "_end_at", "_ending", "_hooks", "_named", "_options", "_roster", "_sink", "_stream",
        "_turns", "deadline", "session",
    )  # fmt: skip

    def __init__(
        self,
        stream: Stream,
        session: Session,
        options: SessionOptions,
        hooks: Hooks,
        roster: Roster,
        sink: Events,
    ) -> None:
        self._stream = stream
        self._options = options
        self._hooks = hooks
        self._roster = roster
        self._sink = sink
        self._connection = Connection(options.connection_for(session.remote_address))
        self._connection.gate = options.gate
        self._conduct = Conduct(options, self._connection)
        self._named: dict[str, int] = {}  # recipients of the transaction -> their place in the envelope
        self._turns = 0
        self._ending: SessionOver | None = None
        self._end_at = monotonic() + options.session_timeout_s if options.session_timeout_s else 0.0
        self.session = session
        self.deadline = 0.0

    # -- life --------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Carry the session from its banner to its end."""
        self._roster.join(self)
        self._sink.session_opened(self._options.listener)
        reason = "quit"
        try:
            self._greet()
            self._converse()
        except SessionOver as over:
            reason = over.reason
            self._last_word(over.reply)
        except RemoteError as error:
            reason = "error"
            self._last_word(error.reply)
        except _HOOK_ERRORS as error:  # one session's bug never ends a worker
            reason = "error"
            self._fault(error, "session")
            self._last_word(replies.BUG_CLOSING)
        finally:
            self._roster.leave(self)
            self._stream.close()
            self._finish(reason)

    def _last_word(self, reply: Reply | None) -> None:
        """Send what is owed and `reply`, as far as that goes without trouble."""
        if reply is not None:
            self._connection.interrupt(reply)
        with contextlib.suppress(SessionOver):  # the client is gone: nothing is left to say
            self._send(self._connection.data_to_send())

    def _finish(self, reason: str) -> None:
        try:
            self._hooks.on_close(self.session)
        except _HOOK_ERRORS as error:
            self._fault(error, "on_close")
        session = self.session
        self._sink.session_closed(
            session.listener,
            reason,
            {"session": session.id, "client": session.remote_address, "helo": session.host_name_appears_as,
             "transactions": session.transaction},
        )  # fmt: skip

    def _fault(self, error: BaseException, where: str) -> None:
        """Nobody expected this; no client is told more than 451 or 421."""
        self._sink.fault(error, where)
        try:
            self._hooks.on_error(error, self.session)
        except _HOOK_ERRORS as another:
            self._sink.fault(another, "on_error")

    # -- what the roster calls, from another greenlet -----------------------------------------------------------------

    def expire(self) -> None:
        """The client was silent, or did not read, for too long."""
        self._end(SessionOver("timeout", replies.TIMED_OUT))

    def wind_up(self) -> None:
        """Drain: an idle session is woken now; others look at `roster.draining` when their transaction is over."""
        if self.deadline and self._connection.phase in _IDLE:
            self._end(SessionOver("drain", replies.SHUTTING_DOWN))

    def stop(self) -> None:
        """End, whatever is going on."""
        self._end(SessionOver("drain", replies.SHUTTING_DOWN))

    def _end(self, over: SessionOver) -> None:
        # A second call means that the client does not even read the last word.
        self._stream.cut(write=self._ending is not None)
        self._ending = self._ending or over

    # -- moving bytes ------------------------------------------------------------------------------------------------

    def _send(self, data: bytes) -> None:
        if data:
            self.deadline = monotonic() + self._options.socket_timeout_s
            try:
                self._stream.send(data)
            except OSError:
                raise self._ending or SessionOver("lost") from None
            self.deadline = 0.0

    def _receive(self) -> None:
        """Send what is to be sent, wait for the client, hand what it says to the core. Raises SessionOver."""
        connection = self._connection
        out = connection.data_to_send()
        if out:
            self._send(out)
        if self._ending is None:
            if self._roster.draining and connection.phase in _IDLE:
                raise SessionOver("drain", replies.SHUTTING_DOWN)
            now = monotonic()
            in_message = connection.phase in _MESSAGE
            deadline = now + self._conduct.patience_s(now, in_message)
            if self._end_at:
                if now > self._end_at:  # a client that never lets us wait is not seen by the roster
                    raise SessionOver("timeout", replies.TIMED_OUT)
                deadline = min(deadline, self._end_at)
            self.deadline = deadline
            try:
                data = self._stream.recv(RECEIVE_BYTES if in_message else COMMAND_BYTES)
            except OSError:
                data = b""
            self.deadline = 0.0
            if data:
                if in_message:
                    self._conduct.received(len(data), monotonic() - now)
                connection.receive(data)
                return
        raise self._ending or SessionOver("lost")

    def _pause(self) -> None:
        self._turns += 1
        if self._turns >= EVENTS_PER_TURN:
            self._turns = 0
            gevent.sleep(0)

    # -- the conversation --------------------------------------------------------------------------------------------

    def _greet(self) -> None:
        options, session = self._options, self.session
        if options.greet_delay_s and self._stream.readable_within(options.greet_delay_s):
            raise SessionOver("refused", replies.TALKED_TOO_SOON)
        resolver = options.resolver if options.reverse_lookup else None
        session.client_hostname = client_hostname(resolver, session.remote_address, options.reverse_lookup_timeout_s)
        try:
            self._hooks.on_connect(self.session)
        except _HOOK_ERRORS as error:
            self._connection.reply(self._refusal(error, CONNECT_REFUSAL, "CONNECT"))
            raise SessionOver("refused") from error
        self._connection.reply(options.greeting)

    def _converse(self) -> None:
        connection = self._connection
        next_event = connection.next_event
        while not connection.closed:
            event = next_event()
            self._pause()
            if event is None:
                self._receive()
                continue
            if connection.gate is not None and type(event) is not events.Quit:
                self._conduct.without_login()
            _HANDLERS[type(event)](self, event)
            self._answered()
        self._send(connection.data_to_send())

    def _answered(self) -> None:
        """A command was answered: go on, now or later."""
        delay_s = self._conduct.answered()
        if delay_s:
            gevent.sleep(delay_s)

    def _by_the_core(self, event: events.Answered) -> None:
        """NOOP, HELP, a fault of syntax: there is nothing to do but to count it."""

    def _refusal(self, error: BaseException, default: Reply, verb: str) -> Reply:
        """The reply for what a hook raised; what is no refusal is a bug and reported as one."""
        reply = refusal_of(error, default)
        if reply is None:
            self._fault(error, verb)
            return replies.LOCAL_ERROR
        self._sink.command_refused(self._options.listener, verb, reply.code)
        return reply

    def _hello(self, event: events.Hello) -> None:
        session = self.session
        if session.user is None:
            self._conduct.in_step()
        session.envelope = Envelope()
        session.host_name_appears_as = event.name
        session.opening_command = event.command
        session.transmission_type = _TRANSMISSION[event.command]
        options = self._options
        extensions = () if event.command == "HELO" else options.extensions(secure=session.secure)
        self._connection.reply(hello_reply(options.hello_greeting(session.client_hostname), extensions))

    def _mail(self, event: events.Mail) -> None:
        session = self.session
        self._conduct.message_begins()
        try:
            self._hooks.on_mail_from(event.address, session)
        except _HOOK_ERRORS as error:
            self._connection.reply(self._refusal(error, TRANSACTION_REFUSAL, "MAIL"))
            return
        session.transaction += 1
        self._named.clear()
        parameters = event.parameters
        session.envelope = Envelope(
            mail_from=event.address,
            body_type=parameters.body_type,
            smtp_utf8=parameters.smtp_utf8,
            require_tls=parameters.require_tls,
            dsn=parameters.dsn,
        )
        self._connection.reply(replies.SENDER_OK)

    def _rcpt(self, event: events.Rcpt) -> None:
        session = self.session
        try:
            self._hooks.on_rcpt_to(event.address, session)
        except _HOOK_ERRORS as error:
            self._connection.reply(self._refusal(error, TRANSACTION_REFUSAL, "RCPT"))
            return
        self._add(event.address)
        self._connection.reply(replies.RECIPIENT_OK)

    def _add(self, recipient: Address) -> None:
        """Who is named twice gets one copy, under the later parameters; in LMTP each naming has its own reply."""
        recipients = self.session.envelope.rcpt_to
        known = self._named.setdefault(f"{recipient.local_part}@{recipient.domain.lower()}", len(recipients))
        if known == len(recipients) or self._options.lmtp:
            recipients.append(recipient)
        else:
            recipients[known] = recipient

    def _reset(self, _event: events.Reset) -> None:
        self.session.envelope = Envelope()
        self._connection.reply(replies.OK)

    def _quit(self, _event: events.Quit) -> None:
        self._connection.reply(replies.BYE)

    def _data(self, event: events.Data) -> None:
        connection = self._connection
        if self.session.user is None and not event.chunked:
            self._conduct.in_step()
        connection.reply(replies.START_MAIL_INPUT)
        self._conduct.body_begins()
        message = IncomingMessage(self._pull)
        try:
            answers = self._judge(message)
            message.drain()
        except MessageAbandoned:
            self.session.envelope = Envelope()
            return
        self._conduct.messages += 1
        if message.refusal is not None:
            answers = [message.refusal]
        if self._options.lmtp and len(answers) == 1:
            answers *= len(self.session.envelope.rcpt_to)
        self._report(answers, message.byte_length)
        connection.reply_each(answers)
        self.session.envelope = Envelope()

    def _judge(self, message: IncomingMessage) -> list[Reply]:
        """What the hook says of a message: one reply, or one for each recipient."""
        session = self.session
        try:
            answer = self._hooks.on_data(message, session)
        except (SessionOver, MessageAbandoned):
            raise
        except _HOOK_ERRORS as error:
            return [self._refusal(error, TRANSACTION_REFUSAL, "DATA")]
        if answer is None or isinstance(answer, str | Reply | Refusal):
            return [reply_of(answer)]
        answers = [reply_of(each) for each in answer]
        expected = len(session.envelope.rcpt_to) if self._options.lmtp else 1
        if len(answers) != expected:
            self._fault(ValueError(f"on_data gave {len(answers)} answers where {expected} are due"), "DATA")
            return [replies.LOCAL_ERROR]
        return answers

    def _pull(self) -> events.Segment | events.End:
        """The next piece of the message."""
        while True:
            self._pause()  # before a piece is taken: a hook's own gevent.Timeout may strike in it, and the hook read on
            event = self._connection.next_event()
            if isinstance(event, events.Abandoned):
                raise MessageAbandoned
            if isinstance(event, events.Answered):
                self._answered()
            elif event is not None:
                assert isinstance(event, events.Segment | events.End)
                return event
            else:
                self._receive()

    def _report(self, answers: list[Reply], size_bytes: int) -> None:
        session = self.session
        envelope = session.envelope
        taken = sum(answer.code < 400 for answer in answers)
        first = answers[0]
        summary: dict[str, Any] = {
            "session": session.id,
            "id": envelope.id,
            "client": session.remote_address,
            "helo": session.host_name_appears_as,
            "mail_from": envelope.mail_from.address if envelope.mail_from else "",
            "rcpt_to": [address.address for address in envelope.rcpt_to],
            "recipients": taken if len(answers) > 1 else len(envelope.rcpt_to),
            "size_bytes": size_bytes,
            "reply": f"{first.code} {first.enhanced} {first.text}",
        }
        if taken:
            self._sink.message_accepted(session.listener, summary)
        else:
            self._sink.message_refused(session.listener, first.code, summary)


_TRANSMISSION = {"HELO": "SMTP", "EHLO": "ESMTP", "LHLO": "LMTP"}  # RFC 3848

_MESSAGE = (Phase.BODY, Phase.CHUNKS)
_IDLE = (Phase.GREETING, Phase.HELLO, Phase.READY)

_HANDLERS: dict[type[events.Event], Callable[[Pump, Any], None]] = {
    events.Answered: Pump._by_the_core,
    events.Hello: Pump._hello,
    events.Mail: Pump._mail,
    events.Rcpt: Pump._rcpt,
    events.Data: Pump._data,
    events.Reset: Pump._reset,
    events.Quit: Pump._quit,
}
