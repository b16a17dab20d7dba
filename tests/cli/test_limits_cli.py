"""`mta-front limits` and the same over HTTP, at a running server: what sessions hold is seen, bans reach them."""

from __future__ import annotations

import http.client
import json
import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.cli.running import Result, put, run
from tests.front import Front
from tests.ports import free_port
from tests.smtp_talk import Talk
from tests.stores import Store
from tests.wait import until

TOKEN = "Kanarienvogel-4711"
DISCARD = {"recipients": ["*"], "transport": "discard"}
LIMITS: dict[str, Any] = {
    "exempt": [],
    "connections": {"per_address": 7},
    "connection_rate": {"per_address": "60/1h"},
    # However busy the machine is, the workers ask the store: what they know alone is tested elsewhere.
    "timeout_ms": 10_000,
    "slow_ms": 10_000,
}


class Desk:
    """The command line and the admin port of one server."""

    def __init__(self, front: Front) -> None:
        self.front = front

    def run(self, *arguments: str) -> Result:
        """`mta-front limits ARGUMENTS -c FILE`."""
        return run(self.front.directory, "limits", *arguments, "-c", str(self.front.file))

    def items(self, *arguments: str) -> list[dict[str, Any]]:
        """The same with --json."""
        result = self.run(*arguments, "--json")
        assert result.code == 0, result.lines
        return list(json.loads(result.out)["items"])

    def http(self, path: str, body: object = None) -> tuple[int, dict[str, Any]]:
        """GET, or POST with a body."""
        host, _, port = self.front.settings["admin"]["bind"].rpartition(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=10.0)
        try:
            headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
            octets = None if body is None else json.dumps(body)
            connection.request("GET" if body is None else "POST", path, octets, headers)
            response = connection.getresponse()
            return response.status, dict(json.loads(response.read()))
        finally:
            connection.close()

    def greeting(self) -> int:
        """What a new client hears first."""
        with Talk(self.front.address) as talk:
            return talk.reply().code


@pytest.fixture
def desk(serve: Callable[..., Front]) -> Desk:
    """A server with its embedded store, whose limits hold on loopback too."""
    admin = {"bind": f"127.0.0.1:{free_port()}", "token": TOKEN}
    return Desk(serve(DISCARD, limits=LIMITS, admin=admin, listener={"socket_timeout_s": 300.0}))


def test_what_sessions_hold_is_seen(desk: Desk) -> None:
    with ExitStack() as stack:
        for _ in range(3):
            assert stack.enter_context(Talk(desk.front.address)).reply().code == 220
        held: dict[str, Any] = {"kind": "count", "rule": "connections.per_address", "key": "127.0.0.1", "scope": ""}
        held |= {"used": 3, "limit": "7", "ends_at": 0.0}
        # A worker that has just started may know of its first sessions alone for a moment.
        until(lambda: held in desk.items("list", "connections"), 20, "all are counted")
        assert desk.items("top", "connections") == [held]
        assert held in desk.items("show", "127.0.0.1")
        shown = desk.run("show", "127.0.0.1")
        [row] = [line.split() for line in shown.out.splitlines() if line.startswith("connections.per_address")]
        assert row == ["connections.per_address", "127.0.0.1", "-", "3", "7", "-"]
        assert held in desk.http("/limits/show?key=127.0.0.1")[1]["items"]
        assert desk.http("/limits/top?group=connections&count=1") == (200, {"items": [held]})
        rated = desk.run("list", "connection_rate")
        assert "60/1h" in rated.out
    until(lambda: not desk.items("list", "connections"), 20, "what was held is given back")


@pytest.mark.parametrize("key", ["127.0.0.1", "127.0.0.0/8"])
def test_a_ban_reaches_the_next_session_and_is_lifted(desk: Desk, key: str) -> None:
    assert desk.greeting() == 220
    began = time.time()
    [made] = desk.items("ban", key, "--reason", "spam \x1b[2J", "--for", "90s")
    assert (made["kind"], made["subject"], made["key"]) == ("ban", "address", key)
    assert began + 85 < made["ends_at"] < began + 120
    assert desk.greeting() == 421
    listed = desk.run("list")
    assert listed.code == 0
    head, row = listed.out.splitlines()
    assert head.split() == ["SUBJECT", "BANNED", "ENDS", "IN", "REASON"]
    assert row.startswith("address  ")
    assert row.endswith(r"spam \x1b[2J"), "no control characters reach the terminal"
    assert desk.items("list", "bans") == desk.items("show", "127.0.0.1")[:1] == [made]
    lifted = desk.run("unban", key)
    assert (lifted.code, lifted.out, lifted.lines) == (0, "", [])
    assert desk.greeting() == 220
    again = desk.run("unban", key)
    assert (again.code, again.lines) == (os.EX_DATAERR, [f"{key}: there is no such ban"])
    assert json.loads(desk.run("unban", key, "--json").out) == {"found": False}
    assert desk.run("list").out == "nothing\n"


def test_bans_over_http(desk: Desk) -> None:
    ban = {"subject": "address", "key": "127.0.0.1", "reason": "spam", "seconds": 60}
    status, content = desk.http("/limits/ban", ban)
    assert (status, content["ban"]["key"], content["ban"]["reason"]) == (200, "127.0.0.1", "spam")
    assert desk.greeting() == 421
    assert desk.http("/limits/list") == (200, {"items": [content["ban"]], "cursor": ""})
    assert desk.items("list") == [content["ban"]]
    lift = {"subject": "address", "key": "127.0.0.1"}
    assert desk.http("/limits/unban", lift) == (200, {"found": True})
    assert desk.http("/limits/unban", lift) == (200, {"found": False})
    assert desk.greeting() == 220
    log = desk.front.log_tail()
    assert '"event":"banned"' in log
    assert '"event":"unbanned"' in log


def test_bans_that_are_none(desk: Desk) -> None:
    changes: list[dict[str, Any]] = [
        {"subject": "pet"},
        {"key": "127.0.0.0/7"},
        {"key": "127.0.0"},
        {"key": ""},
        {"reason": " "},
        *({"seconds": seconds} for seconds in (0, -1, 10**400, float("nan"), float("inf"))),
    ]
    for change in changes:
        ban = {"subject": "address", "key": "127.0.0.1", "reason": "spam", "seconds": 60} | change
        status, content = desk.http("/limits/ban", ban)
        assert (status, list(content)) == (400, ["error"]), (change, content)
    assert desk.http("/limits/list") == (200, {"items": [], "cursor": ""})


WRONG: list[tuple[list[str], str]] = [
    (["list", "nonsense"], "nonsense: no such group; there are bans, lockouts, connections"),
    (["top", "bans"], "bans: no such group; there are connections"),
    (["list", "--cursor", "nonsense"], "that is no cursor of ours"),
    (["ban", "126.0.0.0/7", "--reason", "x"], "126.0.0.0/7: a network must be one of /8, /16, /24, /32"),
    (["ban", "127.0.0.1/8", "--reason", "x"], "127.0.0.1/8 has host bits set"),
    (["ban", "127.0.0.256", "--reason", "x"], "127.0.0.256: is no address"),
    (["ban", "127.0.0.1", "--reason", ""], "a ban must have a reason of 1 to 320 characters"),
    (["ban", "127.0.0.1", "--reason", "x", "--for", "1y"], "must be a time like 90s, 30m, 12h or 7d"),
    (["ban", "127.0.0.1", "--reason", "x", "--for", "0s"], "must be a time like 90s, 30m, 12h or 7d"),
    (["ban", "127.0.0.1"], "--reason"),
    (["list", "-n", "0"], "--count"),
    (["show", ""], "must be an address"),
]


class TestWithoutAServer:
    """Which Redis is asked, and what is said when it is not there."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        """A Redis of the test's own."""
        return Store("redis", tmp_path / "redis").start()

    def test_the_embedded_store_of_no_server(self, tmp_path: Path) -> None:
        put(tmp_path, f"[server]\ndata_dir = '{tmp_path}/var'\n")
        result = run(tmp_path, "limits", "list")
        words = (
            f"the limits' Redis: {tmp_path}/var/store/valkey.sock: No such file or directory; is the server running?"
        )
        assert (result.code, result.lines) == (os.EX_UNAVAILABLE, [words])

    def test_a_redis_that_is_not_there(self, tmp_path: Path) -> None:
        put(tmp_path, f"[limits]\nurl = 'redis://u:hunter2@127.0.0.1:{free_port()}/0'\n")
        result = run(tmp_path, "limits", "list")
        assert result.code == os.EX_UNAVAILABLE
        [line] = result.lines
        assert line.startswith("the limits' Redis: ")
        assert "hunter2" not in line

    def test_settings_with_faults(self, tmp_path: Path) -> None:
        put(tmp_path, "[limits]\nurll = ''\n")
        result = run(tmp_path, "limits", "list")
        fault = "mta-front.toml:2: limits.urll: unknown key; did you mean limits.url?"
        assert (result.code, result.lines) == (os.EX_CONFIG, [fault])

    @pytest.mark.parametrize("section", ["store", "limits"])
    def test_a_redis_of_ours(self, tmp_path: Path, store: Store, section: str) -> None:
        put(tmp_path, f"[{section}]\nurl = '{store.url}'\n")
        assert run(tmp_path, "limits", "ban", "alice", "--reason", "stolen", "--for", "7d").code == 0
        listed = run(tmp_path, "limits", "list")
        [_, row] = [line.split() for line in listed.out.splitlines()]
        assert (row[:2], row[3:]) == (["user", "alice"], ["stolen"])
        assert row[2] in ("7d00h", "6d23h")
        assert run(tmp_path, "limits", "unban", "alice").code == 0

    def test_pages(self, tmp_path: Path, store: Store) -> None:
        put(tmp_path, f"[limits]\nurl = '{store.url}'\n")
        for number in range(5):
            run(tmp_path, "limits", "ban", f"192.0.2.{number}", "--reason", "spam")
        seen: list[str] = []
        more: list[str] = []
        for _ in range(3):
            result = run(tmp_path, "limits", "list", "-n", "2", *more)
            rows = result.out.splitlines()[1:]
            seen += [row.split()[1] for row in rows]
            more = result.lines[0].removeprefix("there is more: ").split() if result.lines else []
        assert sorted(seen) == [f"192.0.2.{number}" for number in range(5)]
        assert not more

    def test_wrong_usage(self, tmp_path: Path, store: Store) -> None:
        put(tmp_path, f"[limits]\nurl = '{store.url}'\n")
        for arguments, words in WRONG:
            result = run(tmp_path, "limits", *arguments)
            assert result.code == os.EX_USAGE, (arguments, result.out, result.lines)
            assert words in " ".join(result.lines), (arguments, result.lines)
            assert "Traceback" not in " ".join(result.lines)

    def test_a_ban_where_none_holds(self, tmp_path: Path, store: Store) -> None:
        put(tmp_path, f"[limits]\nurl = '{store.url}'\nexempt = ['10.0.0.0/8', '2001:db8::/32']\n")
        for key in ("::ffff:10.0.0.1", "10.1.0.0/16", "2001:db8::1"):
            [line] = run(tmp_path, "limits", "ban", key, "--reason", "x").lines
            assert line == f"{key}: is in exempt of [limits], so that this ban refuses nobody"
        assert run(tmp_path, "limits", "ban", "11.0.0.1", "--reason", "x").lines == []

    def test_a_user_whose_name_looks_like_an_address(self, tmp_path: Path, store: Store) -> None:
        put(tmp_path, f"[limits]\nurl = '{store.url}'\n")
        assert run(tmp_path, "limits", "ban", "192.0.2.1", "--user", "--reason", "x").code == 0
        assert json.loads(run(tmp_path, "limits", "list", "--json").out)["items"][0]["subject"] == "user"
        assert run(tmp_path, "limits", "unban", "192.0.2.1").code == os.EX_DATAERR
        assert run(tmp_path, "limits", "unban", "192.0.2.1", "--user").code == 0

    def test_a_frozen_redis(self, tmp_path: Path, store: Store) -> None:
        put(tmp_path, f"[limits]\nurl = '{store.url}'\n")
        store.stop()
        began = time.monotonic()
        assert run(tmp_path, "limits", "list").code == os.EX_UNAVAILABLE
        assert time.monotonic() - began < 15.0
        store.go_on()
