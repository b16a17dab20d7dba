"""What the tests of real clients have in common."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.clients.door import Door
from tests.front import Front


@pytest.fixture
def door(tmp_path: Path, serve: Callable[..., Front]) -> Door:
    """A running server that delivers to a Maildir."""
    return Door(tmp_path, serve)


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that every user can reach, for programs that give up root. pytest's own are closed to others."""
    directory = Path(tempfile.mkdtemp(prefix="mta-front-client-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)
