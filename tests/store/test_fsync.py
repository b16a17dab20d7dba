"""S2: no hand-over returns before its fdatasync ended, and none whose fdatasync failed. kill -9 proves nothing of this:
the page cache survives it. strace delays or breaks the store's own fdatasync.
"""

from __future__ import annotations

import contextlib
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest

from mta_front.store.errors import StoreError
from mta_front.store.spool import Spool
from tests.needs import program
from tests.processes import Program
from tests.store.parts import a_body, put, until
from tests.stores import Store

DELAY_S = 0.5


class Traced:
    """strace on a store."""

    def __init__(self, store: Store, directory: Path, injection: str) -> None:
        self.trace = directory / "trace"
        strace = program("strace")
        argv = [strace, "-f", "-ttt", "-T", "-e", "trace=fdatasync", "-e", f"inject=fdatasync:{injection}"]
        self._strace = Program(
            [*argv, "-o", str(self.trace), "-p", str(store.pid)], directory / "strace.log", directory
        )
        self._strace.start()
        until(lambda: "attached" in self._strace.log_text(), message="strace to attach")

    def fdatasyncs(self) -> list[tuple[float, float]]:
        """Begin and end (unix s) of those that ended."""
        found = []
        for line in self.trace.read_text().splitlines():
            match = re.match(r"\d+ +([\d.]+) .*fdatasync.*<([\d.]+)>$", line)
            if match and "resumed" not in line:
                found.append((float(match[1]), float(match[1]) + float(match[2])))
        return found

    def leave(self) -> None:
        """Stop tracing. (A strace whose process died of an injected error does not always end by itself.)"""
        if self._strace.running():
            self._strace.signal(signal.SIGINT)
            with contextlib.suppress(AssertionError):
                self._strace.wait(1.0)
            self._strace.kill()


@pytest.fixture
def trace(tmp_path: Path) -> Iterator[Callable[[Store, str], Traced]]:
    """`trace(store, "delay_enter=500000")`."""
    made: list[Traced] = []

    def start(store: Store, injection: str) -> Traced:
        made.append(Traced(store, tmp_path, injection))
        return made[-1]

    yield start
    for each in made:
        each.leave()


def timed_put(spool: Spool, body: bytes) -> tuple[float, float]:
    """When (unix s) it was handed over, and when that returned."""
    upload_began = time.time()
    put(spool, body)
    return upload_began, time.time()


@pytest.mark.parametrize("size_bytes", [4_000, 300_000])
def test_no_hand_over_returns_before_its_fdatasync_ended(
    size_bytes: int, store: Store, make_spool: Callable[..., Spool], trace: Callable[[Store, str], Traced]
) -> None:
    spool = make_spool(store, timeout_ms=10_000)
    traced = trace(store, f"delay_enter={int(DELAY_S * 1_000_000)}")
    began = time.time()
    puts = [gevent.spawn(timed_put, spool, a_body(size_bytes)) for _ in range(5)]
    gevent.joinall(puts, timeout=20, raise_error=True)
    traced.leave()
    fdatasyncs = traced.fdatasyncs()
    assert fdatasyncs
    for each in puts:
        _, returned = each.value
        covering = [end for begin, end in fdatasyncs if begin >= began and end <= returned]
        assert covering, "a hand-over returned before any fdatasync that began after it had ended"
        assert returned - began >= DELAY_S
    assert len(fdatasyncs) <= 8, "greenlets share them"


@pytest.mark.parametrize("kind", ["redis"], indirect=True)
def test_everysec_returns_earlier_so_the_test_above_sees_something(
    make_store: Callable[..., Store], make_spool: Callable[..., Spool], trace: Callable[[Store, str], Traced]
) -> None:
    """The counter-proof; such a store is refused unless nothing better is asked for."""
    store = make_store(appendfsync="everysec")
    spool = make_spool(store, durability="memory")
    traced = trace(store, f"delay_enter={int(DELAY_S * 1_000_000)}")
    began, returned = timed_put(spool, b"hello")
    assert returned - began < DELAY_S / 2
    traced.leave()


def test_an_fdatasync_that_fails_is_never_success(
    store: Store, make_spool: Callable[..., Spool], trace: Callable[[Store, str], Traced]
) -> None:
    spool = make_spool(store, timeout_ms=2_000)
    traced = trace(store, "error=EIO")
    outcomes: list[Any] = []

    def attempt() -> None:
        try:
            outcomes.append(put(spool))
        except StoreError as error:
            outcomes.append(error)

    gevent.joinall([gevent.spawn(attempt) for _ in range(5)], timeout=5, raise_error=True)
    assert len(outcomes) == 5
    assert [each for each in outcomes if not isinstance(each, StoreError)] == []
    traced.leave()
    until(lambda: not store.running(), message="a store that cannot fsync to stop")
