"""A message in the hands of a relay, and what is kept of it between attempts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mta_front.store.entry import DELIVERED, FAILED, Entry, Outcome

HISTORY_BYTES = 48 * 1024  # of JSON


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
    history: list[dict[str, Any]] = field(default_factory=list)  # {"recipient": …} and its Outcome, oldest first
    first_at: float = 0.0  # unix seconds of the first attempt; 0 = none yet
    expires_at: float = 0.0  # time.monotonic() up to which the lease surely holds
    kept: bool = False  # msg:ID exists
    dealt_with: list[str] = field(default_factory=list)  # recipients whose end was reported, or buried
    warned: bool = False  # the sender was told of a delay
    deaths: int = 0  # relays that died holding it, one after the other

    def known_from(self, fields: Mapping[str, bytes]) -> None:
        """Take over what msg:ID holds. ValueError or TypeError when it cannot be read."""
        self.kept = True
        self.attempts = int(fields.get("attempts", 0))
        self.first_at = float(fields.get("first_at", 0))
        settled = json.loads(fields.get("settled", b"{}"))
        history = json.loads(fields.get("history", b"[]"))
        dealt_with = json.loads(fields.get("dealt_with", b"[]"))
        if not (isinstance(settled, dict) and isinstance(history, list) and all("outcome" in one for one in history)):
            raise ValueError("settled or history is not what it should be")
        if not (isinstance(dealt_with, list) and all(isinstance(one, str) for one in dealt_with)):
            raise ValueError("dealt_with is not a list of recipients")
        self.settled, self.history, self.dealt_with = settled, history, dealt_with
        self.warned = "warned_at" in fields


def final_outcomes(outcomes: Mapping[str, Outcome]) -> dict[str, str]:
    """The recipients that need no further attempt."""
    return {
        recipient: outcome["outcome"]
        for recipient, outcome in outcomes.items()
        if outcome["outcome"] in (DELIVERED, FAILED)
    }


def lengthened(history: Sequence[Mapping[str, Any]], outcomes: Mapping[str, Outcome]) -> str:
    """The history with these outcomes, as JSON. Beyond its bound the oldest deferrals are dropped, last words never."""
    lines = [json.dumps(one) for one in history]
    lines += [json.dumps({"recipient": recipient, **outcome}) for recipient, outcome in outcomes.items()]
    excess_bytes = sum(map(len, lines)) - HISTORY_BYTES
    if excess_bytes > 0:
        kinds = [one["outcome"] for one in (*history, *outcomes.values())]
        kept = []
        for line, kind in zip(lines, kinds, strict=True):
            if excess_bytes > 0 and kind not in (DELIVERED, FAILED):
                excess_bytes -= len(line)
            else:
                kept.append(line)
        lines = kept
    return f"[{','.join(lines)}]"
