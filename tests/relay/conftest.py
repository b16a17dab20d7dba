"""What many tests of the relay need: a store, what was noted, relays that are closed after the test, certificates."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mta_front.relay.relay import Relay
from mta_front.relay.transports.opener import Trust
from mta_front.settings.model import Settings
from tests.relay.attempts import Noted
from tests.stores import Store
from tests.tls.authority import Authority
from tests.tls.issued import authority

__all__ = ["authority"]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A running Valkey."""
    with Store("valkey", tmp_path / "store") as store:
        yield store


@pytest.fixture
def noted() -> Iterator[Noted]:
    """What was reported; a fault fails the test."""
    noted = Noted()
    yield noted
    assert noted.faults == []


@pytest.fixture
def run(noted: Noted) -> Iterator[Callable[[Settings], Relay]]:
    """Start a relay in this process."""
    relays: list[Relay] = []

    def start(settings: Settings) -> Relay:
        relay = Relay(settings, settings.store.url, noted)
        relay.start()
        relays.append(relay)
        return relay

    yield start
    for relay in relays:
        relay.drain(0.0)
        relay.close()


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that every user may enter: Postfix's daemons are not root."""
    directory = Path(tempfile.mkdtemp())
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def trust(tmp_path: Path, authority: Authority) -> Trust:
    """In the authority."""
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    return Trust([str(tmp_path / "ca.pem")])
