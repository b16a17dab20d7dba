"""Dialogs against the core alone, cut into pieces: whatever the packets, the same events and the same bytes.

    python -m tests.smtp.splits [--splits 3000] [--seed 1] [--only PART-OF-A-NAME]

plays each dialog of tests/wire whole, byte by byte, and at so many random splits. Exit status 1 if one differs.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from tests.dialogs import Dialog, Step, load_dialog
from tests.smtp.owner import Heard, Owner

MOST_PIECES = 400

Cut = Callable[[bytes], list[bytes]]
"""Makes pieces of what the client sends at once."""

WIRE = Path(__file__).parent.parent / "wire"
FILES = sorted(WIRE.glob("*/*.txt"))


def core_dialogs() -> dict[str, Dialog]:
    """All dialogs that make sense without a server, by directory and name."""
    loaded = {f"{file.parent.name}/{file.stem}": load_dialog(file) for file in FILES}
    return {name: dialog for name, dialog in loaded.items() if not dialog.live_only}


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
    """Compare what was said with what was due."""
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


def play(dialog: Dialog, cut: Cut | None = None) -> Heard:
    """One session; each thing that the client sends comes in the pieces that `cut` makes of it, or whole."""
    owner = Owner(**{name: value for name, value in dialog.options.items() if name != "tls"})  # it always has it
    for data, due in dialog.turns():
        before = len(owner.heard.sent) if data else 0
        for piece in cut(data) if cut is not None else [data]:
            owner.receive(piece)
        check(owner, owner.heard.sent[before:], due)
    if dialog.messages is not None:
        assert owner.heard.messages == dialog.messages
    return owner.heard


def of_size(size: int) -> Cut:
    """Pieces of one size."""
    return lambda data: [data[start : start + size] for start in range(0, len(data), size)]


def at_octet(octet: int) -> Cut:
    """Two pieces, the first of so many octets."""
    return lambda data: [data[:octet], data[octet:]]


def at_random(seed: int) -> Cut:
    """Pieces of random sizes: tiny in some runs, larger in others, and in long dialogs not too many."""
    dice = random.Random(seed)
    largest = dice.choice([2, 5, 50])

    def cut(data: bytes) -> list[bytes]:
        at_most = max(largest, len(data) // MOST_PIECES)
        pieces, start = [], 0
        while start < len(data):
            end = start + dice.randint(1, at_most)
            pieces.append(data[start:end])
            start = end
        return pieces

    return cut


def octets(dialog: Dialog, at_most: int) -> Iterator[int]:
    """Where to cut in two: everywhere, or in a long dialog at so many places."""
    longest = max(len(data) for data, _ in dialog.turns())
    yield from range(1, longest, max(1, longest // at_most))


def differs(name: str, dialog: Dialog, splits: int, seed: int) -> str:
    """Where a dialog goes another way than it went whole; "" if nowhere."""
    where = "whole"
    try:
        whole = play(dialog)
        where = "byte by byte"
        assert play(dialog, of_size(1)) == whole
        for split in range(splits):
            where = f"at_random({seed * 1_000_003 + split})"
            assert play(dialog, at_random(seed * 1_000_003 + split)) == whole
    except AssertionError as error:
        return f"{name}: {where}: {error}"
    return ""


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.smtp.splits")
    parser.add_argument("--splits", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="part of a dialog's name")
    arguments = parser.parse_args()
    dialogs = {name: dialog for name, dialog in core_dialogs().items() if arguments.only in name}
    failed = 0
    with ProcessPoolExecutor() as processes:
        each = partial(differs, splits=arguments.splits, seed=arguments.seed)
        for fault in processes.map(each, dialogs, dialogs.values()):
            if fault:
                failed += 1
                print(fault, flush=True)
    print(f"{len(dialogs)} dialogs, each at {arguments.splits} random splits: {failed} differ")
    return 1 if failed or not dialogs else 0


if __name__ == "__main__":
    sys.exit(main())
