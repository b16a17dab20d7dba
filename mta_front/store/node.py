"""One connection to a server of the store that was found fit: what its clock says, and what a reply of it is worth."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from mta_front.store import fitness
from mta_front.store.errors import StoreDown
from mta_front.store.options import StoreOptions
from mta_front.store.wire import Command, Lost, ReplyError, Wire

CLOCK_DOUBT_S, CLOCK_AGAIN_S = 0.1, 1.0  # a clock that took so long to read is read again after that
SLACK_S = 0.15  # a store that waits for its replicas looks at its clock every 0.1 s; its answer must still reach us

Greeting = tuple[Command, Callable[[Any], None]]


class Node:
    """A connection, and what was asked of it first. Made by `open_node`."""

    __slots__ = ("_confirms", "_options", "_whole", "check_at", "clock_offset_us", "heard_at", "replicas", "wire")

    def __init__(self, options: StoreOptions, wire: Wire, whole: bool) -> None:
        self._options = options
        self._whole = whole
        self._confirms: list[tuple[str, int]] = []  # what is asked behind each batch, and how many must say yes
        self.wire = wire
        self.clock_offset_us = 0  # of the store's clock over time.monotonic()
        self.check_at = 0.0  # when the next check is due, time.monotonic()
        self.heard_at = 0.0  # when the store last answered
        self.replicas: int | None = None  # that follow this server; None: it does not say

    def prepare(
        self, scripts: Sequence[Command], greetings: Sequence[Greeting], confirmed_by: str, deadline: float
    ) -> None:
        """Before anything else. `confirmed_by`: a key to write to, where a reply must mean durable; "" = it need not.

        `StoreError` says why this server must not be used, `Lost` that it cannot be.
        """
        self.check(deadline)
        commands = [*scripts, *(command for command, _ in greetings), ("WAITAOF", "0", "0", "0")]
        replies = self.wire.ask(commands, deadline)
        judge_scripts(replies[: len(scripts)])
        for (_, judge), reply in zip(greetings, replies[len(scripts) :], strict=False):
            judge(reply)
        if confirmed_by:
            self._confirms = _confirms(self._options, has_waitaof=isinstance(replies[-1], list))
            self._prove(confirmed_by, deadline)

    def check(self, deadline: float) -> None:
        """Ask for the store's fitness, and what its clock says."""
        before = time.monotonic()
        *replies, clock = self.wire.ask([*fitness.QUESTIONS, ("TIME",)], deadline)
        after = time.monotonic()
        fitness.judge(self._options, self._whole, replies)
        self.replicas = fitness.replicas_in(replies)
        if isinstance(clock, ReplyError):
            raise StoreDown(f"cannot read the store's clock: {clock.text}")
        # The store read its clock before `after`, so this offset is never too large: no deadline falls too late.
        self.clock_offset_us = int(clock[0]) * 1_000_000 + int(clock[1]) - int(after * 1_000_000)
        interval_s = self._options.check_interval_s
        self.check_at = after + (interval_s if after - before < CLOCK_DOUBT_S else min(interval_s, CLOCK_AGAIN_S))
        self.heard_at = after

    def confirmations(self, timeout_s: float) -> list[Command]:
        """What to ask behind a batch, outside its transaction: there they answer at once."""
        slack_s = min(max(SLACK_S, timeout_s / 8), timeout_s / 2)
        wait_ms = max(1, int((timeout_s - slack_s) * 1000))
        return [
            ("WAITAOF", count, 0, wait_ms) if name == "WAITAOF" else (name, count, wait_ms)
            for name, count in self._confirms
        ]

    def shortfall(self, replies: Sequence[Any], loss: Lost | None) -> str:
        """Why what was executed may not be durable, by all replies to the batch; "" when it is."""
        if not self._confirms:
            return ""
        if loss is not None:
            return loss.reason
        for (name, wanted), reply in zip(self._confirms, replies[-len(self._confirms) :], strict=True):
            if name == "WAITAOF" and not (isinstance(reply, list) and reply[0] >= wanted):
                return "the store did not confirm its fsync"
            if name == "WAIT" and not (isinstance(reply, int) and reply >= wanted):
                found = reply if isinstance(reply, int) else 0
                return f"{found} of {wanted} replicas confirmed in time"
        return ""

    def _prove(self, key: str, deadline: float) -> None:
        """A write of our own, confirmed: else each batch would find out anew that replicas are frozen, and leave
        messages that nobody was promised. A store that is full cannot take it, and says so to each call.
        """
        if not any(name == "WAIT" for name, _ in self._confirms):
            return
        commands = [("SET", key, "1", "PX", "60000"), *self.confirmations(deadline - time.monotonic())]
        replies = self.wire.ask(commands, deadline)
        if isinstance(replies[0], ReplyError) and replies[0].code != "OOM":
            raise StoreDown(f"not ready: {replies[0].code}")
        shortfall = self.shortfall(replies, None)
        if shortfall:
            raise StoreDown(shortfall)


def judge_scripts(replies: Sequence[Any]) -> None:
    """`StoreDown` when the store did not load one."""
    for reply in replies:
        if isinstance(reply, ReplyError):
            raise StoreDown(f"cannot load scripts: {reply.text}")


def _confirms(options: StoreOptions, has_waitaof: bool) -> list[tuple[str, int]]:
    found = []
    if options.fsync and has_waitaof:
        found.append(("WAITAOF", 1))
    if options.replicas:
        found.append(("WAIT", options.replicas))
    return found
