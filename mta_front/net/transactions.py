"""Transactions of one session: from MAIL to the reply to the message, with the hooks asked at each step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mta_front.hooks import TRANSACTION_REFUSAL, Address, Envelope, Refusal, Session, reply_of
from mta_front.net.asking import HOOK_ERRORS, Asking
from mta_front.net.conduct import Conduct, SessionOver
from mta_front.net.message import IncomingMessage
from mta_front.net.options import SessionOptions
from mta_front.observe.events import Events
from mta_front.smtp import events, replies
from mta_front.smtp.connection import Connection
from mta_front.smtp.params import MailDsn
from mta_front.smtp.replies import Reply


def forget_transaction(session: Session) -> None:
    """A transaction is over, or never came to be: nothing that was said of its message holds for the next one, nor what
    XFORWARD said (Postfix's XFORWARD_README).
    """
    session.envelope = Envelope()
    session.x_forward = {}


class MessageAbandoned(ConnectionError):
    """The client will not complete the message: between two chunks it said RSET, EHLO or QUIT (RFC 3030 §2)."""


class Transactions:
    """Answers the events of a mail transaction. `pull` waits for the next piece of a message, and raises
    MessageAbandoned, or SessionOver when the client is gone. `flush` sends what is to be sent.
    """

    __slots__ = (
        "_asking",
        "_conduct",
        "_connection",
        "_flush",
        "_hooks",
        "_named",
        "_options",
        "_pull",
        "_session",
        "_sink",
    )

    def __init__(
        self,
        connection: Connection,
        session: Session,
        options: SessionOptions,
        asking: Asking,
        conduct: Conduct,
        pull: Callable[[], events.Segment | events.End],
        flush: Callable[[], None],
        sink: Events,
    ) -> None:
        self._connection = connection
        self._session = session
        self._options = options
        self._asking = asking
        self._hooks = asking.hooks
        self._conduct = conduct
        self._pull = pull
        self._flush = flush
        self._sink = sink
        self._named: dict[str, int] = {}  # recipients of the transaction -> their place in the envelope

    def mail(self, event: events.Mail) -> None:
        """MAIL FROM."""
        session = self._session
        self._conduct.message_begins()
        try:
            self._hooks.on_mail_from(event.address, session)
        except HOOK_ERRORS as error:
            self._connection.reply(self._asking.refusal(error, TRANSACTION_REFUSAL, "MAIL"))
            return
        self._named.clear()
        parameters = event.parameters
        session.envelope = Envelope(
            mail_from=event.address,
            body_type=parameters.body_type,
            smtp_utf8=parameters.smtp_utf8,
            require_tls=parameters.require_tls,
            dsn=MailDsn(parameters.dsn.ret, parameters.dsn.envid),  # a hook may change it, and ours is everybody's
        )
        self._connection.reply(replies.SENDER_OK)

    def rcpt(self, event: events.Rcpt) -> None:
        """RCPT TO."""
        session = self._session
        try:
            self._hooks.on_rcpt_to(event.address, session)
        except HOOK_ERRORS as error:
            self._connection.reply(self._asking.refusal(error, TRANSACTION_REFUSAL, "RCPT"))
            return
        self._add(event.address)
        self._connection.reply(replies.RECIPIENT_OK)

    def _add(self, recipient: Address) -> None:
        """Who is named twice gets one copy, under the later parameters; in LMTP each naming has its own reply."""
        recipients = self._session.envelope.rcpt_to
        known = self._named.setdefault(f"{recipient.local_part}@{recipient.domain.lower()}", len(recipients))
        if known == len(recipients) or self._options.lmtp:
            recipients.append(recipient)
        else:
            recipients[known] = recipient

    def reset(self, _event: events.Reset) -> None:
        """RSET."""
        forget_transaction(self._session)
        self._connection.reply(replies.OK)

    def data(self, event: events.Data) -> None:
        """DATA or the first BDAT: the whole message, up to the answer to its end."""
        connection = self._connection
        if self._session.user is None and not event.chunked:
            self._conduct.in_step()
        connection.reply(replies.START_MAIL_INPUT)
        self._flush()  # now, whatever the hook does before it reads
        message = IncomingMessage(self._pull)
        accepted = len(self._session.envelope.rcpt_to) if self._options.lmtp else 1  # a hook may change the envelope
        try:
            answers = self._judge(message, accepted)
            message.drain()
        except MessageAbandoned:
            forget_transaction(self._session)
            return
        self._conduct.messages += 1
        self._session.transaction += 1
        if message.refusal is not None:
            answers = [message.refusal]
        if len(answers) == 1:
            answers *= accepted
        self._report(answers, message.byte_length)
        connection.reply_each(answers)
        forget_transaction(self._session)

    def _judge(self, message: IncomingMessage, expected: int) -> list[Reply]:
        """What the hook says of a message: one reply, or one for each of the recipients that were accepted."""
        session = self._session
        try:
            answer = self._hooks.on_data(message, session)
        except (SessionOver, MessageAbandoned):
            raise
        except HOOK_ERRORS as error:
            return [self._asking.refusal(error, TRANSACTION_REFUSAL, "DATA")]
        try:
            if answer is None or isinstance(answer, str | Reply | Refusal):
                return [reply_of(answer)]
            answers = [reply_of(each) for each in answer]
        except TypeError as error:
            self._asking.fault(error, "DATA")
            return [replies.LOCAL_ERROR]
        if len(answers) != expected:
            self._asking.fault(ValueError(f"on_data gave {len(answers)} answers where {expected} are due"), "DATA")
            return [replies.LOCAL_ERROR]
        return answers

    def _report(self, answers: list[Reply], size_bytes: int) -> None:
        session = self._session
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
