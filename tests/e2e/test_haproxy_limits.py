"""Limits behind HAProxy are the client's, and none of its checks spends them."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests import front
from tests.haproxy import Balancer, Caller, listen
from tests.ports import free_port

CLIENT, ANOTHER = "127.0.1.7", "127.0.1.8"
AT_ONCE = 2


@pytest.mark.parametrize("send", ["send-proxy", "send-proxy-v2"])
def test_a_client_is_held_to_its_limits_and_haproxy_is_not(tmp_path: Path, send: str) -> None:
    port, behind = free_port(), free_port()
    listener = {"name": "mx", "bind": [f"127.0.0.1:{port}"], "use_proxy": ["127.0.0.1/32"], "reverse_lookup": False}
    front.make(
        tmp_path,
        {"recipients": ["*"], "transport": "discard"},
        listeners=[listener | {"auth_optional": True, "relay_domains": ["ours.example"]}],
        limits={
            "exempt": ["192.0.2.0/24"],  # not ours
            "connections": {"per_address": AT_ONCE},
            "connection_rate": {"per_address": "8/1h"},
        },
        log={"level": "debug"},
    ).start()
    checks = "check check-send-proxy inter 100ms fall 1 rise 1"
    door = listen("mx", behind, {"a": port}, "option smtpchk EHLO haproxy.check", server=f"{checks} {send}")
    balancer = Balancer(tmp_path, door).start()
    balancer.await_status("mx", {"a": "UP"})
    with ExitStack() as stack:
        for source in (CLIENT, ANOTHER):
            for _ in range(AT_ONCE):
                stack.enter_context(Caller(behind, source)).greeting()
            with Caller(behind, source) as one_more:
                assert one_more.reply().code == 421
                assert one_more.ended()
    ends_at = time.monotonic() + 2.0  # 20 checks, and 8 connections in an hour are allowed
    while time.monotonic() < ends_at:
        row = balancer.stat("mx", "a")
        assert (row["status"], row["chkfail"]) == ("UP", "0")
        time.sleep(0.1)  # this is how long it is to last, not a wait for something
