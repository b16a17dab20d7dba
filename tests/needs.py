"""Real components that a test needs. On a laptop a missing one skips the test; in CI it fails it."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest

PACKAGES = {
    "redis-server": "redis-server",
    "smtp-source": "postfix",
    "smtp-sink": "postfix",
    "swaks": "swaks",
    "haproxy": "haproxy",
    "prometheus": "prometheus",
    "promtool": "prometheus",
    "strace": "strace",
    "cc": "gcc",
}


def program(name: str) -> str:
    """The path of a program, e.g. `program("smtp-source")`."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin:/usr/local/sbin")
    if not found:
        missing(f"{name} is not installed (Debian package {PACKAGES.get(name, name)})")
    return found


def missing(what: str) -> NoReturn:
    """Skip the test on a laptop, fail it in CI."""
    if os.environ.get("CI"):
        pytest.fail(what)
    pytest.skip(what)
