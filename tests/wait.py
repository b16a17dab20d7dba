"""Waiting without sleeping blindly: poll a condition until a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(condition: Callable[[], T], timeout_s: float = 10.0, message: str = "", every_s: float = 0.01) -> T:
    """Return the first truthy value of `condition()`; AssertionError with `message` after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= deadline:
            raise AssertionError(f"not within {timeout_s} s: {message or condition}")
        time.sleep(every_s)
