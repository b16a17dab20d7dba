"""What thousands of sessions that drip one octet a second cost an ordinary client.

One worker, as in `bench.server`. An ordinary client sends messages of 4 KiB, one after the other: before the others
come, and then by turns while `sessions` others drip (bench/drippers.py) and while they are silent. The figure is the
ratio of its p99 from MAIL to 250 between these two (goal: 1.2 at most): by turns, so that what else the machine does
counts for both. Then all drippers must be gone by the least data rate and the time-outs, and be told so with
421 4.4.2. The server has one CPU, all clients the other.
"""

from __future__ import annotations

import itertools
import json
import os
import resource
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.server import ROOT, Server, on_cpu

MESSAGES = 500
"""Sent by the ordinary client in each round."""

ROUNDS = 6
"""Of each kind; its p99 is the median of theirs."""

TIMEOUT_S = 45
LISTENER = f"reverse_lookup = false\nsocket_timeout_s = {TIMEOUT_S}\nmin_data_rate_bytes_s = 500\nmax_clients = 0\n"
BODY = (b"x" * 74 + b"\r\n") * 53 + b".\r\n"


class Ordinary:
    """A client with one session."""

    def __init__(self, port: int) -> None:
        self._sock = socket.create_connection(("127.0.0.1", port), 30.0)
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = self._sock.makefile("rb")
        self._expect(b"220")
        self._ask(b"EHLO ordinary.example\r\n", b"250")

    def messages(self, count: int) -> list[float]:
        """Send so many; the seconds that each took."""
        times = []
        for _ in range(count):
            began = time.perf_counter()
            self._ask(b"MAIL FROM:<a@ordinary.example>\r\n", b"250")
            self._ask(b"RCPT TO:<b@bench.example>\r\n", b"250")
            self._ask(b"DATA\r\n", b"354")
            self._ask(BODY, b"250")
            times.append(time.perf_counter() - began)
        return times

    def close(self) -> None:
        """QUIT."""
        self._ask(b"QUIT\r\n", b"221")
        self._sock.close()

    def _ask(self, data: bytes, code: bytes) -> None:
        self._sock.sendall(data)
        self._expect(code)

    def _expect(self, code: bytes) -> None:
        while (line := self._file.readline())[3:4] == b"-":
            pass
        if not line.startswith(code):
            raise SystemExit(f"the ordinary client heard {line!r} instead of {code!r}")


def run(sessions: int, durability: str) -> Iterator[dict[str, float | str | int]]:
    """Measure, print the table, and give what is to be kept."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < sessions + 200:
        raise SystemExit(f"drip: {sessions} sessions need more than {hard} file handles (ulimit -Hn)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    cpus = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cpus[-1]})
    try:
        with tempfile.TemporaryDirectory(prefix="mta-front-bench-") as name:
            server = Server(Path(name), 1, durability, LISTENER)
            try:
                server.await_ready()
                yield from _measure(server, sessions, durability)
            finally:
                server.stop()
    finally:
        os.sched_setaffinity(0, cpus)


def _measure(server: Server, sessions: int, durability: str) -> Iterator[dict[str, float | str | int]]:
    ordinary = Ordinary(server.port)
    ordinary.messages(MESSAGES)  # to warm up
    before = [ordinary.messages(MESSAGES) for _ in range(ROUNDS)]
    silent, dripping = [], []
    command = [sys.executable, "-m", "bench.drippers", "127.0.0.1", str(server.port), str(sessions), "180"]
    with subprocess.Popen([*on_cpu(1), *command], cwd=ROOT, stdout=subprocess.PIPE, text=True) as drippers:
        assert drippers.stdout is not None
        try:
            started = json.loads(drippers.stdout.readline())
            began_at = time.monotonic()
            for _ in range(ROUNDS):
                dripping.append(ordinary.messages(MESSAGES))
                drippers.send_signal(signal.SIGSTOP)
                silent.append(ordinary.messages(MESSAGES))
                drippers.send_signal(signal.SIGCONT)
            spent_s = time.monotonic() - began_at
            ended = json.loads(drippers.stdout.readline())
        except BaseException:
            drippers.kill()
            raise
    ordinary.close()
    if spent_s > TIMEOUT_S / 2:
        print(f"the rounds took {spent_s:.0f} s: drippers may have ended before them")
    print(f"An ordinary client and {started['dripping']} that drip (durability = {durability})")
    print(f"{'':24} {'p50 ms':>8} {'p99 ms':>8}")
    p50, p99 = {}, {}
    for name, rounds in (
        ("before they come", before),
        ("while they are silent", silent),
        ("while they drip", dripping),
    ):
        p50[name] = statistics.median(itertools.chain.from_iterable(rounds)) * 1e3
        p99[name] = statistics.median(_p99(times) for times in rounds) * 1e3
        print(f"{name:24} {p50[name]:8.2f} {p99[name]:8.2f}")
    ratio = p99["while they drip"] / p99["while they are silent"]
    p50_ratio = p50["while they drip"] / p50["while they are silent"]
    print(f"{'ratio of the last two':24} {p50_ratio:8.2f} {ratio:8.2f}   (goal: p99 at most 1.20)")
    told, first_s, last_s = ended["timed_out"], ended["first_s"], ended["last_s"]
    print(f"{told} of {sessions} drippers ended with 421 4.4.2, {first_s} to {last_s} s after their first octet")
    yield {
        "workload": "drip",
        "sessions": sessions,
        "durability": durability,
        "ratio": round(ratio, 3),
        "silent_p99_ms": round(p99["while they are silent"], 3),
        "drip_p99_ms": round(p99["while they drip"], 3),
        **ended,
    }


def _p99(times: list[float]) -> float:
    return sorted(times)[int(len(times) * 0.99)]
