"""The wire of one session: its socket and its core, and the waits between them.

It alone touches the socket: it sends what the core has to send, hands what the client says to the core, and knows how
long each wait may be. The roster ends the wait of a session through it.
"""

from __future__ import annotations

import contextlib
from time import monotonic

import gevent
from gevent.event import Event

from mta_front.hooks import Session
from mta_front.net.conduct import Conduct, SessionOver
from mta_front.net.options import SessionOptions
from mta_front.net.roster import Roster
from mta_front.net.stream import RECEIVE_BYTES, YIELD_S, Stream
from mta_front.net.tlsstream import TlsStream
from mta_front.observe.events import Events
from mta_front.proxyproto import looks_like_header
from mta_front.smtp import replies
from mta_front.smtp.connection import Connection
from mta_front.smtp.replies import Reply
from mta_front.smtp.state import Phase
from mta_front.tls.facts import Facts

EVENTS_PER_TURN = 64
"""After so many events the pump lets others run, so that one client that never pauses delays nobody (DECISIONS P9)."""

TURN_S = 0.004
"""… or after so long, for some events are slow: 64 KiB of bare newlines take milliseconds to normalize."""

LAST_WORD_S = 10.0
"""So long the reply that ends a session may take, when the client does not read."""

COMMAND_BYTES = 4096
"""Received at once between messages."""

_MESSAGE = (Phase.BODY, Phase.CHUNKS)
_IDLE = (Phase.GREETING, Phase.HELLO, Phase.READY)


class Wire:
    """`stream` is owned from now on. All that waits raises SessionOver when the session cannot go on."""

    __slots__ = (
        "_end_at", "_held_back", "_judged", "_opening", "_options", "_roster", "_sink", "_stream", "_turn_ends_at",
        "_turns", "conduct", "connection", "deadline", "ending",
    )  # fmt: skip

    def __init__(self, stream: Stream, session: Session, options: SessionOptions, roster: Roster, sink: Events) -> None:
        self._stream: Stream | TlsStream = stream
        self._options = options
        self._roster = roster
        self._sink = sink
        self._opening = b""  # the first octets, until it is known whether they are a PROXY header
        self._judged = False
        self._turns = 0
        self._turn_ends_at = monotonic() + TURN_S
        self._held_back: Event | None = None  # an answer that is late on purpose; set, it is late no more
        self._end_at = monotonic() + options.session_timeout_s if options.session_timeout_s else 0.0
        self.connection = Connection(options.connection_for(session.trust_address), secure=session.secure)
        self.conduct = Conduct(options, self.connection)
        self.ending: SessionOver | None = None
        self.deadline = 0.0

    # -- what the roster calls, from another greenlet -----------------------------------------------------------------

    def expire(self) -> None:
        """The client was silent, or did not read, for too long."""
        self.deadline = monotonic() + LAST_WORD_S  # many may end at once, and it may take a while until we are woken
        self._end(SessionOver("timeout", replies.TIMED_OUT))

    def wind_up(self) -> None:
        """Drain: an idle session is woken now; others look at `roster.draining` when their transaction is over."""
        if self._held_back is not None:
            self._held_back.set()
        elif self.deadline and self._idle:
            self._end(SessionOver("drain", replies.SHUTTING_DOWN))

    def stop(self) -> None:
        """End, whatever is going on."""
        self._end(SessionOver("drain", replies.SHUTTING_DOWN))

    @property
    def _idle(self) -> bool:
        return self.connection.phase in _IDLE and not self.connection.discarding

    def _end(self, over: SessionOver) -> None:
        # A second call means that the client does not even read the last word.
        self._stream.cut(write=self.ending is not None)
        self.ending = self.ending or over
        if self._held_back is not None:
            self._held_back.set()

    # -- moving bytes ------------------------------------------------------------------------------------------------

    def send(self, data: bytes) -> None:
        if data:
            limit_s = self._options.socket_timeout_s
            self.deadline = monotonic() + (min(limit_s, LAST_WORD_S) if self.ending else limit_s)
            if self.connection.closed:
                self._stream.end()
            try:
                self._stream.send(data)
            except OSError:
                raise self.ending or SessionOver("lost") from None
            finally:
                self.deadline = 0.0

    def flush(self) -> None:
        self.send(self.connection.data_to_send())

    def receive(self) -> None:
        """Send what is to be sent, wait for the client, hand what it says to the core. Raises SessionOver."""
        connection = self.connection
        out = connection.data_to_send()
        if out:
            self.send(out)
        if connection.closed:  # by the core's own 421, in the middle of a message: nothing more is read
            raise self.ending or SessionOver("limit")
        if self.ending is None:
            if self._roster.draining and self._idle:
                raise SessionOver("drain", replies.SHUTTING_DOWN)
            now = monotonic()
            in_message = connection.phase in _MESSAGE or connection.discarding
            deadline = now + self.conduct.patience_s(now, in_message)
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
                    self.conduct.received(len(data), monotonic() - now)
                elif not self._judged:
                    self._judge_opening(data)
                connection.receive(data)
                return
        raise self.ending or SessionOver("lost")

    def _judge_opening(self, data: bytes) -> None:
        """A PROXY header from who may send none, or a second one, ends the session, and is not looked into."""
        self._opening += data
        is_header = looks_like_header(self._opening)
        if is_header:
            self._sink.proxy_refused(self._options.listener, "untrusted")
            raise SessionOver("refused", replies.NOT_IN_STEP)
        if is_header is False:
            self._judged = True
            self._opening = b""

    def pause(self) -> None:
        self._turns += 1
        if self._turns >= EVENTS_PER_TURN or monotonic() > self._turn_ends_at:
            self._turns = 0
            gevent.sleep(YIELD_S)
            self._turn_ends_at = monotonic() + TURN_S

    def hold_back(self, delay_s: float) -> None:
        """Be so late with what is said next: asking again and again is to cost time. A drain waits for none of it."""
        if self._roster.draining or self.ending is not None:
            return
        self._held_back = Event()
        try:
            self._held_back.wait(delay_s)
        finally:
            self._held_back = None

    def listen_for_early_talk(self, delay_s: float) -> None:
        self.deadline = monotonic() + delay_s + self._options.socket_timeout_s  # a drain may wake us
        spoke = self._stream.readable_within(delay_s)
        try:
            gone = spoke and not self._stream.recv(1)
        except OSError:
            gone = True
        self.deadline = 0.0
        if self.ending is not None or self._roster.draining:
            raise self.ending or SessionOver("drain", replies.SHUTTING_DOWN)
        if gone:
            raise SessionOver("lost")
        if spoke:
            raise SessionOver("refused", replies.TALKED_TOO_SOON)

    # -- TLS ---------------------------------------------------------------------------------------------------------

    def start_tls(self) -> Facts:
        """Make the handshake and go on over it. Raises TlsFailure."""
        stream, make = self._stream, self._options.tls
        assert make is not None
        assert isinstance(stream, Stream)
        secured = self._stream = TlsStream(stream, make())
        self.deadline = monotonic() + self._options.socket_timeout_s
        facts = secured.handshake()
        self.deadline = 0.0
        self._judged = False  # a PROXY header inside TLS is none either
        self.connection.restart()
        return facts

    def channel_binding(self) -> bytes | None:
        """tls-exporter (RFC 9266), where there is TLS that has one."""
        return self._stream.channel.channel_binding() if isinstance(self._stream, TlsStream) else None

    # -- the end -----------------------------------------------------------------------------------------------------

    def last_word(self, reply: Reply | None) -> None:
        """Send what is owed and `reply`, as far as that goes without trouble."""
        if reply is not None:
            self.connection.interrupt(reply)
        with contextlib.suppress(SessionOver):  # the client is gone: nothing is left to say
            self.send(self.connection.data_to_send())

    def close(self, *, linger: bool) -> None:
        """Close the socket; `linger`: input may be left unread. Never raises."""
        if linger:
            self._stream.linger()
        self._stream.close()
