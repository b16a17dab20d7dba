"""What one message costs the server: CPU time of all its processes, per message of 4 KiB.

Starts a front door of its own in a temporary directory, with the embedded store and without a relay, and sends it mail
with Postfix's smtp-source: first to warm up, then N messages that count. The figure is user + system time of the whole
process tree (master, workers, admin, store) over those N messages, divided by N, read from /proc; the store's part is
shown apart. The clock of /proc ticks every 10 ms, so the error is below 1 % from 5,000 messages on. Where there are
two CPUs, the server has one and the load the other. Messages per second tell as much of the disk as of the server.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
WARM_UP_MESSAGES = 2000
READY_TIMEOUT_S = 30.0
DRAIN_TIMEOUT_S = 30.0

WORKLOADS = {
    "W1": ("4 KiB, a connection for each message, 20 at once", []),
    "W2": ("4 KiB, persistent connections, 20 at once", ["-d"]),
}

SETTINGS = """
[server]
name = "bench.example"
workers = {workers}
data_dir = "{directory}/var"
drain_grace_s = 0.0

[store]
durability = "{durability}"

[[listeners]]
name = "mx"
bind = ["127.0.0.1:{port}"]
relay_domains = ["bench.example"]
auth_optional = true
max_messages = 0
{listener}
[relay]
workers = 0

[admin]
bind = "127.0.0.1:{admin_port}"

[log]
level = "warning"
"""


class Server:
    """A front door started for one run. `listener`: more settings of its listener, as lines of TOML."""

    def __init__(self, directory: Path, workers: int, durability: str, listener: str = "") -> None:
        self.port, self.admin_port = _free_ports(2)
        settings = SETTINGS.format(
            directory=directory,
            workers=workers,
            durability=durability,
            port=self.port,
            listener=listener,
            admin_port=self.admin_port,
        )
        self.file = directory / "mta-front.toml"
        self.file.write_text(settings, "utf-8")
        command = [sys.executable, "-m", "mta_front.cli", "serve", "-c", str(self.file)]
        self.log = directory / "server.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen([*on_cpu(0), *command], cwd=ROOT, stdout=log, stderr=log)

    def await_ready(self) -> None:
        """Until /readyz says 200."""
        deadline = time.monotonic() + READY_TIMEOUT_S
        while time.monotonic() < deadline and self.process.poll() is None:
            connection = http.client.HTTPConnection("127.0.0.1", self.admin_port, timeout=1.0)
            with contextlib.suppress(OSError, http.client.HTTPException):
                connection.request("GET", "/readyz")
                if connection.getresponse().status == 200:
                    return
            connection.close()
            time.sleep(0.05)
        raise SystemExit(f"the server is not ready\n{self.log.read_text('utf-8', 'replace')[-2000:]}")

    def cpu_s(self) -> tuple[float, float]:
        """CPU time so far, in seconds: of the whole tree, and of the store in it."""
        total = store = 0.0
        for pid in _tree(self.process.pid):
            with contextlib.suppress(OSError):
                text = Path(f"/proc/{pid}/stat").read_text()
                name, fields = text[text.index("(") + 1 : text.rindex(")")], text.rpartition(")")[2].split()
                spent = sum(int(ticks) for ticks in fields[11:15]) / TICKS_PER_S  # utime, stime, cutime, cstime
                total += spent
                store += spent if name in ("valkey-server", "redis-server") else 0.0
        return total, store

    def resident_bytes(self) -> int:
        """Memory of the whole tree, what processes share counted for each of them."""
        pages = 0
        for pid in _tree(self.process.pid):
            with contextlib.suppress(OSError):
                pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return pages * resource.getpagesize()

    def stop(self) -> None:
        """TERM, and wait until it has ended."""
        self.process.terminate()
        try:
            self.process.wait(DRAIN_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def measure(workload: str, messages: int, workers: int, durability: str) -> dict[str, float | str | int]:
    """One run against a fresh server."""
    with tempfile.TemporaryDirectory(prefix="mta-front-bench-") as name:
        server = Server(Path(name), workers, durability)
        cost = cost_of(server, lambda count: _send(server.port, workload, count), WARM_UP_MESSAGES, messages)
    return {"workload": workload, "messages": messages, "workers": workers, "durability": durability, **cost}


def cost_of(server: Server, send: Callable[[int], None], warm_up: int, messages: int) -> dict[str, float | str | int]:
    """What `send(messages)` costs a server that has just been started and is stopped then; `send(warm_up)` first."""
    try:
        server.await_ready()
        send(warm_up)
        before = server.cpu_s()
        started_at = time.monotonic()
        send(messages)
        wall_s = time.monotonic() - started_at
        after = server.cpu_s()
    finally:
        server.stop()
    return {
        "cpu_us": round((after[0] - before[0]) / messages * 1e6, 1),
        "store_cpu_us": round((after[1] - before[1]) / messages * 1e6, 1),
        "messages_per_s": round(messages / wall_s),
    }


def _send(port: int, workload: str, messages: int) -> None:
    command = ["smtp-source", "-4", "-s", "20", "-l", "4096", "-m", str(messages)]
    command += ["-M", "client.example", "-f", "from@client.example", "-t", "to@bench.example"]
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
    program = shutil.which(command[0], path=path)
    if program is None:
        raise SystemExit("missing: smtp-source (Debian package postfix)")
    command = [*on_cpu(1), program, *command[1:], *WORKLOADS[workload][1], f"127.0.0.1:{port}"]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode or done.stderr:
        raise SystemExit(f"smtp-source: {done.stderr.strip() or done.returncode}")


def on_cpu(number: int) -> list[str]:
    """What to put before a command to let it run on the CPU of this number only, where there are two or more."""
    cpus = sorted(os.sched_getaffinity(0))
    return ["taskset", "-c", str(cpus[number])] if len(cpus) > 1 else []


def _tree(pid: int) -> Iterator[int]:
    """The process and all that descend from it."""
    yield pid
    with contextlib.suppress(OSError):
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            for child in children.read_text().split():
                yield from _tree(int(child))


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody uses now."""
    return _free_ports(1)[0]


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for sock in sockets:
            sock.bind(("127.0.0.1", 0))
        return [int(sock.getsockname()[1]) for sock in sockets]


def run(runs: int, messages: int, workers: int, durability: str) -> Iterator[dict[str, float | str | int]]:
    """Measure every workload, print a table, and give each run's figures."""
    print(f"The whole server (durability = {durability})")
    print(f"{'':3} {'CPU µs/message':>15} {'of it the store':>16} {'messages/s':>11}")
    for workload, (description, _) in WORKLOADS.items():
        results = []
        for _ in range(runs):
            results.append(measure(workload, messages, workers, durability))
            yield results[-1]
        cpu_us, store_us, rate = (
            statistics.median(float(result[key]) for result in results)
            for key in ("cpu_us", "store_cpu_us", "messages_per_s")
        )
        print(f"{workload:3} {cpu_us:15.0f} {store_us:16.0f} {rate:11.0f}   {description}", flush=True)
