"""Certificates that many tests use, made once: fixtures for whichever conftest imports them."""

from __future__ import annotations

import pytest

from tests.tls.authority import Authority, Pair


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
