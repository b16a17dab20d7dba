"""Our policy around the user's hooks: what `serve` runs for each listener.

The order is fixed and no hook can change it (DECISIONS W1): the store must be there; authentication, sender authority
and relay control come first, then the user's hook, which may refuse or rewrite, then the rates that the fleet shares,
which are spent only for what all others accept; the spool comes last, after the user's `on_data` returned. `Front`
wraps the user's class and is no base of it, so there is nothing to override.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from time import time
from typing import Any

from mta_front.hooks import (
    Accept,
    Address,
    AuthRejected,
    Credentials,
    Envelope,
    Hooks,
    Message,
    Refusal,
    Session,
    refusing,
    reply_of,
)
from mta_front.policy.auth.authority import Unlisted, may_send_as
from mta_front.policy.auth.backend import Unavailable
from mta_front.policy.auth.chain import Chain
from mta_front.policy.limiting import Limiting
from mta_front.policy.relaycontrol import RelayControl
from mta_front.policy.trace import MAX_RECEIVED, HopCount, received
from mta_front.policy.unseen import Unseen
from mta_front.smtp import replies
from mta_front.smtp.replies import Reply
from mta_front.store.entry import Dsn, Entry, RcptDsn
from mta_front.store.errors import StoreError, StoreFull
from mta_front.store.spool import Spool, Upload

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class Front(Hooks):
    """The hooks of one listener; `hooks` are the user's. `logins`: who may log in. `unlisted_senders`, `null_sender`:
    as `may_send_as` has them.
    """

    def __init__(
        self,
        hooks: Hooks,
        spool: Spool,
        control: RelayControl,
        logins: Chain,
        limiting: Limiting,
        server_name: str,
        *,
        unseen: Unseen,
        unlisted_senders: Unlisted = "any",
        null_sender: bool = True,
    ) -> None:
        self._hooks = hooks
        self._spool = spool
        self._control = control
        self._logins = logins
        self._limiting = limiting
        self._server_name = server_name
        self._unseen = unseen
        self._unlisted_senders = unlisted_senders
        self._null_sender = null_sender

    def on_connect(self, session: Session) -> None:
        """The user's."""
        self._hooks.on_connect(session)

    def on_secure(self, session: Session) -> None:
        """The user's."""
        self._hooks.on_secure(session)

    def on_auth(self, credentials: Credentials, session: Session) -> Any:
        """Ask the backends, of which the user's hook may be one, unless somebody guesses."""
        return self._limiting.login(credentials, session, lambda: self._verified(credentials, session))

    def _verified(self, credentials: Credentials, session: Session) -> Any:
        try:
            user = self._logins.verify(credentials, session)
        except Unavailable:
            raise refusing(replies.AUTH_UNAVAILABLE) from None
        if user is None or user is False:
            raise AuthRejected(data=self._logins.rejection(credentials.method) or None)
        return user

    def on_mail_from(self, address: Address, session: Session) -> None:
        """No message is begun that could not be kept: the client learns it before it sends anything."""
        if self._spool.fault is not None:
            raise refusing(replies.STORE_UNAVAILABLE)
        if session.user is not None and not may_send_as(
            session.user, address, unlisted=self._unlisted_senders, null_sender=self._null_sender
        ):
            raise refusing(replies.SENDER_NOT_OWNED)
        if not self._spool.pressure.admits(session.id, int(address.args.get("SIZE") or 0)):
            raise refusing(replies.STORE_FULL)
        self._hooks.on_mail_from(address, session)
        self._limiting.sender(address, session)

    def on_rcpt_to(self, address: Address, session: Session) -> Accept | None:
        """Relay control, for clients that have not logged in; a recipient that it refuses is taken only when the user's
        hook says `Accept(relay=True)`.
        """
        ours = session.user is not None or self._control.allows(address, session.trust_address)
        answer = self._hooks.on_rcpt_to(address, session)
        if not ours and not (isinstance(answer, Accept) and answer.relay):
            raise refusing(replies.RELAY_DENIED)
        self._limiting.recipient(session)
        return answer

    def on_data(self, message: Message, session: Session) -> Reply | list[Reply]:
        """Receive, let the user's hook judge, hand over; 250 only for what is durable."""
        envelope = session.envelope
        sender = envelope.mail_from.address if envelope.mail_from else ""
        upload = self._spool.open(sender, [recipient.address for recipient in envelope.rcpt_to])
        envelope.id = upload.id
        try:
            return self._take(message, session, upload)
        except StoreFull:
            return replies.STORE_FULL
        except StoreError:
            return replies.STORE_UNAVAILABLE
        finally:
            upload.abort()  # nothing, once it was committed
            self._spool.pressure.ends(session.id, upload.size_bytes)

    def _take(self, message: Message, session: Session, upload: Upload) -> Reply | list[Reply]:
        upload.write(received(session, upload.id, self._server_name), ours=True)
        spooled = SpooledMessage(message, upload)
        named = len(session.envelope.rcpt_to)  # those that the client named: the hook may change the list
        answer = self._hooks.on_data(spooled, session)
        for _ in spooled:  # what the hook did not read
            pass
        if message.refusal is not None:
            return message.refusal
        if spooled.hops >= MAX_RECEIVED:
            return replies.LOOP
        _checked(session)
        recipients = [recipient.address for recipient in session.envelope.rcpt_to]
        if answer is None or isinstance(answer, str | Reply | Refusal):
            reply = None if answer is None else reply_of(answer)
            if reply is not None and reply.code >= 400:
                return reply
            if not recipients:
                raise ValueError("on_data took a message and left no recipients")  # 451, and reported
            stored = self._commit(upload, message, session, recipients)
            return reply or replies.queued(stored)
        # LMTP: the user's hook judged each recipient; the message is kept for those that it took
        each = [None if one is None else reply_of(one) for one in answer]
        if not session.transmission_type.startswith("LMTP") or not len(each) == named == len(recipients):
            raise ValueError(f"on_data gave {len(each)} answers for {named} recipients, and left {len(recipients)}")
        judged = zip(recipients, each, strict=True)
        taken = [recipient for recipient, reply in judged if reply is None or reply.code < 400]
        stored = self._commit(upload, message, session, taken) if taken else upload.id
        return [reply or replies.queued(stored) for reply in each]

    def _commit(self, upload: Upload, message: Message, session: Session, recipients: list[str]) -> str:
        """The id under which it is stored: that of its first copy, if it is one that was sent again."""
        self._unseen.goes_on(session)  # nobody sends a message again while the session that it was sent in lives on
        session.envelope.id = stored = upload.commit(_entry(session, upload, recipients))
        self._unseen.answered(session, upload)
        self._limiting.message(session, message.byte_length)
        return stored

    def on_close(self, session: Session) -> None:
        """The user's."""
        self._unseen.leaves(session)
        self._spool.pressure.ends(session.id)
        self._hooks.on_close(session)

    def on_error(self, error: BaseException, session: Session) -> None:
        """The user's."""
        self._hooks.on_error(error, session)


class SpooledMessage:
    """The message as the user's hook sees it: what it reads has gone to the store."""

    __slots__ = ("_hops", "_message", "_upload")

    def __init__(self, message: Message, upload: Upload) -> None:
        self._message = message
        self._upload = upload
        self._hops = HopCount()

    @property
    def byte_length(self) -> int:
        """Octets so far."""
        return self._message.byte_length

    @property
    def size_exceeded(self) -> bool:
        """More came than the limit."""
        return self._message.size_exceeded

    @property
    def refusal(self) -> Reply | None:
        """What the core decided."""
        return self._message.refusal

    @property
    def hops(self) -> int:
        """Received lines so far."""
        return self._hops.hops

    def __iter__(self) -> Iterator[bytes]:
        write = self._upload.write
        feed = self._hops.feed
        for segment in self._message:
            feed(segment)
            write(segment)
            yield segment

    def read(self) -> bytes:
        """All that is left, in one piece."""
        return b"".join(self)


def _checked(session: Session) -> None:
    """A hook may rewrite addresses: with a line end in one, it would write headers into other people's messages.

    Raises ValueError: 451, and reported.
    """
    envelope = session.envelope
    for address in (envelope.mail_from, *envelope.rcpt_to):
        if address is not None and _CONTROL.search(address.address):
            raise ValueError("a hook left a control character in an address")


def _entry(session: Session, upload: Upload, recipients: list[str]) -> Entry:
    envelope = session.envelope
    return Entry(
        id=upload.id,
        received_at=time(),
        listener=session.listener,
        mail_from=envelope.mail_from.address if envelope.mail_from else "",
        rcpt_to=recipients,
        body_type=envelope.body_type,
        smtp_utf8=envelope.smtp_utf8,
        require_tls=envelope.require_tls,
        dsn=_dsn(envelope),
        client_address=session.remote_address,
        client_name=session.client_hostname,
        helo=session.host_name_appears_as,
        user="" if session.user is None else str(getattr(session.user, "id", session.user)),
    )


def _dsn(envelope: Envelope) -> Dsn | None:
    """What the sender wants reported, as the queue keeps it; None when it said nothing."""
    found = Dsn()
    if envelope.dsn.ret:
        found["ret"] = envelope.dsn.ret
    if envelope.dsn.envid:
        found["envid"] = envelope.dsn.envid
    each: dict[str, RcptDsn] = {}
    for recipient in envelope.rcpt_to:
        if recipient.dsn is None:
            continue
        said = RcptDsn()
        if recipient.dsn.notify:
            said["notify"] = list(recipient.dsn.notify)
        if recipient.dsn.orcpt:
            said["orcpt"] = recipient.dsn.orcpt
        each.setdefault(recipient.address, said)  # named twice: one message, and what was said first
    if each:
        found["rcpt"] = each
    return found or None
