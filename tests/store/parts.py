"""What the store's tests share: a recorder of events, messages to put in, and waiting that lets greenlets run.

The store's links need no monkey patching, so these tests run in an ordinary pytest: each test is the main greenlet.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, Self, TypeVar

import gevent

from mta_front.observe.events import Events
from mta_front.store.entry import Entry, Outcome
from mta_front.store.errors import StoreError
from mta_front.store.queue import Claim, Queue
from mta_front.store.spool import Spool, Upload

T = TypeVar("T")

SENDER, RECIPIENT = "sender@example.org", "recipient@example.net"
DELIVERED: dict[str, Outcome] = {RECIPIENT: {"outcome": "delivered", "code": 250}}
DEFERRED: dict[str, Outcome] = {RECIPIENT: {"outcome": "deferred", "code": 451, "text": "4.3.0 later"}}
FAILED: dict[str, Outcome] = {RECIPIENT: {"outcome": "failed", "code": 550, "text": "5.1.1 unknown"}}


class Recorder(Events):
    """Keeps what was reported."""

    def __init__(self) -> None:
        self.states: list[tuple[str, bool, str]] = []
        self.batches: list[int] = []
        self.replicas: list[tuple[int, int]] = []
        self.faults: list[BaseException] = []

    def store_state(self, purpose: str, up: bool, reason: str) -> None:
        """Keep it."""
        self.states.append((purpose, up, reason))

    def store_replicas(self, purpose: str, found: int, counted: int) -> None:
        """Keep it."""
        self.replicas.append((found, counted))

    def committed(self, batch: int, duration_s: float) -> None:
        """Keep it."""
        self.batches.append(batch)

    def fault(self, error: BaseException, where: str) -> None:
        """Keep it; a test fails at its end if there is one."""
        self.faults.append(error)


def until(condition: Callable[[], T], timeout_s: float = 5.0, message: str = "") -> T:
    """As `tests.wait.until`, and greenlets run meanwhile."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {message or condition}"
        gevent.sleep(0.002)
    return value


def an_entry(upload: Upload, **fields: Any) -> Entry:
    """An envelope for it."""
    usual: dict[str, Any] = {"received_at": time.time(), "mail_from": SENDER, "rcpt_to": [RECIPIENT]}
    return Entry(id=upload.id, **(usual | fields))


def put(
    spool: Spool, body: bytes = b"Subject: hello\r\n\r\nworld\r\n", piece_bytes: int = 60_000, **fields: Any
) -> str:
    """Put a message in, in pieces; its id."""
    upload = spool.open(fields.get("mail_from", SENDER), fields.get("rcpt_to", [RECIPIENT]))
    for start in range(0, len(body), piece_bytes):
        upload.write(body[start : start + piece_bytes])
    upload.commit(an_entry(upload, **fields))
    return upload.id


def a_body(size_bytes: int) -> bytes:
    """Lines that differ, so that a piece in the wrong place is seen."""
    lines, size = [], 0
    for number in range(size_bytes):
        line = b"%020d %s\r\n" % (number, b"x" * 54)
        lines.append(line)
        size += len(line)
        if size >= size_bytes:
            break
    return b"".join(lines)[:size_bytes]


def repeat(work: Callable[..., object], *args: Any, times: int = 1000) -> None:
    """Until it raises, letting greenlets run in between."""
    for _ in range(times):
        work(*args)
        gevent.sleep(0.001)


def taken(queue: Queue, count: int = 1) -> list[Claim]:
    """Exactly `count` new messages."""
    claims: list[Claim] = []
    until(lambda: len(claims.__iadd__(queue.take(100, 50))) >= count, message=f"{count} messages to take")
    assert len(claims) == count
    return claims


def claims_of(ask: Callable[[int], list[Claim]], count: int = 1, timeout_s: float = 5.0) -> list[Claim]:
    """Exactly `count` claims by `queue.due` or `queue.reclaim`, when their time has come."""
    claims: list[Claim] = []
    until(lambda: len(claims.__iadd__(ask(100))) >= count, timeout_s, f"{count} messages by {ask.__name__}")
    assert len(claims) == count
    return claims


def fields_of(flat: list[bytes]) -> Mapping[str, bytes]:
    """The fields of a stream entry or hash as the store replies them."""
    pairs: Iterator[tuple[bytes, bytes]] = zip(flat[::2], flat[1::2], strict=True)
    return {name.decode(): value for name, value in pairs}


class Load:
    """Greenlets that put messages in, one after the other, as long as it is entered."""

    def __init__(self, spool: Spool, greenlets: int = 20) -> None:
        self._spool = spool
        self._count = greenlets
        self._greenlets: list[Any] = []
        self._last_at = 0.0  # time.monotonic() of the last start that ended well
        self.acknowledged: set[str] = set()
        self.errors: list[StoreError] = []
        self.longest_s = 0.0

    def __enter__(self) -> Self:
        self._greenlets = [gevent.spawn(self._run, number) for number in range(self._count)]
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        gevent.killall(self._greenlets)

    @property
    def failed(self) -> int:
        """How many were refused, or are unknown."""
        return len(self.errors)

    def await_success_after(self, moment: float, timeout_s: float = 15.0) -> float:
        """When the first message that was begun after `moment` was acknowledged, about; `time.monotonic()`."""
        until(lambda: self._last_at > moment, timeout_s, "a message that goes through")
        return time.monotonic()

    def _run(self, number: int) -> None:
        count = 0
        while True:
            count += 1
            began = time.monotonic()
            try:
                self.acknowledged.add(put(self._spool, mail_from=f"sender-{number}-{count}@example.org"))
                self._last_at = max(self._last_at, began)
            except StoreError as error:
                self.errors.append(error)
            self.longest_s = max(self.longest_s, time.monotonic() - began)
            gevent.sleep(0.005)
