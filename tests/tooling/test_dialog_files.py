"""Dialog files are read to the letter, and a live server that answers otherwise is found."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.dialogs import converse, load_dialog
from tests.sink import Sink

GOOD = r"""# RFC 5321 §3.3: a message
O: size_bytes = 1000
S: 220 sink
C: EHLO client.example
S: 250 PIPELINING
C: MAIL FROM:<a@x.example>
C: RCPT TO:<b@x.example>
C: DATA
S: 250
S: /^250 2\.0\.0/
S: 354
C< a\x00b\r\n.\r
C< \n
S: 250
S: silence
C: QUIT
S: 221
S: close
"""


def written(directory: Path, text: str) -> Path:
    file = directory / "dialog.txt"
    file.write_text(text, "utf-8")
    return file


def test_read(tmp_path: Path) -> None:
    dialog = load_dialog(written(tmp_path, GOOD))
    assert (dialog.name, dialog.title, dialog.options) == ("dialog", "RFC 5321 §3.3: a message", {"size_bytes": 1000})
    said = [data for data, _ in dialog.turns()]
    assert said[:3] == [
        b"",
        b"EHLO client.example\r\n",
        b"MAIL FROM:<a@x.example>\r\nRCPT TO:<b@x.example>\r\nDATA\r\n",
    ]
    assert said[3] == b"a\x00b\r\n.\r\n"
    assert [len(due) for _, due in dialog.turns()] == [1, 1, 3, 2, 2]


def test_a_server_that_answers_so_passes(tmp_path: Path, sink: Sink) -> None:
    converse(load_dialog(written(tmp_path, GOOD)), ("127.0.0.1", sink.port))


@pytest.mark.parametrize(
    ("right", "wrong", "line"),
    [
        ("S: 220 sink", "S: 220 other", 3),
        ("S: 250 PIPELINING", "S: 250 CHUNKING", 5),
        (r"S: /^250 2\.0\.0/", r"S: /^250 2\.0\.1/", 10),
        ("S: 354\n", "S: 354\nS: silence\nS: 250\n", 13),
        ("S: 221\n", "S: 221\nS: 250\n", 18),
    ],
)
def test_one_that_does_not_is_found(right: str, wrong: str, line: int, tmp_path: Path, sink: Sink) -> None:
    assert right in GOOD
    dialog = load_dialog(written(tmp_path, GOOD.replace(right, wrong)))
    with pytest.raises(AssertionError, match=rf"dialog\.txt:{line}:"):
        converse(dialog, ("127.0.0.1", sink.port), timeout_s=0.5)


@pytest.mark.parametrize(
    "text",
    ["# no steps\n", "S: 220\n", "# t\nX: 1\n", "# t\nS: hello\n", "# t\nS: /(/\n", "# t\nC< \\q\n", "# t\nO: =\n"],
)
def test_what_is_no_dialog_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^dialog\.txt"):
        load_dialog(written(tmp_path, text))
