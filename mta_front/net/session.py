"""The pump: one greenlet that carries one session between its socket, the core and the hooks.

It asks the core for one event at a time, gives it to the hooks, and answers; `wire` moves the octets. It holds one
segment of a message at most: the hook that reads the message drives the socket.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import Any

from mta_front.hooks import CONNECT_DEFERRAL, CONNECT_REFUSAL, Defer, Hooks, Session, TlsFacts
from mta_front.net.asking import HOOK_ERRORS, Asking
from mta_front.net.conduct import SessionOver
from mta_front.net.guard import Guard
from mta_front.net.login import Login, transmission_type
from mta_front.net.options import SessionOptions
from mta_front.net.privileges import Privileges, adopt, put_back
from mta_front.net.reverse import client_hostname
from mta_front.net.roster import Roster
from mta_front.net.stream import Stream
from mta_front.net.transactions import MessageAbandoned, Transactions, forget_transaction
from mta_front.net.wire import Wire
from mta_front.observe.events import Events
from mta_front.smtp import events, replies
from mta_front.smtp.errors import RemoteError
from mta_front.smtp.extensions import hello_reply
from mta_front.smtp.replies import Reply
from mta_front.smtp.state import Phase, Verb
from mta_front.tls.failure import TlsFailure


class Pump:
    """One session. `run()` returns when it is over and never raises."""

    __slots__ = (
        "_asking", "_conduct", "_connection", "_guard", "_hooks", "_login", "_options", "_privileges", "_roster",
        "_seen", "_silent", "_sink", "_transactions", "_turned_away", "_wire", "session",
    )  # fmt: skip

    def __init__(
        self,
        stream: Stream,
        session: Session,
        options: SessionOptions,
        hooks: Hooks,
        guard: Guard,
        roster: Roster,
        sink: Events,
    ) -> None:
        wire = self._wire = Wire(stream, session, options, roster, sink)
        self._connection, self._conduct = wire.connection, wire.conduct
        self._conduct.failed = self._failed
        self._connection.gate = options.gate(session)
        self._options = options
        self._hooks = hooks
        self._guard = guard
        self._roster = roster
        self._sink = sink
        self._privileges = Privileges(options, session)
        # A proxy that speaks for itself is a health check, and heard by nobody until it wants more (DECISIONS W10).
        self._silent = session.proxy is not None and session.proxy.local
        self._seen = 0  # messages whose reply the client has seen, since it sent more afterwards
        self._turned_away = False  # the hooks have never heard of it
        asking = self._asking = Asking(hooks, session, sink)
        self._transactions = Transactions(
            wire.connection, session, options, asking, wire.conduct, self._pull, wire.flush, sink
        )
        self._login = Login(
            wire.connection, session, options, asking, wire.conduct, self._next_response, wire.hold_back, sink
        )
        self.session = session

    # -- life --------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Carry the session from its banner to its end."""
        self._roster.join(self._wire)
        if not self._silent:
            self._sink.session_opened(self._options.listener)
        reason = "quit"
        try:
            if not self._silent:
                self._arrive()
            if self._options.secure and not self.session.secure:
                self._start_tls()
            self._greet()
            self._converse()
        except SessionOver as over:
            reason = over.reason
            self._wire.last_word(over.reply)
        except RemoteError as error:
            reason = "error"
            self._wire.last_word(error.reply)
        except HOOK_ERRORS as error:  # one session's bug never ends a worker
            reason = "error"
            self._asking.fault(error, "session")
            self._wire.last_word(replies.BUG_CLOSING)
        finally:
            self._roster.leave(self._wire)
            self._leave()
            self._wire.close(linger=reason in _UNREAD)
            self._finish(reason)

    def _finish(self, reason: str) -> None:
        if self._silent:
            return
        if not self._turned_away:
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

    # -- the guard ---------------------------------------------------------------------------------------------------

    def _arrive(self) -> None:
        """May it come in? Before a handshake and a lookup of its name, which cost more than the question."""
        handshake = self._options.secure and not self.session.secure
        refusal = self._guard.arrives(self.session, handshake)
        if refusal is not None:
            self._turned_away = True
            self._sink.command_refused(self._options.listener, "CONNECT", refusal.code)
            raise SessionOver("limit", None if handshake else refusal)  # nothing in clear to who expects TLS

    def _leave(self) -> None:
        """Before the socket is closed: the client may come again at once, and is one then, not two."""
        try:
            self._guard.leaves(self.session)
        except HOOK_ERRORS as error:
            self._asking.fault(error, "limits")

    def _failed(self) -> None:
        if self._silent:
            return
        refusal = self._guard.fails(self.session)
        if refusal is not None:
            raise SessionOver("limit", refusal)

    # -- TLS ---------------------------------------------------------------------------------------------------------

    def _start_tls(self) -> None:
        """Make the handshake; when it fails the client hears no more than TLS's own alert. Raises SessionOver."""
        options, session = self._options, self.session
        try:
            facts = self._wire.start_tls()
        except TlsFailure as failure:
            if not self._silent:
                self._sink.tls_failed(options.listener, failure.reason)
            ending = self._wire.ending
            raise SessionOver(ending.reason if ending else "tls") from None
        session.secure = True
        session.servername = facts.servername
        session.tls_options = TlsFacts(facts.cipher, facts.standard_name, facts.version)
        session.peer_certificate = facts.peer_certificate
        if not self._silent:
            self._tell_secure()

    def _tell_secure(self) -> None:
        try:
            self._hooks.on_secure(self.session)
        except HOOK_ERRORS as error:
            raise SessionOver("refused", self._asking.refusal(error, CONNECT_REFUSAL, "STARTTLS")) from None

    # -- the conversation --------------------------------------------------------------------------------------------

    def _greet(self) -> None:
        options, session = self._options, self.session
        if self._silent:
            session.client_hostname = client_hostname(None, session.remote_address, 0.0)
            self._connection.reply(options.greeting)
            return
        if options.greet_delay_s:
            self._wire.listen_for_early_talk(options.greet_delay_s)
        refusal = self._introduce()
        self._connection.reply(refusal or options.greeting)
        if refusal is not None:
            raise SessionOver("refused")

    def _introduce(self) -> Reply | None:
        """Find the client's name, and ask whether it may come in."""
        options, session = self._options, self.session
        resolver = options.resolver if options.reverse_lookup else None
        session.client_hostname = client_hostname(resolver, session.remote_address, options.reverse_lookup_timeout_s)
        return self._admit()

    def _admit(self) -> Reply | None:
        """Ask whether the client may come in."""
        try:
            self._hooks.on_connect(self.session)
        except HOOK_ERRORS as error:
            default = CONNECT_DEFERRAL if isinstance(error, Defer) else CONNECT_REFUSAL
            return self._asking.refusal(error, default, "CONNECT")
        return None

    def _converse(self) -> None:
        connection = self._connection
        next_event = connection.next_event
        while not connection.closed:
            event = next_event()
            self._wire.pause()
            if event is None:
                messages = self._conduct.messages
                self._wire.receive()
                if messages != self._seen:
                    self._seen = messages
                    self._guard.goes_on(self.session)
                continue
            if self._silent and _wants_more(event):
                self._speak_up(event)
            if self._options.needs_login and self.session.user is None and type(event) not in _FREE:
                self._conduct.without_login()
            _HANDLERS[type(event)](self, event)
            self._answered()
        self._wire.flush()

    def _speak_up(self, event: events.Event) -> None:
        """What seemed a health check wants to send mail: from here on it is a client like any other, at the proxy's
        address, and in no network of the settings.
        """
        session = self.session
        assert session.proxy is not None
        self._silent = False
        session.remote_address, session.remote_port = session.proxy.address, session.proxy.port
        self._sink.session_opened(self._options.listener)
        try:
            self._arrive()
            refusal = self._introduce()
            if refusal is not None:
                raise SessionOver("refused", refusal)
            if session.secure:
                self._tell_secure()
        except SessionOver:
            if isinstance(event, events.Answered):
                self._connection.take_back()  # one command, one reply
            raise

    def _answered(self) -> None:
        """A command was answered: go on, now or later."""
        delay_s = self._conduct.answered()
        if delay_s:
            self._wire.hold_back(delay_s)

    def _by_the_core(self, _event: events.Answered) -> None:
        """NOOP, HELP, a fault of syntax: there is nothing to do but to count it. A bad BDAT ends a transaction."""
        session = self.session
        if session.envelope.mail_from is not None and self._connection.phase is Phase.READY:
            forget_transaction(session)

    def _hello(self, event: events.Hello) -> None:
        session = self.session
        if session.user is None:
            self._conduct.in_step()
        forget_transaction(session)
        session.host_name_appears_as = event.name
        session.opening_command = event.command
        session.transmission_type = transmission_type(session)
        options = self._options
        extensions: tuple[str, ...] = ()
        if event.command != "HELO":
            has_binding = options.binds_channels and self._wire.channel_binding() is not None
            extensions = options.extensions(session, has_binding, self._privileges.advertised)
        self._connection.reply(hello_reply(options.hello_greeting(session.client_hostname), extensions))

    def _xclient(self, event: events.XClient) -> None:
        connection, session, options = self._connection, self.session, self._options
        if not self._privileges.xclient:
            connection.reply(replies.NOT_ALLOWED)
            return
        self._conduct.in_step()
        before = copy(session)
        credentials = adopt(session, options, event.attributes)
        self._become_another()
        if credentials is not None:
            refusal = self._login.vouched(credentials)
            if refusal is not None:
                put_back(session, before)
                self._become_another()
                connection.reply(refusal)
                return
        session.transmission_type = transmission_type(session)
        logged_in = session.user is not None
        connection.begin_anew(options.connection_for(session.trust_address), options.gate(session), logged_in)
        refusal = self._admit()  # as another client (XCLIENT_README: "the outcome of optional access decisions")
        connection.reply(refusal or options.greeting)
        if refusal is not None:
            raise SessionOver("refused")

    def _become_another(self) -> None:
        """The limits of whoever the client is now. A refusal ends the session: its proxy has no other client in it."""
        refusal = self._guard.arrives(self.session, handshake=False)
        if refusal is not None:
            self._sink.command_refused(self._options.listener, "XCLIENT", refusal.code)
            raise SessionOver("limit", refusal)

    def _xforward(self, event: events.XForward) -> None:
        if self._privileges.xforward:
            self.session.x_forward = self.session.x_forward | event.attributes  # a hook may have kept what there was
            self._connection.reply(replies.OK)
        else:
            self._connection.reply(replies.NOT_ALLOWED)

    def _auth(self, event: events.Auth) -> None:
        self._login.auth(event, self._wire.channel_binding())

    def _next_response(self) -> str | None:
        """The client's line after a 334; None: it was too long."""
        self._conduct.line_begins()
        while True:
            self._wire.pause()
            event = self._connection.next_event()
            if event is not None:
                assert isinstance(event, events.Response)
                return event.line
            self._wire.receive()

    def _starttls(self, _event: events.StartTls) -> None:
        connection, session = self._connection, self.session
        self._conduct.in_step()
        refusal = None if self._silent else self._guard.shakes_hands(session)
        if refusal is not None:
            self._sink.command_refused(session.listener, "STARTTLS", refusal.code)
            connection.reply(refusal)
            return
        connection.reply(replies.READY_FOR_TLS)
        self._wire.flush()
        # All that was said in clear, a login too: whoever said it may have been in between (RFC 3207 §4.2).
        session.user = None
        forget_transaction(session)
        session.host_name_appears_as = session.opening_command = ""
        self._start_tls()
        session.transmission_type = transmission_type(session)
        connection.gate = self._options.gate(session)

    def _quit(self, _event: events.Quit) -> None:
        self._connection.reply(replies.BYE)

    def _pull(self) -> events.Segment | events.End:
        """The next piece of the message."""
        while True:
            # Before a piece is taken: a hook's own gevent.Timeout may strike in the pause, and the hook read on.
            self._wire.pause()
            event = self._connection.next_event()
            if isinstance(event, events.Abandoned):
                raise MessageAbandoned
            if isinstance(event, events.Answered):
                self._answered()
            elif event is not None:
                assert isinstance(event, events.Segment | events.End)
                return event
            else:
                self._wire.receive()


_UNREAD = ("limit", "refused")
"""Ends at which input of the client's may be left unread."""

_FREE = (events.Quit, events.Auth, events.StartTls, events.XClient, events.XForward)
"""What a client that must log in may do as often as it likes: logins that fail are counted elsewhere."""


def _wants_more(event: events.Event) -> bool:
    """Whether a health check would not do this."""
    if isinstance(event, events.Answered):
        return event.verb in (Verb.MAIL, Verb.AUTH, Verb.XCLIENT)
    return isinstance(event, events.Auth | events.Mail | events.XClient)


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
    events.XClient: Pump._xclient,
    events.XForward: Pump._xforward,
}
