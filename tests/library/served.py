"""A library server for a test, and what it hears."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mta_front import SMTPServer
from mta_front.hooks import Address, Hooks, Message, Session

NAME = "mx.ours.example"
BODY = b"Subject: x\r\n\r\nhello\r\n"


@contextmanager
def served(**given: Any) -> Iterator[SMTPServer]:
    """A server that takes mail without a login, unless the test says otherwise; `close()`d at the end, at once."""
    options: dict[str, Any] = {"auth_optional": True, "name": NAME} | given
    with SMTPServer(**options) as server:
        server.listen()
        try:
            yield server
        finally:
            server.close(0)


def os_threads() -> int:
    """Threads of this process, those that Python does not know too."""
    return sum(1 for _ in Path("/proc/self/task").iterdir())


class Noting(Hooks):
    """Accepts, and notes each call: `calls`, the messages, the errors."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.messages: list[bytes] = []
        self.errors: list[BaseException] = []
        self.sessions: list[Session] = []

    def on_connect(self, session: Session) -> None:
        self.calls.append("connect")
        self.sessions.append(session)

    def on_mail_from(self, address: Address, session: Session) -> None:
        self.calls.append(f"mail {address}")

    def on_rcpt_to(self, address: Address, session: Session) -> None:
        self.calls.append(f"rcpt {address}")

    def on_data(self, message: Message, session: Session) -> Any:
        self.calls.append("data")
        self.messages.append(message.read())

    def on_close(self, session: Session) -> None:
        self.calls.append("close")

    def on_error(self, error: BaseException, session: Session) -> None:
        self.errors.append(error)
