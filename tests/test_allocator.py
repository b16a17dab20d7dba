"""Buffers that come and go are not paged in anew each time."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from tests.processes import ROOT

PLAY = """
import resource, sys
from mta_front.allocator import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
for _ in range(50):  # the first are new in any case
    held = [b"x" * (130_000 + at) for at in range(4)]
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(200):
    held.clear()
    held = [b"x" * (130_000 + at) for at in range(4)]
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str, **environment: str) -> int:
    """Pages that the kernel gave to 800 buffers of 127 KiB each, held four at a time."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    command = [sys.executable, "-c", PLAY, how]
    done = subprocess.run(
        command, cwd=ROOT, env=clean | environment, capture_output=True, text=True, check=True, timeout=30
    )
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no such bounds")
def test_freed_buffers_are_used_again() -> None:
    assert faults("kept") < 200


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no such bounds")
def test_what_the_environment_says_counts() -> None:
    own = {"MALLOC_MMAP_THRESHOLD_": "65536"}
    assert faults("kept", **own) > 10_000
