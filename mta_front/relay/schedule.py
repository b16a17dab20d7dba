"""When a deferred message is tried again, and when no more. Pure: the clock and the dice are arguments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

JITTER = 0.1
"""A wait is up to so much shorter or longer, so that what failed together does not come back together."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """`delays_s`: waits after the first, second, … attempt, the last one repeats. `expire_s` counts from reception."""

    delays_s: Sequence[float]
    expire_s: float

    def due_at(self, attempts: int, received_at: float, now: float, dice: Callable[[], float]) -> float | None:
        """When to try again after `attempts` (1 and more) attempts, in unix seconds; None: the message has expired.

        `dice` gives a number from 0 to 1. The last attempt is made at the end of the message's life, not before: a
        long wait never shortens it.
        """
        expires_at = self.expires_at(received_at)
        if now >= expires_at:
            return None
        delay_s = self.delays_s[min(attempts, len(self.delays_s)) - 1]
        return min(now + delay_s * (1.0 + JITTER * (2.0 * dice() - 1.0)), expires_at)

    def expires_at(self, received_at: float) -> float:
        """When a message is given up; both in unix seconds."""
        return received_at + self.expire_s
