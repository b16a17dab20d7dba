"""What a careless user might write: a class that overrides all seven hooks and does nothing in any of them."""

from __future__ import annotations

from typing import Any

from mta_front.hooks import Hooks


class Passing(Hooks):
    """No hook checks anything, reads the message or returns a word."""

    def on_connect(self, *_: Any) -> None:
        pass

    def on_secure(self, *_: Any) -> None:
        pass

    def on_auth(self, *_: Any) -> None:
        pass

    def on_mail_from(self, *_: Any) -> None:
        pass

    def on_rcpt_to(self, *_: Any) -> None:
        pass

    def on_data(self, *_: Any) -> None:
        pass

    def on_close(self, *_: Any) -> None:
        pass
