"""How soon a process that ended is started again. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pace:
    """At once after a good life; after short ones, each next wait is twice as long, up to a bound."""

    first_s: float = 0.1
    longest_s: float = 5.0
    good_life_s: float = 10.0
    """Who was ready for so long dies of something new: its failures before do not count."""
    boot_attempts: int = 3
    """So many processes of a kind that never become ready, before any of that kind did, end the master."""

    def delay_s(self, short_lives: int, *, was_ready: bool) -> float:
        """The wait before the next start, after so many short lives in a row. A first death in service costs none."""
        doubled = short_lives - 2 if was_ready else short_lives - 1
        return min(self.longest_s, self.first_s * 2.0 ** min(doubled, 30)) if doubled >= 0 else 0.0
