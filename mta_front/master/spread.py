"""Who gets new connections, and who accepts for slots that cannot. Pure.

A slot is fit while its worker accepts and answers. New connections go to fit slots that do not hold more than their
share; what already waits in the queue of an unfit one is accepted by another worker, for all workers hold the sockets
of all slots. So a connection never waits for a worker that is dead, still starting, or hung (DECISIONS P4).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

SHARE_EXCESS = 1.05
"""A slot with more live sessions than this, times the mean, gets no new ones for the moment. Of 200 sessions chance
alone leaves each of 4 workers within 20% of the mean in 73% of runs (DECISIONS P5); so it is over 99.9%, if the counts
are not older than 10 sessions, and 98% if every tenth is older by 40; 1.1 would be 99.4% and 98% (simulated).
"""


@dataclass(frozen=True, slots=True)
class Fit:
    """A slot whose worker accepts and answers."""

    slot: int
    sessions: int


def chosen(fit: Iterable[Fit]) -> frozenset[int]:
    """The slots that get new connections; empty when none is fit."""
    fits = list(fit)
    if not fits:
        return frozenset()
    mean = sum(each.sessions for each in fits) / len(fits)
    most = max(SHARE_EXCESS * mean, mean + 1)  # one session more than others is no distress
    return frozenset(each.slot for each in fits if each.sessions <= most)


def covered(slots: int, fit: Iterable[Fit], before: Mapping[int, int]) -> dict[int, int]:
    """For each unfit slot the one whose worker accepts for it; `before` is kept where it still holds."""
    sessions = {each.slot: each.sessions for each in fit}
    found: dict[int, int] = {}
    if not sessions:
        return found
    for slot in range(slots):
        if slot not in sessions:
            cover = before.get(slot, -1)
            if cover not in sessions:
                taken = list(found.values())
                cover = min(sessions, key=lambda each: (taken.count(each), sessions[each], each))
            found[slot] = cover
    return found
