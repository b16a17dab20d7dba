"""The pump: one greenlet that carries one session between its socket, the core and the hooks.

It owns the socket. It asks the core for one event at a time, gives it to the hooks, answers, and sends what the core
has to send when the input is used up or a client may be waiting. It holds one segment of a message at most: the hook
that reads the message drives the socket.
"""

from __future__ import annotations

import contextlib
import itertools
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import gevent

from mta_front.hooks import (
    CONNECT_REFUSAL,
    TRANSACTION_REFUSAL,
    Envelope,
    Hooks,
    Refusal,
    Session,
    refusal_of,
    reply_of,
)
from mta_front.net.message import IncomingMessage
from mta_front.net.roster import Roster
from mta_front.net.stream import RECEIVE_BYTES, Stream
from mta_front.observe.events import Events
from mta_front.smtp import events, replies
from mta_front.smtp.connection import Connection, ConnectionOptions
from mta_front.smtp.errors import RemoteError
from mta_front.smtp.extensions import hello_reply
from mta_front.smtp.replies import Reply
from mta_front.smtp.state import Phase

EVENTS_PER_TURN = 64
"""After so many events the pump lets others run, so that one client that never pauses delays nobody (DECISIONS P9)."""

OCTETS_PER_TURN = 64
"""Input counts as so many events, whatever is in it: many commands are answered without one."""

COMMAND_BYTES = 4096
"""Received at once between messages: it may be a thousand commands, and nobody else runs until all are answered."""

_HOOK_ERRORS = (Exception, gevent.Timeout, gevent.GreenletExit, SystemExit, KeyboardInterrupt)
"""What a hook, or code that it calls, may raise: a `sys.exit()` in there must not end a worker and its sessions."""

_ids = itertools.count(1)
_process = ""


def _session_id() -> str:
    """Unique in the fleet: 40 random bits per process (drawn after the fork), and a count."""
    global _process  # noqa: PLW0603
    if not _process:
        _process = secrets.token_hex(5)
    return f"{_process}.{next(_ids):x}"


@dataclass(slots=True, kw_only=True)
class SessionOptions:
    """What a listener says of its sessions. Times in seconds, 0 = none."""

    listener: str
    server_name: str
    banner: Reply
    extensions: tuple[str, ...]
    connection: ConnectionOptions = field(default_factory=ConnectionOptions)
    socket_timeout_s: float = 60.0
    session_timeout_s: float = 0.0


class SessionOver(ConnectionError):
    """The session cannot go on: `reason` as in Events.session_closed, `reply` the last word to the client if any."""

    def __init__(self, reason: str, reply: Reply | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.reply = reply


class MessageAbandoned(ConnectionError):
    """The client will not complete the message: between two chunks it said RSET, EHLO or QUIT (RFC 3030 §2)."""


class Pump:
    """One session. `run()` returns when it is over and never raises."""

    __slots__ = (
        "_connection", "_end_at", "_ending", "_hooks", "_options", "_roster", "_sink", "_stream", "_turns", "deadline",
        "session",
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
        self._connection = Connection(options.connection)
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
            self._sink.fault(error, "session")
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
            self._sink.fault(error, "on_close")
        session = self.session
        self._sink.session_closed(
            session.listener,
            reason,
            {"session": session.id, "client": session.remote_address, "helo": session.host_name_appears_as,
             "transactions": session.transaction},
        )  # fmt: skip

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
            deadline = now + self._options.socket_timeout_s
            if self._end_at:
                if now > self._end_at:  # a client that never lets us wait is not seen by the roster
                    raise SessionOver("timeout", replies.TIMED_OUT)
                deadline = min(deadline, self._end_at)
            self.deadline = deadline
            try:
                data = self._stream.recv(RECEIVE_BYTES if connection.phase in _MESSAGE else COMMAND_BYTES)
            except OSError:
                data = b""
            self.deadline = 0.0
            if data:
                self._turns += len(data) // OCTETS_PER_TURN
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
        try:
            self._hooks.on_connect(self.session)
        except _HOOK_ERRORS as error:
            self._connection.reply(self._refusal(error, CONNECT_REFUSAL, "CONNECT"))
            raise SessionOver("refused") from error
        self._connection.reply(self._options.banner)

    def _converse(self) -> None:
        connection = self._connection
        next_event = connection.next_event
        while not connection.closed:
            event = next_event()
            if event is None:
                self._receive()
                self._pause()  # what the core answers by itself is no event: a flood of it would never let go
                continue
            self._pause()
            _HANDLERS[type(event)](self, event)
        self._send(connection.data_to_send())

    def _refusal(self, error: BaseException, default: Reply, verb: str) -> Reply:
        """The reply for what a hook raised; what is no refusal is a bug and reported as one."""
        reply = refusal_of(error, default)
        if reply is None:
            self._sink.fault(error, verb)
            return replies.LOCAL_ERROR
        self._sink.command_refused(self._options.listener, verb, reply.code)
        return reply

    def _hello(self, event: events.Hello) -> None:
        session = self.session
        session.envelope = Envelope()
        session.host_name_appears_as = event.name
        session.opening_command = event.command
        session.transmission_type = _TRANSMISSION[event.command]
        client = session.client_hostname or f"[{session.remote_address}]"
        greeting = f"{self._options.server_name} Nice to meet you, {client}"
        self._connection.reply(hello_reply(greeting, () if event.command == "HELO" else self._options.extensions))

    def _mail(self, event: events.Mail) -> None:
        session = self.session
        try:
            self._hooks.on_mail_from(event.address, session)
        except _HOOK_ERRORS as error:
            self._connection.reply(self._refusal(error, TRANSACTION_REFUSAL, "MAIL"))
            return
        session.transaction += 1
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
        session.envelope.rcpt_to.append(event.address)
        self._connection.reply(replies.RECIPIENT_OK)

    def _reset(self, _event: events.Reset) -> None:
        self.session.envelope = Envelope()
        self._connection.reply(replies.OK)

    def _quit(self, _event: events.Quit) -> None:
        self._connection.reply(replies.BYE)

    def _data(self, _event: events.Data) -> None:
        connection = self._connection
        connection.reply(replies.START_MAIL_INPUT)
        message = IncomingMessage(self._pull)
        try:
            answers = self._judge(message)
            message.drain()
        except MessageAbandoned:
            self.session.envelope = Envelope()
            return
        if message.refusal is not None:
            answers = [message.refusal]
        if self._options.connection.lmtp and len(answers) == 1:
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
        expected = len(session.envelope.rcpt_to) if self._options.connection.lmtp else 1
        if len(answers) != expected:
            self._sink.fault(ValueError(f"on_data gave {len(answers)} answers where {expected} are due"), "DATA")
            return [replies.LOCAL_ERROR]
        return answers

    def _pull(self) -> events.Segment | events.End:
        """The next piece of the message."""
        while True:
            self._pause()  # before a piece is taken: a hook's own gevent.Timeout may strike in it, and the hook read on
            event = self._connection.next_event()
            if isinstance(event, events.Abandoned):
                raise MessageAbandoned
            if event is not None:
                assert isinstance(event, events.Segment | events.End)
                return event
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
    events.Hello: Pump._hello,
    events.Mail: Pump._mail,
    events.Rcpt: Pump._rcpt,
    events.Data: Pump._data,
    events.Reset: Pump._reset,
    events.Quit: Pump._quit,
}


def open_session(sock: Any, peer: Any, options: SessionOptions) -> Session:
    """The record of a new session; `peer` as accept() gave it: (address, port, …), or "" on a Unix socket."""
    session = Session(_session_id(), options.listener)
    if isinstance(peer, tuple):
        session.remote_address, session.remote_port = peer[0], peer[1]
        session.local_address, session.local_port = sock.getsockname()[:2]
    return session
