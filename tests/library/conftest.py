"""The mark that says which promise of the libraries replaced a test holds us to (see `seeds.py`)."""

from __future__ import annotations

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Declare it."""
    config.addinivalue_line("markers", "seed(*keys): rows of tests/library/seeds.py that the test is about")
