"""Every dialog of tests/wire against the core alone: turn by turn, octet by octet, and at random splits."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from tests.dialogs import Dialog, Step, load_dialog
from tests.smtp.owner import Owner

WIRE = Path(__file__).parent.parent / "wire"
FILES = sorted(WIRE.glob("*/*.txt"))
SPLITS = 20


def replies(sent: bytes) -> list[tuple[int, list[str]]]:
    """The replies in these bytes."""
    assert not sent or sent.endswith(b"\r\n")
    found: list[tuple[int, list[str]]] = []
    lines: list[str] = []
    for line in sent.decode("ascii").split("\r\n")[:-1]:
        assert re.match(r"\d{3}[ -]", line), line
        lines.append(line[4:])
        if line[3] == " ":
            found.append((int(line[:3]), lines))
            lines = []
    return found


def check(owner: Owner, heard: bytes, due: list[Step]) -> None:
    said = replies(heard)
    for step in due:
        if step.expected == "silence":
            assert not said, f"line {step.line}: {said} instead of silence"
        elif step.expected == "close":
            assert owner.heard.closed, f"line {step.line}: not closed"
        else:
            assert said, f"line {step.line}: nothing was said"
            code, lines = said.pop(0)
            assert step.accepts(code, lines), f"line {step.line}: {code} {lines}, expected {step.expected}"
    assert not said, f"said too much: {said}"


def play(dialog: Dialog, cut: random.Random | None, largest: int) -> Owner:
    owner = Owner(**dialog.options)
    for data, due in dialog.turns():
        before = len(owner.heard.sent) if data else 0
        rest = data
        while rest:
            size = cut.randint(1, largest) if cut else largest
            owner.receive(rest[:size])
            rest = rest[size:]
        check(owner, owner.heard.sent[before:], due)
    return owner


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_dialog_at_every_split(file: Path) -> None:
    dialog = load_dialog(file)
    whole = play(dialog, None, 1 << 20)
    octets = play(dialog, None, 1)
    assert (octets.heard.sent, octets.heard.messages) == (whole.heard.sent, whole.heard.messages)
    for seed in range(SPLITS):
        split = play(dialog, random.Random(seed), random.Random(seed).choice([2, 5, 50]))
        assert split.heard == whole.heard


def test_there_are_dialogs() -> None:
    assert len(FILES) > 50
