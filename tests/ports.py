"""Free ports on loopback for tests, also for tests of several pytest processes at the same time.

"Bind port 0, close, hope" fails in two ways: another test gets the same number, or an outgoing connection takes it. So
the numbers lie below the kernel's ephemeral range, and a process claims each by binding an abstract Unix socket named
after it: the claim is atomic, leaves no file behind and goes with the process.
"""

from __future__ import annotations

import itertools
import os
import socket

FIRST, LAST = 20_000, 32_000  # below net.ipv4.ip_local_port_range (32768 by default)

_candidates = itertools.count(os.getpid() * 37)


def free_port() -> int:
    """A TCP port of 127.0.0.1 and ::1 that nobody uses and no other test will be given while this process lives."""
    for _ in range(LAST - FIRST):
        port = FIRST + next(_candidates) % (LAST - FIRST)
        claim = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            claim.bind(f"\0mta-front-test-port-{port}")
        except OSError:
            claim.close()
            continue
        if _unused(port):
            claim.detach()  # open as long as the process lives
            return port
        claim.close()
    raise AssertionError(f"no free port between {FIRST} and {LAST}")


def _unused(port: int) -> bool:
    """Whether the port can be bound on every address. REUSEADDR: a connection in TIME_WAIT does not count."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", port))
        except OSError:
            return False
    return True


def accepting(port: int, host: str = "127.0.0.1") -> bool:
    """Whether somebody accepts connections there."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((host, port)) == 0
