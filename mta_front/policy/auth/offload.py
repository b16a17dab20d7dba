"""Slow hashes in threads of their own, so that the hub serves others meanwhile.

The queue is bounded: a flood of logins costs a bounded time, and who comes beyond it is told 454 at once instead of
waiting for minutes. Not the hub's own pool, in which names are looked up: a login must not delay those.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

from gevent.threadpool import ThreadPool

from mta_front.policy.auth.backend import Unavailable

T = TypeVar("T")


class Threads:
    """At most `threads` checks at once in this process, at most `queue` that wait for their turn."""

    def __init__(self, threads: int, queue: int) -> None:
        self._pool = ThreadPool(threads)
        self._room = threads + queue
        self._held = 0

    def run(self, work: Callable[[], T]) -> T:
        """The result of `work`, done in a thread, or what it raises. `Unavailable` when the queue is full."""
        if self._held >= self._room:
            raise Unavailable("too many logins at once")
        self._held += 1
        try:
            result, error = self._pool.spawn(_outcome, work).get()
        finally:
            self._held -= 1
        if error is not None:
            raise error
        return cast("T", result)

    def close(self) -> None:
        """End the threads; what runs is waited for."""
        self._pool.kill()


def _outcome(work: Callable[[], T]) -> tuple[T | None, Exception | None]:
    """What came of it. An exception that left the thread would be printed there, with what the work was called with."""
    try:
        return work(), None
    except Exception as error:  # noqa: BLE001 (raised where it is waited for)
        return None, error
