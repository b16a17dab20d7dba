"""A message in the hands of a relay, and what is kept of it between attempts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mta_front.store.entry import DELIVERED, FAILED, Entry, Outcome

HISTORY_BYTES = 48 * 1024  # of JSON; beyond it the oldest attempts but the first are dropped


@dataclass(slots=True, kw_only=True)
class Claim:
    """A message in hand, under a lease. Who holds an older claim of the same entry can change nothing (the fence)."""

    entry_id: str  # of the stream entry
    id: str  # the message's, as in "queued as ID"
    fence: int
    envelope: Entry
    body: bytes | None  # None: read it with Queue.body
    attempts: int = 0  # deferrals so far
    settled: dict[str, str] = field(default_factory=dict)  # recipient -> "delivered" or "failed"
    history: list[dict[str, Any]] = field(default_factory=list)  # of attempts: {"at", "outcomes": {recipient: Outcome}}
    dead: list[dict[str, Any]] = field(default_factory=list)  # what earlier attempts gave up, for the dead letter
    first_at: float = 0.0  # unix seconds of the first attempt; 0 = none yet
    expires_at: float = 0.0  # time.monotonic() up to which the lease surely holds
    kept: bool = False  # msg:ID exists

    def known_from(self, fields: Mapping[str, bytes]) -> None:
        """Take over what msg:ID holds. ValueError or TypeError when it cannot be read."""
        self.kept = True
        self.attempts = int(fields.get("attempts", 0))
        self.first_at = float(fields.get("first_at", 0))
        settled = json.loads(fields.get("settled", b"{}"))
        history = json.loads(fields.get("history", b"[]"))
        dead = json.loads(fields.get("dead", b"[]"))
        if not (isinstance(settled, dict) and isinstance(history, list) and isinstance(dead, list)):
            raise ValueError("settled, history or dead is not what it should be")
        self.settled, self.history, self.dead = settled, history, dead


def final_outcomes(outcomes: Mapping[str, Outcome]) -> dict[str, str]:
    """The recipients that need no further attempt."""
    return {
        recipient: outcome["outcome"]
        for recipient, outcome in outcomes.items()
        if outcome["outcome"] in (DELIVERED, FAILED)
    }


def shortened(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The history within its bound: the first attempt, and of the others the latest."""
    sizes = [len(json.dumps(attempt)) for attempt in history]
    while len(history) > 2 and sum(sizes) > HISTORY_BYTES:
        del history[1], sizes[1]
    return history
