"""What TLS costs the server: CPU time of all its processes for a message, and memory of a session that does nothing.

As in `bench.server`: one worker, an embedded store, no relay, the server on one CPU and the load on the other. The
certificate is ECDSA P-256, the handshakes are full ones of TLS 1.3. The client is Python's and no faster than the
server, so the server often finds one session ready, where a faster client would let it find several.
"""

from __future__ import annotations

import contextlib
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench.library import LibraryServer
from bench.server import ROOT, Server, cost_of, on_cpu

LISTENER = "secure = {secure}\nreverse_lookup = false\n[listeners.tls]\nself_signed = true\n"
WORKLOADS = {
    "W5": ("4 KiB, STARTTLS, a connection for each message, 20 at once", "starttls", 3000, ["20", "4096"]),
    "W6": (
        "1 MiB, TLS from the first octet, 8 persistent connections",
        "implicit",
        400,
        ["8", "1048576", "persistent"],
    ),
}
IDLE_SESSIONS = 500
GOALS = {"W5": "goal: 700 µs", "W6": "goal: 1,300 µs"}


def _load(port: int, way: str, messages: int, more: list[str]) -> None:
    command = [*on_cpu(1), sys.executable, "-m", "bench.tlsload", str(port), way, str(messages), *more]
    done = subprocess.run(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"bench.tlsload: {done.stderr.strip() or done.returncode}")


def measure(workload: str, durability: str) -> dict[str, float | str | int]:
    """One run against a fresh server; `durability` "library": the library, and a hook that forgets the message."""
    _, way, messages, more = WORKLOADS[workload]
    with tempfile.TemporaryDirectory(prefix="mta-front-bench-") as name:
        server = (
            LibraryServer(Path(name), way)
            if durability == "library"
            else Server(Path(name), 1, durability, LISTENER.format(secure="true" if way == "implicit" else "false"))
        )
        cost = cost_of(server, lambda count: _load(server.port, way, count, more), messages // 3, messages)
    return {"workload": workload, "messages": messages, "durability": durability, **cost}


def idle(way: str) -> dict[str, float | str | int]:
    """KiB of resident memory that each of many sessions takes, after EHLO over TLS, or without TLS ("plain")."""
    with tempfile.TemporaryDirectory(prefix="mta-front-bench-") as name:
        server = Server(Path(name), 1, "memory", LISTENER.format(secure="false"))
        try:
            server.await_ready()
            with _idle_sessions(server.port, way, 20):  # what is loaded once is loaded
                before = server.resident_bytes()
                with _idle_sessions(server.port, way, IDLE_SESSIONS):
                    each = (server.resident_bytes() - before) / IDLE_SESSIONS / 1024
        finally:
            server.stop()
    return {"workload": f"idle {way}", "sessions": IDLE_SESSIONS, "each_kib": round(each, 1)}


@contextlib.contextmanager
def _idle_sessions(port: int, way: str, many: int) -> Iterator[None]:
    command = [*on_cpu(1), sys.executable, "-m", "bench.tlsload", str(port), way, "idle", str(many)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        if process.stdout.readline() != b"idle\n":
            raise SystemExit("bench.tlsload: the sessions did not come up")
        yield
        process.communicate(timeout=60)


def run(runs: int, durability: str) -> Iterator[dict[str, float | str | int]]:
    """Measure, print the tables, and give what is to be kept."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    print(f"TLS (durability = {durability}, {os.cpu_count()} CPUs)")
    print(f"{'':3} {'CPU µs/message':>15} {'without the store':>18} {'messages/s':>11} {'the library':>11}")
    for workload, (description, *_) in WORKLOADS.items():
        results = []
        for _ in range(runs):
            results.append(measure(workload, durability))
            yield results[-1]
        total, store, rate = (
            statistics.median(float(result[key]) for result in results)
            for key in ("cpu_us", "store_cpu_us", "messages_per_s")
        )
        library = [measure(workload, "library") for _ in range(runs)]
        yield from library
        alone = statistics.median(float(result["cpu_us"]) for result in library)
        shown = f"{workload:3} {total:15.0f} {total - store:18.0f} {rate:11.0f} {alone:11.0f}"
        print(f"{shown}   {description} ({GOALS[workload]})", flush=True)
    for way in ("plain", "starttls"):
        result = idle(way)
        yield result
        print(f"an idle session, {way:9} {result['each_kib']:6} KiB{'   (goal: 64 KiB)' if way == 'starttls' else ''}")
