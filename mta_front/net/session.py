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

from mta_front.hooks import CONNECT_DEFERRAL, CONNECT_REFUSAL, Defer, Envelope, Hooks, Session, TlsFacts
from mta_front.net.asking import HOOK_ERRORS, Asking
from mta_front.net.conduct import Conduct, SessionOver
from mta_front.net.login import Login, transmission_type
from mta_front.net.options import SessionOptions
from mta_front.net.reverse import client_hostname
from mta_front.net.roster import Roster
from mta_front.net.stream import RECEIVE_BYTES, YIELD_S, Stream
from mta_front.net.tlsstream import TlsStream
from mta_front.net.transactions import MessageAbandoned, Transactions
from mta_front.observe.events import Events
from mta_front.smtp import events, replies
from mta_front.smtp.connection import Connection
from mta_front.smtp.errors import RemoteError
from mta_front.smtp.extensions import hello_reply
from mta_front.smtp.replies import Reply
from mta_front.smtp.state import Phase
from mta_front.tls.failure import TlsFailure

EVENTS_PER_TURN = 64
"""After so many events the pump lets others run, so that one client that never pauses delays nobody (DECISIONS P9)."""

TURN_S = 0.004
"""… or after so long, for some events are slow: 64 KiB of bare newlines take milliseconds to normalize."""

LAST_WORD_S = 10.0
"""So long the reply that ends a session may take, when the client does not read."""

COMMAND_BYTES = 4096
"""Received at once between messages."""


class Pump:
    """One session. `run()` returns when it is over and never raises."""

    __slots__ = (
        "_asking", "_conduct", "_connection", "_end_at", "_ending", "_hooks", "_login", "_options", "_roster", "_sink",
        "_stream", "_transactions", "_turn_ends_at", "_turns", "deadline", "session",
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
        self._stream: Stream | TlsStream = stream
        self._options = options
        self._hooks = hooks
        self._roster = roster
        self._sink = sink
        self._connection = Connection(options.connection_for(session.remote_address))
        self._connection.gate = options.gate(session)
        self._conduct = Conduct(options, self._connection)
        self._asking = Asking(hooks, session, sink)
        self._transactions = Transactions(
            self._connection, session, options, self._asking, self._conduct, self._pull, self._flush, sink
        )
        self._login = Login(self._connection, session, options, self._asking, self._conduct, self._next_response, sink)
        self._turns = 0
        self._turn_ends_at = monotonic() + TURN_S
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
            if self._options.secure:
                self._start_tls()
            self._greet()
            self._converse()
        except SessionOver as over:
            reason = over.reason
            self._last_word(over.reply)
            if reason in _UNREAD:
                self._stream.linger()
        except RemoteError as error:
            reason = "error"
            self._last_word(error.reply)
        except HOOK_ERRORS as error:  # one session's bug never ends a worker
            reason = "error"
            self._asking.fault(error, "session")
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
        except HOOK_ERRORS as error:
            self._asking.fault(error, "on_close")
        session = self.session
        self._sink.session_closed(
            session.listener,
            reason,
            {"session": session.id, "client": session.remote_address, "helo": session.host_name_appears_as,
             "messages": self._conduct.messages},
        )  # fmt: skip

    # -- what the roster calls, from another greenlet -----------------------------------------------------------------

    def expire(self) -> None:
        """The client was silent, or did not read, for too long."""
        self.deadline = monotonic() + LAST_WORD_S  # many may end at once, and it may take a while until we are woken
        self._end(SessionOver("timeout", replies.TIMED_OUT))

    def wind_up(self) -> None:
        """Drain: an idle session is woken now; others look at `roster.draining` when their transaction is over."""
        if self.deadline and self._idle:
            self._end(SessionOver("drain", replies.SHUTTING_DOWN))

    def stop(self) -> None:
        """End, whatever is going on."""
        self._end(SessionOver("drain", replies.SHUTTING_DOWN))

    @property
    def _idle(self) -> bool:
        return self._connection.phase in _IDLE and not self._connection.discarding

    def _end(self, over: SessionOver) -> None:
        # A second call means that the client does not even read the last word.
        self._stream.cut(write=self._ending is not None)
        self._ending = self._ending or over

    # -- moving bytes ------------------------------------------------------------------------------------------------

    def _send(self, data: bytes) -> None:
        if data:
            limit_s = self._options.socket_timeout_s
            self.deadline = monotonic() + (min(limit_s, LAST_WORD_S) if self._ending else limit_s)
            try:
                self._stream.send(data)
            except OSError:
                raise self._ending or SessionOver("lost") from None
            finally:
                self.deadline = 0.0

    def _flush(self) -> None:
        self._send(self._connection.data_to_send())

    def _receive(self) -> None:
        """Send what is to be sent, wait for the client, hand what it says to the core. Raises SessionOver."""
        connection = self._connection
        out = connection.data_to_send()
        if out:
            self._send(out)
        if connection.closed:  # by the core's own 421, in the middle of a message: nothing more is read
            raise self._ending or SessionOver("limit")
        if self._ending is None:
            if self._roster.draining and self._idle:
                raise SessionOver("drain", replies.SHUTTING_DOWN)
            now = monotonic()
            in_message = connection.phase in _MESSAGE or connection.discarding
            deadline = now + self._conduct.patience_s(now, in_message)
            if self._end_at:
                deadline = min(deadline, self._end_at)
            if now > deadline:  # a client that never lets us wait is not seen by the roster
                raise SessionOver("timeout", replies.TIMED_OUT)
            self.deadline = deadline
            try:
                data = self._stream.recv(RECEIVE_BYTES if in_message else COMMAND_BYTES)
            except OSError:
                data = b""
            finally:  # a hook's own time-out may strike in the wait, and the hook go on to something else
                self.deadline = 0.0
            if data:
                if in_message:
                    self._conduct.received(len(data), monotonic() - now)
                connection.receive(data)
                return
        raise self._ending or SessionOver("lost")

    def _pause(self) -> None:
        self._turns += 1
        if self._turns >= EVENTS_PER_TURN or monotonic() > self._turn_ends_at:
            self._turns = 0
            gevent.sleep(YIELD_S)
            self._turn_ends_at = monotonic() + TURN_S

    # -- TLS ---------------------------------------------------------------------------------------------------------

    def _start_tls(self) -> None:
        """Make the handshake and go on over it. Raises SessionOver; the client hears no more than TLS's own alert."""
        options, session = self._options, self.session
        assert options.tls is not None
        stream = self._stream
        assert isinstance(stream, Stream)
        secured = self._stream = TlsStream(stream, options.tls())
        self.deadline = monotonic() + options.socket_timeout_s
        try:
            facts = secured.handshake()
        except TlsFailure as failure:
            self._sink.tls_failed(options.listener, failure.reason)
            raise SessionOver(self._ending.reason if self._ending else "tls") from None
        self.deadline = 0.0
        session.secure = True
        session.servername = facts.servername
        session.tls_options = TlsFacts(facts.cipher, facts.standard_name, facts.version)
        session.peer_certificate = facts.peer_certificate
        self._connection.restart()
        try:
            self._hooks.on_secure(session)
        except HOOK_ERRORS as error:
            raise SessionOver("refused", self._asking.refusal(error, CONNECT_REFUSAL, "STARTTLS")) from None

    @property
    def _channel_binding(self) -> bytes | None:
        """tls-exporter (RFC 9266), where there is TLS that has one."""
        return self._stream.channel.channel_binding() if isinstance(self._stream, TlsStream) else None

    # -- the conversation --------------------------------------------------------------------------------------------

    def _greet(self) -> None:
        options, session = self._options, self.session
        if options.greet_delay_s:
            self._listen_for_early_talk(options.greet_delay_s)
        resolver = options.resolver if options.reverse_lookup else None
        session.client_hostname = client_hostname(resolver, session.remote_address, options.reverse_lookup_timeout_s)
        try:
            self._hooks.on_connect(self.session)
        except HOOK_ERRORS as error:
            default = CONNECT_DEFERRAL if isinstance(error, Defer) else CONNECT_REFUSAL
            self._connection.reply(self._asking.refusal(error, default, "CONNECT"))
            raise SessionOver("refused") from error
        self._connection.reply(options.greeting)

    def _listen_for_early_talk(self, delay_s: float) -> None:
        self.deadline = monotonic() + delay_s + self._options.socket_timeout_s  # a drain may wake us
        spoke = self._stream.readable_within(delay_s)
        try:
            gone = spoke and not self._stream.recv(1)
        except OSError:
            gone = True
        self.deadline = 0.0
        if self._ending is not None or self._roster.draining:
            raise self._ending or SessionOver("drain", replies.SHUTTING_DOWN)
        if gone:
            raise SessionOver("lost")
        if spoke:
            raise SessionOver("refused", replies.TALKED_TOO_SOON)

    def _converse(self) -> None:
        connection = self._connection
        next_event = connection.next_event
        while not connection.closed:
            event = next_event()
            self._pause()
            if event is None:
                self._receive()
                continue
            if self._options.needs_login and self.session.user is None and type(event) not in _FREE:
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

    def _hello(self, event: events.Hello) -> None:
        session = self.session
        if session.user is None:
            self._conduct.in_step()
        session.envelope = Envelope()
        session.host_name_appears_as = event.name
        session.opening_command = event.command
        session.transmission_type = transmission_type(session)
        options = self._options
        extensions = () if event.command == "HELO" else options.extensions(session, self._channel_binding is not None)
        self._connection.reply(hello_reply(options.hello_greeting(session.client_hostname), extensions))

    def _auth(self, event: events.Auth) -> None:
        self._login.auth(event, self._channel_binding)

    def _next_response(self) -> str | None:
        """The client's line after a 334; None: it was too long."""
        self._conduct.line_begins()
        while True:
            self._pause()
            event = self._connection.next_event()
            if event is not None:
                assert isinstance(event, events.Response)
                return event.line
            self._receive()

    def _starttls(self, _event: events.StartTls) -> None:
        connection, session = self._connection, self.session
        self._conduct.in_step()
        connection.reply(replies.READY_FOR_TLS)
        self._flush()
        # All that was said in clear, a login too: whoever said it may have been in between (RFC 3207 §4.2).
        session.user = None
        session.envelope = Envelope()
        session.host_name_appears_as = session.opening_command = ""
        self._start_tls()
        session.transmission_type = transmission_type(session)
        connection.gate = self._options.gate(session)

    def _quit(self, _event: events.Quit) -> None:
        self._connection.reply(replies.BYE)

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


_MESSAGE = (Phase.BODY, Phase.CHUNKS)
_UNREAD = ("limit", "refused")
"""Ends at which input of the client's may be left unread."""

_FREE = (events.Quit, events.Auth, events.StartTls)
"""What a client that must log in may do as often as it likes: logins that fail are counted elsewhere."""
_IDLE = (Phase.GREETING, Phase.HELLO, Phase.READY)

_HANDLERS: dict[type[events.Event], Callable[[Pump, Any], None]] = {
    events.Answered: Pump._by_the_core,
    events.Hello: Pump._hello,
    events.Mail: lambda pump, event: pump._transactions.mail(event),
    events.Rcpt: lambda pump, event: pump._transactions.rcpt(event),
    events.Data: lambda pump, event: pump._transactions.data(event),
    events.Reset: lambda pump, event: pump._transactions.reset(event),
    events.Quit: Pump._quit,
    events.Auth: Pump._auth,
    events.StartTls: Pump._starttls,
}
