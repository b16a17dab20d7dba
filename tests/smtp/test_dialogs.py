"""Every dialog of tests/wire against the core alone: whole, by octets, cut at every octet, and at random splits."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.dialogs import Dialog, load_dialog
from tests.smtp.splits import FILES, at_octet, at_random, core_dialogs, octets, of_size, play

RANDOM_SPLITS = 25
CUTS = 100
CORE = core_dialogs()
REFERENCE = re.compile(r"(RFC \d{4}( §[\w.]+)?|CVE-\d{4}-\d+|SMTP smuggling|[Cc]ross-protocol|DECISIONS [A-Z]\d+)")


@pytest.mark.parametrize("dialog", CORE.values(), ids=list(CORE))
def test_dialog_at_every_split(dialog: Dialog) -> None:
    whole = play(dialog)
    assert play(dialog, of_size(1)) == whole
    for octet in octets(dialog, CUTS):
        assert play(dialog, at_octet(octet)) == whole
    for seed in range(RANDOM_SPLITS):
        assert play(dialog, at_random(seed)) == whole


def test_there_are_dialogs_for_the_whole_protocol() -> None:
    assert len(FILES) >= 500
    assert {file.parent.name for file in FILES} == {"valid", "invalid", "smuggling"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_each_dialog_names_the_section_or_the_attack_that_it_stands_for(file: Path) -> None:
    assert REFERENCE.search(load_dialog(file).title)


def test_a_dialog_that_smuggles_says_what_the_server_took() -> None:
    assert all(load_dialog(file).messages is not None for file in FILES if file.parent.name == "smuggling")


def test_escapes_and_messages_of_a_dialog(tmp_path: Path) -> None:
    file = tmp_path / "dialog.txt"
    file.write_text('# RFC\nO: only = "live"\nC< \\{ab*3}\\r\\x00\nS: 250\nM< one\\r\\n\nM< two\n')
    dialog = load_dialog(file)
    assert dialog.steps[0].data == b"ababab\r\0"
    assert (dialog.messages, dialog.live_only, dialog.options) == ([b"one\r\n", b"two"], True, {})
    file.write_text("# RFC\nS: 250\nM: none\n")
    assert load_dialog(file).messages == []


def test_a_handshake_ends_what_is_said_at_once(tmp_path: Path) -> None:
    file = tmp_path / "dialog.txt"
    file.write_text("# RFC\nO: tls = true\nS: 220\nC: STARTTLS\nS: 220\nT: handshake\nC: EHLO x\nC: NOOP\nS: 250\n")
    dialog = load_dialog(file)
    assert [[data for data, _ in part] for part in dialog.parts()] == [[b"", b"STARTTLS\r\n"], [b"EHLO x\r\nNOOP\r\n"]]
    assert [data for data, _ in dialog.turns()] == [b"", b"STARTTLS\r\n", b"EHLO x\r\nNOOP\r\n"]
    file.write_text("# RFC\nO: secure = true\nT: handshake\nS: 220\n")
    assert [len(part) for part in load_dialog(file).parts()] == [0, 1]
