"""Every dialog of tests/wire against a live server."""

from __future__ import annotations

from pathlib import Path

import pytest

from mta_front.hooks import Hooks
from tests.dialogs import converse, load_dialog
from tests.net.live import live

FILES = sorted((Path(__file__).parent.parent / "wire").glob("*/*.txt"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_dialog_live(file: Path) -> None:
    dialog = load_dialog(file)
    with live(Hooks(), **dialog.options) as server:
        converse(dialog, server.address)
    assert not server.noted.faults
