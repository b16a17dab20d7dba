"""The power cut itself: what was synced stays, what was not goes, by the journal of real processes."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.chaos.powercut import PowerCut
from tests.processes import clean_environment, python

WRITER = """
import os
def put(path, data, sync):
    with open(path, "wb") as file:
        file.write(data); file.flush()
        if sync: os.fdatasync(file.fileno())
def sync_directory(path):
    fd = os.open(path, os.O_RDONLY); os.fsync(fd); os.close(fd)
for name in ("store", "box/tmp", "box/new"): os.makedirs(name)
put("store/synced", b"x" * 100, True)
put("store/half", b"x" * 100, True)
with open("store/half", "ab") as file: file.write(b"y" * 50)
put("store/never", b"x" * 100, False)
for name, data, file_synced, directory_synced in (
    ("good", b"mail", True, True), ("empty", b"mail", False, True), ("gone", b"mail", True, False),
):
    put("box/tmp/" + name, data, file_synced)
    os.rename("box/tmp/" + name, "box/new/" + name)
    if directory_synced: sync_directory("box/new")
os.link("box/new/good", "box/new/link")
"""


@pytest.fixture
def after(tmp_path: Path) -> Path:
    """A directory that was written to, then lost power."""
    cutter = PowerCut(tmp_path)
    subprocess.run(python("-c", WRITER), cwd=tmp_path, env=clean_environment() | cutter.environment, check=True)
    cutter.cut([tmp_path / "store"], [tmp_path / "box"])
    return tmp_path


def test_files_keep_what_was_synced(after: Path) -> None:
    store = after / "store"
    assert {path.name: path.stat().st_size for path in store.iterdir()} == {"synced": 100, "half": 100, "never": 0}


def test_maildir_entries_last_from_their_directorys_fsync_on(after: Path) -> None:
    new = after / "box" / "new"
    assert {path.name: path.read_bytes() for path in new.iterdir()} == {"good": b"mail", "empty": b""}
    assert (after / "box" / "tmp" / "gone").read_bytes() == b"mail"


def test_what_survived_one_cut_survives_the_next(after: Path) -> None:
    cutter = PowerCut(after)
    assert cutter.cut([after / "store"], [after / "box"]).shortened == 0


def test_without_the_variable_the_shim_does_nothing(tmp_path: Path) -> None:
    cutter = PowerCut(tmp_path)
    environment = clean_environment() | {"LD_PRELOAD": cutter.environment["LD_PRELOAD"]}
    subprocess.run(python("-c", WRITER), cwd=tmp_path, env=environment, check=True)
    assert not cutter.journal.exists()
