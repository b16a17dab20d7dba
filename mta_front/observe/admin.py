"""The operator's HTTP, as a WSGI application: what is alive, what is ready, what is counted; operations with a token.

/livez    200 while this process and the master live
/readyz   200 while every slot's worker accepts, the store has answered once since the master started, and nothing
          drains; else 503 with the reasons. A store that is lost later makes nobody unready: every pod would go at
          once. Then 451 answers, and the metrics tell.
/metrics  Prometheus text; all processes' files together, read at most once a second
/status   the master's view as JSON, from loopback, or with the token
Operations, such as those of `operations`, need the token (see `access`).
"""

from __future__ import annotations

import ipaddress
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from mta_front.observe.access import Access
from mta_front.observe.metrics import of_master
from mta_front.observe.operations import Operation

METRICS_CACHE_S = 1.0
SILENCE_S = 10.0
"""The master sends its status every second. After so long without one it is taken for dead."""

JSON = "application/json"
METRICS = "text/plain; version=0.0.4; charset=utf-8"

Environ = dict[str, Any]
StartResponse = Callable[[str, list[tuple[str, str]]], object]
Headers = list[tuple[str, str]]
Answer = tuple[str, str, bytes, Headers]
"""Status, type, body, and headers of its own."""


class Admin:
    """Answers from the last status of the master and the metric files. `operations`: by path."""

    def __init__(
        self,
        metrics_dir: str,
        clock: Callable[[], float] = time.monotonic,
        access: Access | None = None,
        operations: Mapping[str, Operation] | None = None,
    ) -> None:
        self._clock = clock
        self._access = access or Access()
        self._operations = operations or {}
        self._status: dict[str, Any] = {}
        self._heard_at = clock()
        self._metrics_at = float("-inf")
        self._metrics = b""
        self._registry = CollectorRegistry()
        self._registry.register(_Files(metrics_dir))
        self._registry.register(_Master(self))
        self._pages: dict[str, Callable[[Environ], Answer]] = {
            "/livez": self._livez,
            "/readyz": self._readyz,
            "/metrics": self._metrics_page,
            "/status": self._status_page,
        }

    @property
    def status(self) -> dict[str, Any]:
        """The master's last words."""
        return self._status

    def hear(self, status: dict[str, Any]) -> None:
        """The master sent its status."""
        self._status = status
        self._heard_at = self._clock()

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        """One request."""
        method, path = environ["REQUEST_METHOD"], environ.get("PATH_INFO", "")
        page, operation = self._pages.get(path), self._operations.get(path)
        allowed = ("POST",) if operation and operation.method == "POST" else ("GET", "HEAD")
        if page is None and operation is None:
            status, kind, body, extra = _json("404 Not Found", {"error": "no such page"})
        elif method not in allowed:
            status, kind, body, extra = _json("405 Method Not Allowed", {"error": f"{' and '.join(allowed)} only"})
            extra = [("Allow", ", ".join(allowed))]
        elif operation is not None:
            status, kind, body, extra = self._operate(operation, environ)
        else:
            assert page
            status, kind, body, extra = page(environ)
        length = ("Content-Length", str(len(body)))
        start_response(status, [("Content-Type", kind), length, ("Cache-Control", "no-store"), *extra])
        return [b"" if method == "HEAD" else body]

    def _operate(self, operation: Operation, environ: Environ) -> Answer:
        if not self._access.open:
            return _json("403 Forbidden", {"error": "there is no token; see token_file of [admin]"})
        if not self._access.host_known(environ):
            return _foreign_host()
        if not self._access.token_shown(environ):
            status, kind, body, _ = _json("401 Unauthorized", {"error": "needs the token"})
            return status, kind, body, [("WWW-Authenticate", "Bearer")]
        return _json(*operation(environ))

    def faults(self) -> list[str]:
        """Why we are not ready; [] when we are."""
        if not self._status:
            return ["the master has said nothing yet"]
        found = self._master_faults()
        if self._status["state"] != "running":
            found.append("draining")
        workers = [row for row in self._status["children"] if row["kind"] == "worker"]
        found += [f"slot {row['index']}: no worker accepts" for row in workers if not row["accepting"]]
        if not self._status["store"]["answered"]:
            found.append("the store has not answered yet")
        return found

    def _master_faults(self) -> list[str]:
        silent_s = self._clock() - self._heard_at
        return [f"the master has been silent for {silent_s:.0f} s"] if silent_s > SILENCE_S else []

    def _livez(self, _environ: Environ) -> Answer:
        faults = self._master_faults()
        return _json("503 Service Unavailable" if faults else "200 OK", {"live": not faults, "reasons": faults})

    def _readyz(self, _environ: Environ) -> Answer:
        faults = self.faults()
        return _json("503 Service Unavailable" if faults else "200 OK", {"ready": not faults, "reasons": faults})

    def _metrics_page(self, _environ: Environ) -> Answer:
        now = self._clock()
        if now - self._metrics_at >= METRICS_CACHE_S:
            self._metrics = generate_latest(self._registry)
            self._metrics_at = now
        return "200 OK", METRICS, self._metrics, []

    def _status_page(self, environ: Environ) -> Answer:
        if not self._access.host_known(environ):
            return _foreign_host()
        if not _is_loopback(_client(environ)) and not self._access.token_shown(environ):
            return _json("403 Forbidden", {"error": "from loopback only, or with the token"})
        return _json("200 OK", self._status)


class _Files(Collector):
    """What all processes wrote."""

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def collect(self) -> Iterator[Metric]:
        # A file is empty for the moment between its creation and its first growth.
        files = [entry.path for entry in os.scandir(self._directory) if entry.name.endswith(".db") and _size(entry)]
        yield from MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call]


class _Master(Collector):
    """What only the master knows."""

    def __init__(self, admin: Admin) -> None:
        self._admin = admin

    def collect(self) -> Iterator[Metric]:
        return of_master(self._admin.status) if self._admin.status else iter(())


def _size(entry: os.DirEntry[str]) -> int:
    try:
        return Path(entry.path).stat().st_size
    except FileNotFoundError:
        return 0  # the gauge of a process that just ended


def _json(status: str, content: dict[str, Any]) -> Answer:
    return status, JSON, json.dumps(content).encode() + b"\n", []


def _foreign_host() -> Answer:
    return _json("421 Misdirected Request", {"error": "Host is not one of ours; see hosts of [admin]"})


def _client(environ: Environ) -> str:
    """The peer's address; "" on a Unix socket. Headers of proxies are not asked: anybody can write them."""
    return str(environ.get("REMOTE_ADDR") or "")


def _is_loopback(address: str) -> bool:
    if not address:
        return True  # who can open our Unix socket is let in by its permissions
    found = ipaddress.ip_address(address.partition("%")[0])
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return (mapped or found).is_loopback
