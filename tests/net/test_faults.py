"""A bug in a greenlet that nobody watches is reported, and ends nothing else."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import gevent
from mta_front.lifeline import report_faults
report_faults(lambda error, where: print(type(error).__name__, error, where))
gevent.spawn(lambda: 1 / 0)
gevent.get_hub().loop.run_callback(lambda: [][0])
gevent.spawn(gevent.sleep, 60).kill()
gevent.sleep(0.1)
print("still here")
"""


def test_what_escapes_from_a_greenlet_is_reported() -> None:
    done = subprocess.run([sys.executable, "-W", "error", "-c", SCRIPT], capture_output=True, text=True, timeout=30)
    assert sorted(done.stdout.splitlines()) == [
        "IndexError list index out of range greenlet",
        "ZeroDivisionError division by zero greenlet",
        "still here",
    ]
    assert done.stderr == ""
