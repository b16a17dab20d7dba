"""Waiting in a test whose own greenlets do the work: gevent's sleep, not time's."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import gevent

T = TypeVar("T")


def eventually(condition: Callable[[], T], timeout_s: float = 10.0, message: str = "", every_s: float = 0.005) -> T:
    """Return the first truthy value of `condition()`; AssertionError with `message` after `timeout_s`."""
    deadline_at = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= deadline_at:
            raise AssertionError(f"not within {timeout_s} s: {message or condition}")
        gevent.sleep(every_s)
