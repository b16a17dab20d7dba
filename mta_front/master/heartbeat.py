"""When a child is late: pure, on times that the supervisor gives.

A child has `boot_timeout_s` to say that it is ready, and after that never more than `block_kill_s` between two
beats. Who is late is killed and replaced: a hub that no greenlet leaves does not answer its clients either.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Heartbeat:
    """The signs of life of one child. Times are of `time.monotonic`."""

    born_at: float
    boot_timeout_s: float
    timeout_s: float
    heard_at: float = 0.0
    ready_at: float = 0.0
    """0.0 until the child said that it is ready."""

    def heard(self, now: float) -> None:
        """A line came."""
        self.heard_at = now

    def ready(self, now: float) -> None:
        """The child works."""
        self.ready_at = self.ready_at or now

    def deadline_at(self) -> float:
        """When patience ends, as things stand."""
        return self.heard_at + self.timeout_s if self.ready_at else self.born_at + self.boot_timeout_s

    def lateness(self, now: float) -> str:
        """Why the child must go; "" while it need not."""
        if now < self.deadline_at():
            return ""
        return f"silent for {self.timeout_s:g} s" if self.ready_at else f"not ready after {self.boot_timeout_s:g} s"

    def forgive(self, lost_s: float) -> None:
        """The master itself stood still for so long (stopped, or a paused machine): that is not the child's silence."""
        self.heard_at += lost_s
        self.born_at += lost_s
