"""Real components that a test needs. On a laptop a missing one skips the test; in CI it fails it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

UNPACKED = Path(__file__).resolve().parent.parent / ".tools"
"""Where tools/programs.sh puts what is not installed in the system."""

PACKAGES = {
    "redis-server": "redis-server",
    "smtp-source": "postfix",
    "smtp-sink": "postfix",
    "swaks": "swaks",
    "gsasl": "gsasl",
    "openssl": "openssl",
    "dovecot": "dovecot-core",
    "msmtp": "msmtp",
    "node": "nodejs",
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


def unpacked(name: str) -> Path:
    """The root directory of Debian packages that cannot be installed beside others, e.g. `unpacked("exim")`."""
    if not (UNPACKED / name).is_dir():
        missing(f"{name} is not unpacked in {UNPACKED} (tools/programs.sh does it)")
    return UNPACKED / name


def node_packages(name: str) -> Path:
    """The directory with this package from npm, for NODE_PATH."""
    packages = UNPACKED / "node" / "node_modules"
    if not (packages / name).is_dir():
        missing(f"{name} is not in {packages} (tools/programs.sh installs it with npm)")
    return packages


def missing(what: str) -> NoReturn:
    """Skip the test on a laptop, fail it in CI."""
    if os.environ.get("CI"):
        pytest.fail(what)
    pytest.skip(what)
