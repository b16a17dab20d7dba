"""The Redis of limits frozen, slow, refusing, full, read-only: nobody waits long, and each limit does what it says."""

from __future__ import annotations

import re
import signal
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.limits.fleet import CLIENT, a_front, changes, codes, greeted, limits, mode, rush
from tests.limits.slowly import Slowly
from tests.limits.visits import Visits
from tests.stores import Store
from tests.wait import until

TIMEOUT_S = 0.25  # limits.timeout_ms, as it is by default
LATER_S = 0.005
BUSY_S = 0.1  # what a loaded machine may add to one wait


class Limited:
    """A front whose limits are in a Redis of their own, behind a way that may become slow."""

    def __init__(self, directory: Path) -> None:
        mail = Store("redis", directory / "mail").start()
        self.store = Store("redis", directory / "limits", maxmemory="64mb").start()
        self.slowly = Slowly(directory, self.store.socket, delay_ms=200).start()
        given = limits(
            url=self.slowly.url,
            timeout_ms=int(TIMEOUT_S * 1000),
            slow_ms=100,  # as it is by default, too
            connections={"per_address": 50, "per_user": 0, "store_down": "local"},
            messages={"per_address": "1000/1m", "store_down": "closed"},
            recipients={"per_address": "1/1h", "store_down": "open"},
        )
        self.front = a_front(directory / "pod", mail, given).start()
        until(lambda: 'mta_front_store_up{purpose="limits"} 1.0' in self._metrics(), 10.0, "its Redis is there")

    def decided(self, rule: str, decision: str, mode: str) -> int:
        """How many decisions there were."""
        labels = {f'rule="{rule}"', f'decision="{decision}"', f'mode="{mode}"'}
        lines = (line for line in self._metrics().splitlines() if line.startswith("mta_front_limit_decisions_total{"))
        return sum(
            int(float(line.rpartition(" ")[2])) for line in lines if labels <= set(re.findall(r'\w+="[^"]*"', line))
        )

    def _metrics(self) -> str:
        return self.front.get("/metrics")[1]


@contextmanager
def frozen(limited: Limited) -> Iterator[None]:
    limited.store.stop()
    yield
    limited.store.go_on()


@contextmanager
def slow(limited: Limited) -> Iterator[None]:
    limited.slowly.signal(signal.SIGUSR1)
    yield
    limited.slowly.signal(signal.SIGUSR2)


@contextmanager
def refusing(limited: Limited) -> Iterator[None]:
    limited.store.kill_now()
    yield
    limited.store.start()


@contextmanager
def full(limited: Limited) -> Iterator[None]:
    limited.store.ask("CONFIG", "SET", "maxmemory", "1")
    yield
    limited.store.ask("CONFIG", "SET", "maxmemory", "64mb")


@contextmanager
def readonly(limited: Limited) -> Iterator[None]:
    limited.store.ask("REPLICAOF", "127.0.0.1", "1")
    yield
    limited.store.ask("REPLICAOF", "NO", "ONE")


HOW = {how.__name__: how for how in (frozen, slow, full, readonly, refusing)}


def test_nobody_waits_for_a_redis_that_is_away(tmp_path: Path, full: bool, figures: Callable[[str], None]) -> None:
    """At most 250 ms more in the first second, 5 ms more afterwards, and it comes back by itself, each time."""
    limited = Limited(tmp_path)
    with Visits(limited.front) as visits:
        played = list(HOW) if full else list(HOW)[:3]  # the others are like `full`
        for how in played:
            figures(_outage(how, limited, visits, 10.0 if full else 1.7))
    assert changes(limited.front) == ["degraded", "shared"] * len(played)
    changed = limited.front.metric("mta_front_limits_mode_changes_total")
    assert changed == 2 * len(played)
    assert limited.decided("connections", "allowed", "local") > 0


def _outage(how: str, limited: Limited, visits: Visits, outage_s: float) -> str:
    """One of them, judged; its figures."""
    began_at = time.monotonic()
    visits.await_more(60)
    with HOW[how](limited):
        away_at = time.monotonic()
        until(lambda: mode(limited.front) == "degraded", 5.0, "limits are degraded")
        until(lambda: time.monotonic() > away_at + outage_s, outage_s + 5.0)
        end_at = time.monotonic()
    back_at = time.monotonic()
    until(lambda: mode(limited.front) == "shared", 10.0, "limits are shared again")
    shared_at = time.monotonic()
    visits.await_more(20)
    usual_s = statistics.median(visits.waits_s(began_at, away_at))
    first, later = visits.waits_s(away_at, away_at + 1.0), visits.waits_s(away_at + 1.0, end_at)
    visits.waits_s(end_at, time.monotonic())  # nobody is refused when it comes back
    assert max(first) - usual_s <= TIMEOUT_S + BUSY_S
    assert statistics.median(later) - usual_s <= LATER_S
    return (
        f"{how} for {outage_s} s: usually {usual_s * 1000:.1f} ms, in the first second at most "
        f"{max(first) * 1000:.1f}, later {statistics.median(later) * 1000:.1f} (at most {max(later) * 1000:.1f}); "
        f"shared again {shared_at - back_at:.1f} s after it was back"
    )


def test_each_limit_does_what_it_says(tmp_path: Path) -> None:
    limited = Limited(tmp_path)
    front = limited.front
    with greeted(front) as before:
        before.expect("MAIL FROM:<a@client.example>", 250)
        before.expect("RCPT TO:<b@ours.example>", 250)
        assert str(before.command("RCPT TO:<c@ours.example>")).startswith("450 4.7.1")
        with frozen(limited):
            before.expect("RCPT TO:<c@ours.example>", 250)  # open; the first who asks finds it away
            assert mode(limited.front) == "degraded"
            before.expect("RSET", 250)
            assert str(before.command("MAIL FROM:<a@client.example>")).startswith("450 4.7.1")  # closed
            with rush([front], [CLIENT] * 100) as talks:  # local: one worker, all of the limit; one is in already
                assert codes(talks).count(220) == 49
        until(lambda: mode(limited.front) == "shared", 10.0, "limits are shared again")
        before.expect("MAIL FROM:<a@client.example>", 250)
        assert str(before.command("RCPT TO:<c@ours.example>")).startswith("450 4.7.1")
        with rush([front], [CLIENT] * 100) as talks:
            assert codes(talks).count(220) == 49
    for rule, decision, how in [
        ("recipients.per_address", "refused", "shared"),
        ("recipients", "allowed", "open"),
        ("messages.per_address", "refused", "closed"),
        ("connections.per_address", "refused", "local"),
    ]:
        assert limited.decided(rule, decision, how) > 0, (rule, decision, how)
