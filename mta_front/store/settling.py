"""What becomes of a message after an attempt, as one script call: it is gone, due later, or a dead letter.

Reports on it enter the queue in the same step, and so does the dead letter of those who have failed while others are
still tried: that one gets an id and a body of its own, and can be put back into the queue by itself.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mta_front.store import scripts
from mta_front.store.batch import Call
from mta_front.store.claim import Claim, final_outcomes, lengthened
from mta_front.store.entry import Entry, Outcome
from mta_front.store.keys import ShardKeys
from mta_front.store.message_id import derived_id


@dataclass(slots=True)
class Report:
    """A message that enters the queue with the settlement it speaks of."""

    envelope: Entry
    body: bytes


def settling_call(
    keys: ShardKeys,
    consumer: str,
    claim: Claim,
    outcomes: Mapping[str, Outcome],
    due_at: float | None,
    dead: Sequence[Mapping[str, Any]] = (),
    reports: Sequence[Report] = (),
    dealt_with: Sequence[str] = (),
    warned: bool = False,
) -> Call:
    """See `Queue.settle`."""
    held = (claim.entry_id, consumer, claim.fence)
    added = [word for one in reports for word in (one.envelope.id, one.envelope.to_json(), one.body)]
    if due_at is None and not dead:
        freed = [keys.body(claim.id)] if claim.envelope.segments else []
        if claim.kept:
            freed.append(keys.message(claim.id))
        return scripts.settle(keys, freed, held, added)
    now = time.time()
    settled = json.dumps(claim.settled | final_outcomes(outcomes))
    history = lengthened(claim.history, outcomes)
    letter: dict[str, Any] = {}
    if dead:
        letter = {
            "reason": str(dead[0].get("reason") or dead[0].get("text") or "failed"),
            "failed": json.dumps(list(dead)),
            "settled": settled,
            "history": history,
            "died_at": round(now, 3),
        }
    if due_at is None:
        freed = [keys.message(claim.id)] if claim.kept else []
        return scripts.bury(keys, freed, held, {"envelope": _envelope(claim, dead, claim.id)} | letter, added)
    known: dict[str, Any] = {
        "entry": claim.entry_id,
        "attempts": claim.attempts + 1,
        "settled": settled,
        "history": history,
        "first_at": claim.first_at or round(now, 3),
        "due_at": round(due_at, 3),
    }
    if dealt_with:
        known["dealt_with"] = json.dumps(list(dealt_with))
    if warned and not claim.warned:
        known["warned_at"] = round(now, 3)
    copied: tuple[str, ...] = ()
    if dead:
        letter_id = derived_id(claim.id, "dead", claim.attempts)
        letter = {"id": letter_id, "envelope": _envelope(claim, dead, letter_id)} | letter
        if claim.envelope.segments:
            copied = (keys.body(claim.id), keys.body(letter_id))
    return scripts.defer(keys, claim.id, held, int(due_at * 1000), known, letter, copied, added)


def _envelope(claim: Claim, dead: Sequence[Mapping[str, Any]], letter_id: str) -> bytes:
    """That of a dead letter: for those who failed and nobody else, so that it can be queued again as it is."""
    failed = [one["recipient"] for one in dead if "recipient" in one]
    return replace(claim.envelope, id=letter_id, rcpt_to=failed or claim.envelope.rcpt_to).to_json()
