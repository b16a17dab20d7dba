"""HAProxy's checks, each second: servers stay up, and nothing of it is seen where people look for their mail."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests import front
from tests.haproxy import Balancer, Caller, listen
from tests.ports import free_port
from tests.tls.authority import Authority
from tests.wait import until

EACH_SECOND = "check inter 1s fall 2 rise 1 agent-check agent-inter 1s agent-port {agent}"
BANNER = "tcp-check expect rstring ^220"

SMTPCHK = "option smtpchk EHLO haproxy.check"
V2 = "send-proxy-v2 check-send-proxy"
V1 = "send-proxy check-send-proxy"

Checks = dict[str, tuple[str, list[str], str]]

VERSION_2: Checks = {
    # name: (listener, lines, server options)
    "smtpchk": ("mx", [SMTPCHK], V2),
    "helo": ("mx", ["option smtpchk HELO haproxy.check"], "send-proxy-v2-ssl-cn check-send-proxy"),
    "connect": ("mx", [], V2),
    "banner": ("mx", ["option tcp-check", BANNER], V2),
    "quit": ("mx", ["option tcp-check", BANNER, r"tcp-check send QUIT\r\n", "tcp-check expect string 221"], V2),
    "noop": ("mx", ["option tcp-check", BANNER, r"tcp-check send NOOP\r\n", "tcp-check expect string 250"], V2),
    "login": ("submission", [SMTPCHK], V2),
    "tls": ("submissions", [SMTPCHK], f"{V2} check-ssl verify none"),
    "tls-connect": ("submissions", [], f"{V2} check-ssl verify none"),
}

VERSION_1: Checks = {
    "smtpchk": ("mx", [SMTPCHK], V1),
    "connect": ("mx", [], V1),
    "banner": ("mx", ["option tcp-check", BANNER], V1),
}
"""Version 1 cannot say LOCAL: HAProxy names its own end of the connection as the client, which no client is."""

QUIET_S, QUIET_FULL_S = 60.0, 300.0

COUNTERS = re.compile(
    r"^(mta_front_(?:sessions|messages|commands|logins|tls_failures|proxy|faults)\S*) (\S+)$", re.MULTILINE
)


def counters(server: front.Front) -> dict[str, float]:
    """What is counted of sessions, messages and failures."""
    text = server.get("/metrics")[1]
    return {name: float(value) for name, value in COUNTERS.findall(text)}


def loud(server: front.Front) -> list[dict[str, Any]]:
    """Log lines about clients, whatever their level, and all that is not good news."""
    rows = [json.loads(row) for row in server.log_text().splitlines() if row.startswith("{")]
    about_clients = ("session", "TLS", "PROXY", "command", "message")
    return [row for row in rows if row["level"] not in {"debug", "info"} or str(row["event"]).startswith(about_clients)]


@dataclass(frozen=True)
class Checked:
    """A master, and HAProxy that checks it in each of these ways each second."""

    server: front.Front
    balancer: Balancer
    doors: dict[str, int]

    def await_checked(self) -> None:
        """Until each check and each question to the agent was answered once."""

        def answered(name: str) -> bool:
            row = self.balancer.stat(name, "a")
            return row["check_status"] in {"L4OK", "L6OK", "L7OK"} and row["agent_status"] == "L7OK"

        for name in self.doors:
            until(partial(answered, name), 15.0, f"{name} was checked", every_s=0.05)

    def assert_up(self) -> None:
        """No check has failed so far."""
        for name in self.doors:
            row = self.balancer.stat(name, "a")
            assert (row["status"], row["chkfail"], row["chkdown"], row["weight"]) == ("UP", "0", "0", "100"), name


def checked(directory: Path, checks: Checks) -> Checked:
    """Start both."""
    pair = Authority().issue("mx.ours.example")
    key, cert = pair.files(directory, "server")
    ports = {name: free_port() for name in ("mx", "submission", "submissions")}
    agent = free_port()
    common = {"use_proxy": ["127.0.0.1/32"], "relay_domains": ["ours.example"], "reverse_lookup": True}
    server = front.make(
        directory,
        {"recipients": ["*"], "transport": "discard"},
        listeners=[
            common | {"name": "mx", "bind": [f"127.0.0.1:{ports['mx']}"], "auth_optional": True, "greet_delay_s": 0.3},
            common | {"name": "submission", "bind": [f"127.0.0.1:{ports['submission']}"], "needs_upgrade": True},
            common | {"name": "submissions", "bind": [f"127.0.0.1:{ports['submissions']}"], "secure": True},
        ],
        tls={"key": str(key), "cert": str(cert)},
        auth={"backends": ["hook"]},
        hooks={"class": "tests.e2e.hooks_that_tell:Telling"},
        server={"drain_grace_s": 2.0},
        admin={"agent_check": f"127.0.0.1:{agent}"},
        log={"level": "debug"},
    ).start()
    doors = {name: free_port() for name in checks}
    sections = [
        listen(name, doors[name], {"a": ports[to]}, *lines, server=f"{EACH_SECOND.format(agent=agent)} {options}")
        for name, (to, lines, options) in checks.items()
    ]
    return Checked(server, Balancer(directory, *sections).start(), doors)


@pytest.mark.slow
@pytest.mark.timeout(QUIET_FULL_S + 120)
@pytest.mark.parametrize(
    ("checks", "lasts_s"),
    [
        pytest.param(VERSION_2, QUIET_S, id="version 2"),
        pytest.param(VERSION_1, QUIET_S / 3, id="version 1"),
    ],
)
def test_checks_are_silent_and_servers_stay_up(
    tmp_path: Path, checks: Checks, lasts_s: float, full: bool, figures: Callable[[str], None]
) -> None:
    site = checked(tmp_path, checks)
    site.await_checked()
    server, before, said = site.server, counters(site.server), loud(site.server)
    lasts_s = QUIET_FULL_S if full else lasts_s
    ends_at, looks = time.monotonic() + lasts_s, 0
    while time.monotonic() < ends_at:
        site.assert_up()
        looks += 1
        time.sleep(1.0)  # this is the test's length, not a wait for something
    assert counters(server) == before, "a check moved a counter"
    assert loud(server) == said
    assert not (tmp_path / "notes.jsonl").exists(), (tmp_path / "notes.jsonl").read_text("utf-8")
    figures(f"{lasts_s:.0f} s of {len(checks)} checks and as many of the agent each second: {looks} looks, all UP")

    # The instruments work: a client behind the same door is counted, logged, and known to the hooks.
    with Caller(site.doors["smtpchk"], "127.0.1.7") as caller:
        caller.greeting()
        caller.quit()
    until(lambda: counters(server) != before, message="a client is counted")
    until(lambda: loud(server) != said, message="and logged")
    assert "127.0.1.7" in (tmp_path / "notes.jsonl").read_text("utf-8")


def test_a_dead_server_is_found_by_each_check(tmp_path: Path) -> None:
    """They are not silent because they look at nothing."""
    site = checked(tmp_path, VERSION_2)
    site.await_checked()
    site.assert_up()
    site.server.kill()
    for name in site.doors:
        site.balancer.await_status(name, {"a": "DOWN"})
