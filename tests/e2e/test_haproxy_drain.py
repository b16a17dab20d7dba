"""Servers come and go behind HAProxy while clients send: nobody notices. The agent's word arrives before the end."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from tests import front
from tests.haproxy import Balancer, Caller, listen
from tests.load import Load
from tests.ports import free_port
from tests.smtp_talk import talk
from tests.wait import until

GRACE_S = 4.0
CHECK = "send-proxy-v2 check-send-proxy check inter 1s fall 2 rise 1"
AGENT = "agent-check agent-inter 1s"


class Master(front.Front):
    """One of the servers, with an agent port."""

    def __init__(self, directory: Path, **listener: object) -> None:
        directory.mkdir()
        self.port, self.agent = free_port(), free_port()
        fixed: dict[str, object] = {"name": "mx", "bind": [f"127.0.0.1:{self.port}"], "use_proxy": ["127.0.0.1/32"]}
        fixed |= {"auth_optional": True, "relay_domains": ["ours.example"], "reverse_lookup": False}
        tree = front.make(
            directory,
            {"recipients": ["*"], "transport": "discard"},
            listeners=[fixed | listener],
            server={"drain_grace_s": GRACE_S, "drain_timeout_s": 15.0},
            admin={"agent_check": f"127.0.0.1:{self.agent}"},
        ).settings
        super().__init__(directory, tree)

    def accepted(self) -> float:
        """Messages that it took."""
        return self.metric("mta_front_messages_accepted_total")


def balance(directory: Path, port: int, *masters: Master) -> Balancer:
    """HAProxy over these, as a, b, …; each has its own agent port."""
    name_of = dict(zip("abc", masters, strict=False))
    lines = ["balance roundrobin", "option smtpchk EHLO haproxy.check"]
    lines += [
        f"server {name} 127.0.0.1:{master.port} weight 100 {CHECK} {AGENT} agent-port {master.agent}"
        for name, master in name_of.items()
    ]
    return Balancer(directory, listen("smtp", port, {}, *lines)).start()


def test_a_server_leaves_and_comes_back_and_no_client_notices(tmp_path: Path, figures: Callable[[str], None]) -> None:
    a, b = Master(tmp_path / "a").start(), Master(tmp_path / "b").start()
    port = free_port()
    balancer = balance(tmp_path, port, a, b)
    balancer.await_status("smtp", {"a": "UP", "b": "UP"})
    load = Load(tmp_path, port, connections=8, rate=60, seconds=120, per_connection=2, sizes="1000").start()
    until(lambda: a.accepted() > 20 and b.accepted() > 20, 20.0, "both take mail")

    began_at = time.monotonic()
    a.signal(signal.SIGTERM)
    balancer.await_status("smtp", {"a": "DRAIN", "b": "UP"}, GRACE_S)
    drained_s = time.monotonic() - began_at
    assert a.running()
    assert drained_s < GRACE_S - 1.0, "HAProxy knew long before the first connection could be refused"
    sessions = int(balancer.stat("smtp", "a")["stot"])
    assert a.wait(20.0) == 0
    took_s = time.monotonic() - began_at
    assert int(balancer.stat("smtp", "a")["stot"]) == sessions, "no new connection after the word"
    balancer.await_status("smtp", {"a": "DOWN", "b": "UP"})
    elsewhere = b.accepted()
    until(lambda: b.accepted() > elsewhere + 20, 20.0, "b goes on alone")

    a.start()
    balancer.await_status("smtp", {"a": "UP", "b": "UP"})
    assert balancer.stat("smtp", "a")["weight"] == "100"
    before = a.accepted()
    until(lambda: a.accepted() > before + 20, 20.0, "a takes mail again")
    load.terminate(30.0)

    attempts = load.attempts()
    assert {each.outcome for each in attempts} == {"accepted"}, [
        each for each in attempts if each.outcome != "accepted"
    ]
    rows = {name: balancer.stat("smtp", name) for name in "ab"}
    assert [(row["econ"], row["eresp"], row["wretr"], row["wredis"]) for row in rows.values()] == [("0",) * 4] * 2
    figures(
        f"{len(attempts)} messages, each accepted at the first try; HAProxy knew {drained_s:.1f} s after TERM, "
        f"exit 0 after {took_s:.1f} s, no connection retried"
    )


def test_sessions_that_are_open_hear_421_only_after_the_grace(tmp_path: Path) -> None:
    """HAProxy keeps them; an idle one is told to come again, and then reaches the other server."""
    a, b = Master(tmp_path / "a").start(), Master(tmp_path / "b").start()
    port = free_port()
    balancer = balance(tmp_path, port, a, b)
    balancer.await_status("smtp", {"a": "UP", "b": "UP"})
    with ExitStack() as stack:
        sessions = [stack.enter_context(talk(("127.0.0.1", port))) for _ in range(4)]
        began_at = time.monotonic()
        a.signal(signal.SIGTERM)
        balancer.await_status("smtp", {"a": "DRAIN"}, GRACE_S)
        for session in sessions:
            session.expect("NOOP", 250)
        assert a.wait(20.0) == 0
        assert time.monotonic() - began_at > GRACE_S
        told = 0
        for session in sessions:
            answer = session.command("NOOP")
            if answer.code == 421:
                told += 1
                session.ended()
            else:
                assert answer.code == 250
        assert told == 2, "those on a"
        for _ in range(told):
            with talk(("127.0.0.1", port)) as again:
                again.quit()


def test_the_weight_is_what_is_free(tmp_path: Path) -> None:
    a = Master(tmp_path / "a", max_clients=20).start()
    port = free_port()
    balancer = balance(tmp_path, port, a)

    def weighs(weight: str) -> bool:
        return balancer.stat("smtp", "a")["weight"] == weight

    until(partial(weighs, "100"), message="idle: all of it")
    with ExitStack() as stack:
        for more, weight in ((10, "50"), (9, "5")):
            for _ in range(more):
                stack.enter_context(Caller(port, "127.0.1.7")).greeting()
            until(partial(weighs, weight), message=f"{more} sessions more: {weight}")
        assert balancer.stat("smtp", "a")["status"] == "UP", "nearly full, and in service"
    until(partial(weighs, "100"), message="all of it again")


def test_what_an_administrator_says_lasts_only_while_the_agent_is_not_asked(tmp_path: Path) -> None:
    """As docs/haproxy.md says: `ready` takes back any drain."""
    a = Master(tmp_path / "a").start()
    port = free_port()
    balancer = balance(tmp_path, port, a)
    balancer.await_status("smtp", {"a": "UP"})
    balancer.command("set server smtp/a state drain")
    balancer.await_status("smtp", {"a": "DRAIN"}, 1.0)
    balancer.await_status("smtp", {"a": "UP"})

    balancer.command("disable agent smtp/a; set server smtp/a state drain")
    asked_no_more_until = time.monotonic() + 3.0
    while time.monotonic() < asked_no_more_until:
        balancer.await_status("smtp", {"a": "DRAIN"}, 0.0)
        time.sleep(0.1)  # this is how long it is to last, not a wait for something
    balancer.command("enable agent smtp/a")
    balancer.await_status("smtp", {"a": "UP"})
