"""Every dialog of tests/wire against a live server."""

from __future__ import annotations

from pathlib import Path

import pytest

from mta_front.hooks import Hooks, Message, Session
from tests.dialogs import converse, load_dialog
from tests.net.live import live

FILES = sorted((Path(__file__).parent.parent / "wire").glob("*/*.txt"))


class Keeping(Hooks):
    """Takes everything and keeps the messages, each once it is whole and found good."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []

    def on_data(self, message: Message, session: Session) -> None:
        text = message.read()
        if message.refusal is None:
            self.messages.append(text)


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_dialog_live(file: Path) -> None:
    dialog = load_dialog(file)
    hooks = Keeping()
    with live(hooks, **dialog.options) as server:
        converse(dialog, server.address)
    assert not server.noted.faults
    if dialog.messages is not None:
        assert hooks.messages == dialog.messages
