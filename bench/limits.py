"""What limits cost: checks a second that a core of Redis serves, and CPU time of a worker for one connection.

A check is what one connection asks: whether it is banned, two leases (its address, the fleet), two rates (its address,
the fleet), over 10,000 addresses whose keys exist. Redis has one CPU, the load the other; the figure is the CPU time of
Redis (user + system) for one check, and what of them fit into a second. They come in pieces of 50, as from a worker
with 50 sessions.

The worker: 50 sessions in parallel begin and end, again and again, on one CPU of their own, with every limit of
connections on (address, listener and fleet, at once and in a time), against the same loop with none. User and system
time of the process, publisher and wake-ups included; Redis is another process.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import gevent
import hiredis

from bench.server import TICKS_PER_S, on_cpu
from mta_front.store.keys import LimitKeys
from mta_front.store.limits import calls
from mta_front.store.limits.calls import Question
from mta_front.store.limits.rules import AtOnce, LimitOptions, PerTime, Rate, Rules
from mta_front.store.limits.shared import Limits
from mta_front.store.limits.terms import AllTerms
from mta_front.store.limits.verdict import Who
from mta_front.store.options import StoreOptions

ADDRESSES = 10_000
CHECKS = 200_000
AT_ONCE = 50
CONNECTIONS = 50_000
GOAL_US = 40
GOAL_PER_S = 30_000

CHECK = Rules(
    at_once=(AtOnce("address", 50), AtOnce("fleet", 1_000_000)),
    per_time=(
        PerTime("connection_rate", "address", Rate.parse("6000/1m")),
        PerTime("connection_rate", "fleet", Rate.parse("1000000/1s")),
    ),
)
ALL = Rules(
    at_once=(AtOnce("address", 1000), AtOnce("listener", 100_000), AtOnce("fleet", 1_000_000)),
    per_time=(
        PerTime("connection_rate", "address", Rate.parse("600000/1m")),
        PerTime("connection_rate", "listener", Rate.parse("1000000/1s")),
        PerTime("connection_rate", "fleet", Rate.parse("1000000/1s")),
    ),
)


@contextlib.contextmanager
def _redis() -> Iterator[tuple[str, int]]:
    """A Redis on the last CPU; its socket and its process id."""
    program = shutil.which("redis-server")
    if program is None:
        raise SystemExit("missing: redis-server (Debian package redis-server)")
    with tempfile.TemporaryDirectory(prefix="mta-bench-") as directory:
        path = f"{directory}/s"
        command = [*on_cpu(1), program, "--port", "0", "--unixsocket", path, "--save", "", "--dir", directory]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            try:
                deadline = time.monotonic() + 10.0
                while not Path(path).exists():
                    if time.monotonic() > deadline or process.poll() is not None:
                        raise SystemExit("redis-server does not start")
                    time.sleep(0.01)
                yield path, process.pid
            finally:
                process.kill()


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(ticks) for ticks in fields[11:13]) / TICKS_PER_S


def _addresses() -> list[str]:
    return [f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}" for number in range(ADDRESSES)]


def checks() -> dict[str, float | str | int]:
    """How many a core of Redis serves."""
    keys = LimitKeys("mta")
    rng = random.Random(1)
    with _redis() as (path, pid), socket.socket(socket.AF_UNIX) as stream:
        stream.connect(path)
        options = LimitOptions(store=StoreOptions(url=f"unix://{path}"), rules=CHECK)
        all_terms = AllTerms(options)
        reader = hiredis.Reader()

        def ask(commands: list[list[object]]) -> list[object]:
            stream.sendall(b"".join(hiredis.pack_command(tuple(command)) for command in commands))  # type: ignore[arg-type]
            replies: list[object] = []
            while len(replies) < len(commands):
                reader.feed(stream.recv(65536))
                while (reply := reader.gets()) is not False:
                    replies.append(reply)
            return replies

        ask([["SCRIPT", "LOAD", text] for text in calls.TEXTS])
        ask([calls.live(keys, "1", 3_600_000).args])
        asked = []
        for address in _addresses():
            terms = all_terms.find("mx", address, True)
            assert terms is not None
            asked.append(Question(keys, terms.bans, terms.begin(), terms.spent({"connection_rate": 1}, "", "")))

        def piece(start: int) -> list[list[object]]:
            found = []
            for number in range(start, start + AT_ONCE):
                call = rng.choice(asked).call("1", f"{number:x}")
                call.args[call.late] = 1 << 53
                found.append(call.args)
            return found

        for start in range(0, 2 * ADDRESSES, AT_ONCE):
            ask(piece(start))
        began, spent = time.monotonic(), _cpu_s(pid)
        refused = 0
        for start in range(0, CHECKS, AT_ONCE):
            refused += sum(reply != 0 for reply in ask(piece(1_000_000 + start)))
        spent, wall_s = _cpu_s(pid) - spent, time.monotonic() - began
    return {
        "workload": "limits: checks",
        "redis_us": round(spent / CHECKS * 1e6, 2),
        "per_s_of_a_core": round(CHECKS / spent),
        "per_s_seen": round(CHECKS / wall_s),
        "refused": refused,
    }


def connections(rules: Rules, url: str) -> float:
    """CPU time of a worker for one connection, µs."""
    limits = Limits(LimitOptions(store=StoreOptions(url=url), rules=rules, timeout_ms=5000, slow_ms=1000))
    limits.start()
    on = bool(rules.groups)
    addresses = _addresses()

    def session(number: int, count: int) -> None:
        for turn in range(count):
            who = Who(f"{number:x}-{turn:x}", "mx", addresses[(number * 7919 + turn) % ADDRESSES])
            if on:
                verdict = limits.connected(who)
                assert verdict.allowed, verdict
            gevent.sleep(0)
            if on:
                limits.closed(who)

    def run(count: int) -> None:
        gevent.joinall([gevent.spawn(session, number, count) for number in range(AT_ONCE)], raise_error=True)

    run(ADDRESSES // AT_ONCE)
    spent = time.process_time()
    run(CONNECTIONS // AT_ONCE)
    spent = time.process_time() - spent
    assert limits.mode == "shared", limits.mode
    limits.close()
    return spent / CONNECTIONS * 1e6


def run(runs: int) -> list[dict[str, float | str | int]]:
    """Measure, print, and return what is to be kept."""
    results: list[dict[str, float | str | int]] = []
    print("Limits")
    for _ in range(runs):
        found = checks()
        results.append(found)
        print(
            f"Redis: {found['redis_us']} µs a check, {found['per_s_of_a_core']:,} a second of a core "
            f"(goal {GOAL_PER_S:,}; {found['per_s_seen']:,} seen), {found['refused']} refused",
            flush=True,
        )
    affinity = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(affinity)})
    try:
        for _ in range(runs):
            with _redis() as (path, _):
                none = connections(Rules(), f"unix://{path}")
                every = connections(ALL, f"unix://{path}")
            cost = round(every - none, 1)
            results.append({"workload": "limits: connections", "none_us": round(none, 1), "over_none_us": cost})
            print(
                f"worker: {cost} µs a connection over none ({none:.1f}), {AT_ONCE} at once (goal {GOAL_US})",
                flush=True,
            )
    finally:
        os.sched_setaffinity(0, affinity)
    return results
