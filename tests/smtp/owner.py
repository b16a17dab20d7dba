"""The smallest owner of a core connection: says yes to everything and notes what happened."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from mta_front.smtp import events, replies
from mta_front.smtp.connection import Connection, ConnectionOptions
from mta_front.smtp.errors import RemoteError
from mta_front.smtp.extensions import advertised, hello_reply


@dataclass
class Heard:
    """What one run gave."""

    sent: bytes = b""
    messages: list[bytes] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    closed: bool = False


class Owner:
    """Drives a `Connection` as the pump does."""

    def __init__(self, **options: Any) -> None:
        if "disabled_commands" in options:
            options["disabled_commands"] = frozenset(options["disabled_commands"])
        self.connection = Connection(ConnectionOptions(**options))
        self.extensions = advertised(size_bytes=options.get("size_bytes", 0))
        self.heard = Heard()
        self.lmtp = bool(options.get("lmtp"))
        self._recipients = 0
        self._body: list[bytes] = []
        self.connection.reply(replies.banner("mx.ours.example"))
        self._send()

    def receive(self, data: bytes) -> None:
        """Give the core some bytes and answer all that comes of them."""
        if self.connection.closed:
            return
        self.connection.receive(data)
        try:
            while (event := self.connection.next_event()) is not None:
                self._answer(event)
        except RemoteError as error:
            self.heard.sent += error.reply.wire
            self.heard.closed = True
            return
        self._send()

    def _send(self) -> None:
        self.heard.sent += self.connection.data_to_send()
        self.heard.closed = self.connection.closed

    def _answer(self, event: events.Event) -> None:
        if isinstance(event, events.Segment):
            self._body.append(event.data)
            return
        self.heard.names.append(type(event).__name__)
        if isinstance(event, events.Abandoned | events.Answered):
            return
        reply = _ALWAYS.get(type(event), replies.OK)
        if isinstance(event, events.Hello):
            reply = hello_reply("mx.ours.example", () if event.command == "HELO" else self.extensions)
        elif isinstance(event, events.Mail):
            self._recipients = 0
        elif isinstance(event, events.Rcpt):
            self._recipients += 1
        elif isinstance(event, events.Data):
            self._body = []
        elif isinstance(event, events.End):
            if event.refusal is None:
                self.heard.messages.append(b"".join(self._body))
            else:
                reply = event.refusal
        elif isinstance(event, events.Auth) and event.initial is None:
            reply = replies.challenge(b"")
        elif isinstance(event, events.Auth | events.Response):
            self.connection.authenticated()
        if isinstance(event, events.End) and self.lmtp:
            self.connection.reply_each([reply] * self._recipients)
            return
        self.connection.reply(reply)
        if reply is replies.READY_FOR_TLS:
            self.connection.restart()


_ALWAYS: dict[type[events.Event], replies.Reply] = {
    events.Mail: replies.SENDER_OK,
    events.Rcpt: replies.RECIPIENT_OK,
    events.Data: replies.START_MAIL_INPUT,
    events.Quit: replies.BYE,
    events.StartTls: replies.READY_FOR_TLS,
    events.Auth: replies.AUTH_SUCCEEDED,
    events.Response: replies.AUTH_SUCCEEDED,
}


def run(chunks: Iterable[bytes], **options: Any) -> Heard:
    """One session that hears these bytes in these pieces."""
    owner = Owner(**options)
    for chunk in chunks:
        owner.receive(chunk)
    return owner.heard
