"""The admin's answers, without a server: `tests/master` asks it over HTTP."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mta_front.observe import admin as module
from mta_front.observe.admin import Admin

WORKER = {"kind": "worker", "index": 0, "state": "ready", "accepting": True}
READY: dict[str, Any] = {
    "state": "running",
    "children": [WORKER, WORKER | {"index": 1}],
    "store": {"answered": True, "embedded": False},
    "restarts": {},
}


class Asked:
    """One answer."""

    def __init__(self, admin: Admin, path: str, method: str = "GET", client: str = "127.0.0.1", **more: Any) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        environ = {"REQUEST_METHOD": method, "PATH_INFO": path, "REMOTE_ADDR": client, "HTTP_HOST": "127.0.0.1:9580"}
        environ |= more
        self.body = b"".join(admin(environ, self._start))

    def _start(self, status: str, headers: list[tuple[str, str]]) -> None:
        self.status = int(status[:3])
        self.headers = dict(headers)

    @property
    def reasons(self) -> list[str]:
        return list(json.loads(self.body)["reasons"])


class Clock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def admin(tmp_path: Path, clock: Clock) -> Admin:
    made = Admin(str(tmp_path), clock)
    made.hear(READY)
    return made


def test_ready(admin: Admin) -> None:
    assert Asked(admin, "/readyz").status == 200
    assert Asked(admin, "/livez").status == 200


@pytest.mark.parametrize(
    ("change", "reasons"),
    [
        ({"state": "draining"}, ["draining"]),
        ({"store": {"answered": False}}, ["the store has not answered yet"]),
        ({"children": [WORKER, WORKER | {"index": 1, "accepting": False}]}, ["slot 1: no worker accepts"]),
        (
            {"state": "draining", "children": [WORKER | {"accepting": False}], "store": {"answered": False}},
            ["draining", "slot 0: no worker accepts", "the store has not answered yet"],
        ),
    ],
)
def test_unready_says_why(admin: Admin, change: dict[str, Any], reasons: list[str]) -> None:
    admin.hear(READY | change)
    asked = Asked(admin, "/readyz")
    assert (asked.status, asked.reasons) == (503, reasons)
    assert Asked(admin, "/livez").status == 200, "not ready is no reason to be killed"


def test_before_the_first_word_of_the_master_nobody_is_ready(tmp_path: Path) -> None:
    admin = Admin(str(tmp_path))
    assert Asked(admin, "/readyz").reasons == ["the master has said nothing yet"]
    assert Asked(admin, "/livez").status == 200
    assert Asked(admin, "/metrics").status == 200


def test_a_silent_master_is_not_alive(admin: Admin, clock: Clock) -> None:
    clock.now += module.SILENCE_S + 1.0
    assert Asked(admin, "/livez").status == 503
    assert Asked(admin, "/readyz").reasons == ["the master has been silent for 11 s"]


def test_relays_alone_are_ready_without_slots(admin: Admin) -> None:
    admin.hear(READY | {"children": [{"kind": "relay", "index": 0, "state": "ready", "accepting": False}]})
    assert Asked(admin, "/readyz").status == 200


@pytest.mark.parametrize("client", ["127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1", ""])
def test_status_from_loopback(admin: Admin, client: str) -> None:
    asked = Asked(admin, "/status", client=client)
    assert (asked.status, json.loads(asked.body)) == (200, READY)


@pytest.mark.parametrize("client", ["192.0.2.1", "::ffff:192.0.2.1", "fe80::1%eth0", "2001:db8::1"])
def test_status_from_elsewhere(admin: Admin, client: str) -> None:
    assert Asked(admin, "/status", client=client).status == 403
    assert Asked(admin, "/readyz", client=client).status == 200


@pytest.mark.parametrize("path", ["/", "", "/metrics/", "//metrics", "/../status", "/Status"])
def test_nothing_else_is_there(admin: Admin, path: str) -> None:
    assert Asked(admin, path).status == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "get"])
def test_nothing_can_be_changed(admin: Admin, method: str) -> None:
    asked = Asked(admin, "/readyz", method)
    assert (asked.status, asked.headers["Allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics", "/status", "/none"])
def test_head_is_get_without_a_body(admin: Admin, path: str) -> None:
    head, get = Asked(admin, path, "HEAD"), Asked(admin, path)
    assert head.body == b""
    assert (head.status, head.headers) == (get.status, get.headers)


def test_metrics_are_read_once_a_second(admin: Admin, clock: Clock) -> None:
    first = Asked(admin, "/metrics").body
    assert b'mta_front_processes{kind="worker"} 2.0' in first
    admin.hear(READY | {"children": []})
    clock.now += module.METRICS_CACHE_S - 0.1
    assert Asked(admin, "/metrics").body == first
    clock.now += 0.1
    assert b'mta_front_processes{kind="worker"} 0.0' in Asked(admin, "/metrics").body
