"""AUTH (RFC 4954): the exchange between the client, a SASL mechanism and the hook, up to 235 or a refusal."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from mta_front.hooks import AuthRejected, Session
from mta_front.net.asking import HOOK_ERRORS, Asking
from mta_front.net.conduct import Conduct, SessionOver
from mta_front.net.options import SessionOptions
from mta_front.observe.events import Events
from mta_front.smtp import events, replies
from mta_front.smtp.connection import Connection
from mta_front.smtp.credentials import Credentials
from mta_front.smtp.replies import Reply
from mta_front.smtp.sasl import Challenge, Exchange, Outcome, Ready, Refused, decoded_answer

if TYPE_CHECKING:
    from mta_front.tls.facts import PeerCertificate

NONCE_BYTES = 24


class ExchangeOver(ConnectionError):
    """In the middle of what `Credentials.scram` plays, the client gave up: let it through."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.text)
        self.reply = reply


class Login:
    """Answers AUTH. `next_response` waits for the line after a 334 (None: too long); it raises SessionOver.
    `hold_back` lets so many seconds pass, for `Credentials.hold_back`.
    """

    __slots__ = (
        "_asking", "_conduct", "_connection", "_hold_back", "_next_response", "_options", "_over", "_session", "_sink",
    )  # fmt: skip

    def __init__(
        self,
        connection: Connection,
        session: Session,
        options: SessionOptions,
        asking: Asking,
        conduct: Conduct,
        next_response: Callable[[], str | None],
        hold_back: Callable[[float], None],
        sink: Events,
    ) -> None:
        self._connection = connection
        self._session = session
        self._options = options
        self._asking = asking
        self._conduct = conduct
        self._next_response = next_response
        self._hold_back = hold_back
        self._sink = sink
        self._over: Reply | None = None

    def auth(self, event: events.Auth, channel_binding: bytes | None) -> None:
        """One AUTH command, to its end. `channel_binding`: tls-exporter's (RFC 9266); None: there is none."""
        self._conduct.in_step()  # RFC 4954 §4: the last command of a group
        refusal = self._refusal(event.mechanism, channel_binding)
        if refusal is None:
            refusal = self._exchange(event, channel_binding)
        self._connection.reply(refusal or replies.AUTH_SUCCEEDED)
        known = event.mechanism if event.mechanism in self._options.auth_methods else "other"
        self._sink.login(self._session.listener, known, refusal.code if refusal else replies.AUTH_SUCCEEDED.code)

    def vouched(self, credentials: Credentials) -> Reply | None:
        """Somebody who may say XCLIENT says who the client is: the hook decides. None: it is."""
        refusal, _ = self._judge(credentials)
        code = (refusal or replies.AUTH_SUCCEEDED).code
        self._sink.login(self._session.listener, credentials.method, code)
        return refusal

    def _refusal(self, mechanism: str, channel_binding: bytes | None) -> Reply | None:
        options, session = self._options, self._session
        if not session.secure:
            if options.needs_upgrade:
                return replies.STARTTLS_FIRST
            if not options.allow_insecure_auth:
                return replies.AUTH_NEEDS_TLS
        if mechanism not in options.auth_offer(session, channel_binding is not None):
            return replies.AUTH_UNKNOWN_MECHANISM
        return None

    def _exchange(self, event: events.Auth, channel_binding: bytes | None) -> Reply | None:
        """Play it. None: the client is who it says."""
        session = self._session
        certificate = session.peer_certificate
        exchange = Exchange(
            event.mechanism,
            nonce=secrets.token_urlsafe(NONCE_BYTES),
            host=self._options.name,
            channel_binding=channel_binding,
            plus_offered="SCRAM-SHA-256-PLUS" in self._options.auth_offer(session, channel_binding is not None),
            certificate_identity=identity_of(certificate) if certificate is not None else None,
        )
        self._begin()
        try:
            outcome = self._until_ready(exchange, exchange.begin(event.initial))
            if isinstance(outcome, Refused):
                return outcome.reply
            refusal, data = self._judge(outcome.credentials)
            if refusal is None or self._over is not None:
                return self._over or refusal
            outcome = self._until_ready(exchange, exchange.reject(refusal, data))
            return outcome.reply if isinstance(outcome, Refused) else refusal
        except ExchangeOver as over:
            return over.reply

    def _begin(self) -> None:
        self._over = None

    def _until_ready(self, exchange: Exchange, outcome: Outcome) -> Ready | Refused:
        while isinstance(outcome, Challenge):
            outcome = exchange.respond(self._answer_to(outcome.data))
        return outcome

    def _answer_to(self, challenge: bytes) -> str:
        self._connection.reply(replies.challenge(challenge))
        line = self._next_response()
        if line is None:
            self._over = replies.AUTH_LINE_TOO_LONG
            raise ExchangeOver(self._over)
        return line

    def _ask(self, challenge: bytes) -> bytes:
        """For `Credentials.scram`, from inside the hook."""
        answer = decoded_answer(self._answer_to(challenge))
        if isinstance(answer, Refused):
            self._over = answer.reply  # kept, since a hook may swallow the exception
            raise ExchangeOver(answer.reply)
        return answer

    def _judge(self, credentials: Credentials) -> tuple[Reply | None, Mapping[str, object] | None]:
        """What the hook says: None, or the refusal and what to tell the client beside it."""
        session = self._session
        credentials.ask = self._ask
        credentials.hold_back = self._hold_back
        try:
            user: Any = self._asking.hooks.on_auth(credentials, session)
        except (SessionOver, ExchangeOver):
            raise
        except AuthRejected as error:
            return self._asking.refusal(error, replies.AUTH_FAILED, "AUTH"), error.data
        except HOOK_ERRORS as error:
            reply = self._asking.refusal(error, replies.AUTH_FAILED, "AUTH")
            return (replies.AUTH_UNAVAILABLE if reply is replies.LOCAL_ERROR else reply), None
        finally:
            credentials.ask = None
        if user is None or user is False or self._over is not None:
            return replies.AUTH_FAILED, None
        if credentials.method.startswith("SCRAM-") and not credentials.proven:
            # A hook that says yes without `scram()` has checked nothing: with SCRAM there is no password to look at.
            self._asking.fault(RuntimeError("on_auth took a SCRAM login without proof"), "AUTH")
            return replies.AUTH_UNAVAILABLE, None
        session.user = user
        session.transmission_type = transmission_type(session)
        self._connection.authenticated()
        return None, None


def identity_of(certificate: PeerCertificate) -> str | None:
    """Whom a verified certificate names: its first e-mail address, else its first DNS name, else its common name."""
    if not certificate.verified:
        return None
    for wanted in ("email", "dns"):
        for kind, value in certificate.sans:
            if kind == wanted:
                return value
    return certificate.common_name or None


def transmission_type(session: Session) -> str:
    """The protocol as Received: names it: ESMTP, ESMTPS, ESMTPSA, LMTPA … (RFC 3848)."""
    base = _BASE.get(session.opening_command, "SMTP")
    if base == "SMTP":  # who says HELO has none of the others
        return base
    return f"{base}{'S' if session.secure else ''}{'A' if session.user is not None else ''}"


_BASE = {"EHLO": "ESMTP", "LHLO": "LMTP"}
