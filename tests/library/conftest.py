"""The mark that says which promise of the libraries replaced a test holds us to (see `seeds.py`), and certificates."""

from __future__ import annotations

import pytest

from tests.tls.issued import authority, client_authority, client_pair, pair

__all__ = ["authority", "client_authority", "client_pair", "pair"]


def pytest_configure(config: pytest.Config) -> None:
    """Declare it."""
    config.addinivalue_line("markers", "seed(*keys): rows of tests/library/seeds.py that the test is about")
