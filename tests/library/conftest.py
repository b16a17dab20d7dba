"""The mark that says which promise of the libraries replaced a test holds us to (see `seeds.py`), and certificates."""

from __future__ import annotations

import pytest

from tests.tls.authority import Authority, Pair


def pytest_configure(config: pytest.Config) -> None:
    """Declare it."""
    config.addinivalue_line("markers", "seed(*keys): rows of tests/library/seeds.py that the test is about")


@pytest.fixture(scope="session")
def authority() -> Authority:
    """Whom clients trust."""
    return Authority()


@pytest.fixture(scope="session")
def pair(authority: Authority) -> Pair:
    """A server's key and certificate."""
    return authority.issue("mx.ours.example")


@pytest.fixture(scope="session")
def client_authority() -> Authority:
    """Who issues client certificates."""
    return Authority("Client Root")


@pytest.fixture(scope="session")
def client_pair(client_authority: Authority) -> Pair:
    """A client's key and certificate."""
    return client_authority.issue("alice", client=True)
