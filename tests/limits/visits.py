"""Clients that come one after another, each from another address, while something happens."""

from __future__ import annotations

import threading
import time
from typing import Self

from tests.front import Front
from tests.limits.fleet import came
from tests.wait import until


class Visits:
    """Clients that come one after another: when each came, and how long until it was greeted or refused."""

    def __init__(self, front: Front) -> None:
        self._front = front
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._visit)
        self.seen: list[tuple[float, float, int]] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join(30)

    def _visit(self) -> None:
        number = 0
        while not self._ending.wait(0.005):
            number += 1
            began_at = time.monotonic()
            with came(self._front, f"198.18.{number // 250 % 250}.{number % 250 + 1}") as talk:
                code = talk.reply().code
            self.seen.append((began_at, time.monotonic() - began_at, code))

    def waits_s(self, since: float, until_: float) -> list[float]:
        """How long those waited who came in between, and all of them were let in."""
        seen = [(wait_s, code) for began_at, wait_s, code in self.seen if since <= began_at < until_]
        assert {code for _, code in seen} == {220}, [each for each in seen if each[1] != 220]
        return [wait_s for wait_s, _ in seen]

    def await_more(self, count: int) -> None:
        """Until so many more have come."""
        many = len(self.seen) + count
        until(lambda: len(self.seen) >= many, 20.0, "clients come")
