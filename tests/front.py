"""The front door as a test holds it: `serve` with a settings file of its own, its processes by kind, its queue."""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import redis

from tests import settingsfile
from tests.ports import free_port
from tests.processes import Program, alive, cmdline, parent, python
from tests.wait import until

KINDS = ("worker", "relay", "admin")
FOR_EVER = -1  # what PTTL says of a key without expiry
STORE_PROGRAMS = ("valkey-server", "redis-server")


class Front(Program):
    """`python -m mta_front.cli serve -c FILE`, everything below one directory.

    `tree` is a settings tree as `settingsfile.settings` makes it; `env` is added to the environment.
    """

    def __init__(self, directory: Path, tree: Mapping[str, Any], env: Mapping[str, str] | None = None) -> None:
        self.settings = tree
        self.directory = directory
        self.file = settingsfile.write(directory / "mta-front.toml", tree)
        super().__init__(self.command(), directory / "front.log", directory, env)

    def command(self) -> list[str]:
        """How it is started."""
        return python("-m", "mta_front.cli", "serve", "-c", str(self.file))

    @property
    def address(self) -> tuple[str, int]:
        """Of the first listener."""
        return _address(self.settings["listeners"][0]["bind"][0])

    @property
    def data_dir(self) -> Path:
        """Where the embedded store and the run-time files are."""
        return Path(self.settings["server"]["data_dir"])

    def start(self) -> Self:
        """Start it and wait until it is ready, all its processes there."""
        super().start()
        self.await_whole()
        return self

    def await_whole(self, timeout_s: float = 20.0) -> None:
        """Until it is whole; fails at once when the server has ended."""

        def whole_or_ended() -> bool:
            assert self.running(), f"the server ended with {self.wait(1.0)}"
            return self.whole()

        until(whole_or_ended, timeout_s, "the server is ready and all its processes are there", every_s=0.02)

    def whole(self) -> bool:
        """Whether /readyz says 200 and every place has a living process that is ready."""
        status = self.status()
        children = status.get("children", [])
        store = status.get("store", {})
        there = bool(children) and all(row["state"] == "ready" and alive(row["pid"]) for row in children)
        return there and (not store["embedded"] or (store["up"] and alive(store["pid"]))) and self.ready()

    def ready(self) -> bool:
        """Whether /readyz says 200 now."""
        return self.get("/readyz")[0] == 200

    def get(self, path: str) -> tuple[int, str]:
        """GET from the admin port: status and text; (0, reason) when nobody answers."""
        host, port = _address(self.settings["admin"]["bind"])
        connection = http.client.HTTPConnection(host, port, timeout=5.0)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode("utf-8", "replace")
        except (OSError, http.client.HTTPException) as error:
            return 0, str(error)
        finally:
            connection.close()

    def status(self) -> dict[str, Any]:
        """/status of the admin port; {} when it does not answer."""
        code, text = self.get("/status")
        return dict(json.loads(text)) if code == 200 else {}

    def metric(self, name: str) -> float:
        """The sum of a metric over its labels, 0.0 when there is none."""
        lines = [line for line in self.get("/metrics")[1].splitlines() if line.split("{")[0].split(" ")[0] == name]
        return sum(float(line.rpartition(" ")[2]) for line in lines)

    def pids(self, kind: str) -> list[int]:
        """Processes of a kind that live and are ready: worker, relay, admin, store or master."""
        if kind == "master":
            return [self.pid] if self.running() else []
        if kind == "store":
            return [pid for pid in self.tree() if _is_store(pid)]
        assert kind in KINDS
        ready = [row for row in self.status().get("children", []) if row["kind"] == kind and row["state"] == "ready"]
        return [row["pid"] for row in ready if alive(row["pid"])]

    # -- its store ---------------------------------------------------------------------------------------------------

    def store_socket(self) -> Path:
        """The Unix socket of the embedded store."""
        sockets = [path for path in self.data_dir.rglob("valkey.sock") if path.is_socket()]
        assert len(sockets) == 1, f"sockets below {self.data_dir}: {sockets}"
        return sockets[0]

    def store(self) -> redis.Redis:
        """A connection of the test's own to its store. Close it."""
        url = self.settings.get("store", {}).get("url")
        if url:
            return redis.Redis.from_url(url, socket_timeout=5.0)
        return redis.Redis(unix_socket_path=str(self.store_socket()), socket_timeout=5.0)

    def queue(self) -> dict[str, int]:
        """What lies in the queue, over all shards: see `queue_of`."""
        with self.store() as client:
            return queue_of(client, self.settings.get("store", {}).get("prefix", "mta"))

    def await_empty_queue(self, timeout_s: float = 30.0) -> None:
        """Until nothing is left but structure, dead letters, and bodies that expire."""
        seen: dict[str, int] = {}

        def empty() -> bool:
            with contextlib.suppress(redis.RedisError, AssertionError):
                seen.update(self.queue())
                return not any(count for kind, count in seen.items() if kind not in {"dead", "unfinished"})
            return False

        try:
            until(empty, timeout_s, "the queue is empty", every_s=0.05)
        except AssertionError as error:
            raise AssertionError(f"{error}: {seen}") from None


def queue_of(client: redis.Redis, prefix: str) -> dict[str, int]:
    """Counts by kind of key, read without the product's own code.

    entries, later, leases, messages (records), dead; bodies are those that stay, unfinished those that expire by
    themselves: of a message that was never handed over.
    """
    counts = dict.fromkeys(("entries", "later", "leases", "bodies", "unfinished", "messages", "dead"), 0)
    for raw in client.scan_iter(match=f"{prefix}:*", count=1000):
        key = raw.decode()
        name = key.split("}:", 1)[-1]
        if name == "queue":
            counts["entries"] += int(client.xlen(key))
        elif name in {"later", "lease"}:
            counts["later" if name == "later" else "leases"] += int(client.zcard(key))
        elif name.startswith("body:"):
            counts["bodies" if client.pttl(key) == FOR_EVER else "unfinished"] += 1
        elif name.startswith("msg:"):
            counts["messages"] += 1
        elif name == "dead":
            counts["dead"] += int(client.xlen(key))
    return counts


def make(directory: Path, route: Mapping[str, Any], env: Mapping[str, str] | None = None, **sections: Any) -> Front:
    """A front door on free ports with one route; sections as in `settingsfile.settings`. It is not started yet."""
    return Front(directory, settingsfile.settings(directory, free_port(), free_port(), route, **sections), env)


def _address(bind: str) -> tuple[str, int]:
    host, _, port = bind.rpartition(":")
    return host, int(port)


def _is_store(pid: int) -> bool:
    """The store itself, not a child that it forked to rewrite its file."""
    name = _program_of(pid)
    return name in STORE_PROGRAMS and _program_of(parent(pid)) != name


def _program_of(pid: int) -> str:
    arguments = cmdline(pid)
    return Path(arguments[0].split(" ")[0]).name if arguments else ""
