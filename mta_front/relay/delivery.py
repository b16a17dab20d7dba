"""What one attempt at a message came to: who is settled, who is tried again and when, who has failed for good. Pure.

A message may have several recipients on several routes; each is settled by itself, and what is settled stays so,
however often the message is tried. Only when the last recipient is settled the message leaves the queue; if some have
failed, it goes to the dead letters, with the reason of each.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mta_front.relay.schedule import Schedule
from mta_front.smtp.transaction import Outcome
from mta_front.store import entry
from mta_front.store.claim import Claim

# RFC 3463 §2, at the start of a reply's text (RFC 2034 §3)
_ENHANCED = re.compile(r"[245]\.[0-9]{1,3}\.[0-9]{1,3}(?![0-9.])")
_CLASS = {"delivered": "2", "deferred": "4", "failed": "5"}


@dataclass(slots=True)
class Result:
    """What became of a recipient, and whose word that is: a next hop's address, or the name of a transport."""

    outcome: Outcome
    next_hop: str


@dataclass(slots=True)
class Settlement:
    """What goes to the store after an attempt, see `Queue.settle`."""

    outcomes: dict[str, entry.Outcome]
    due_at: float | None
    dead: list[dict[str, Any]] = field(default_factory=list)
    fate: str = "delivered"
    """For the log: delivered, deferred, buried."""


def unsettled(recipients: Iterable[str], settled: Mapping[str, str]) -> list[str]:
    """Whom to try: those without a final outcome, each once, in their order."""
    return [recipient for recipient in dict.fromkeys(recipients) if recipient not in settled]


def recorded(result: Result, at: float) -> entry.Outcome:
    """A result as it is kept in the queue."""
    outcome = result.outcome
    text = f"{outcome.text} (it may have been delivered)" if outcome.uncertain else outcome.text
    kept = entry.Outcome(outcome=outcome.kind, code=outcome.code, text=text, next_hop=result.next_hop, at=at)
    if outcome.kind != "delivered":
        kept["enhanced"] = enhanced_of(outcome)
    return kept


def enhanced_of(outcome: Outcome) -> str:
    """The enhanced status code (RFC 3463): the next hop's where it fits, else the plainest of its class."""
    digit = _CLASS[outcome.kind]
    found = _ENHANCED.match(outcome.text)
    if found and found[0][0] == digit:
        return found[0]
    if not outcome.code and outcome.kind == "deferred":
        return "4.4.1"  # no answer from host
    return f"{digit}.0.0"


def conclude(
    claim: Claim, results: Mapping[str, Result], schedule: Schedule, now: float, dice: Callable[[], float]
) -> Settlement:
    """Judge an attempt at `claim`. `results` has every recipient that was not settled; `now`: unix seconds."""
    at = round(now, 3)
    outcomes = {recipient: recorded(result, at) for recipient, result in results.items()}
    deferred = [recipient for recipient, result in results.items() if result.outcome.kind == "deferred"]
    if deferred:
        due_at = schedule.due_at(claim.attempts + 1, claim.envelope.received_at, now, dice)
        if due_at is not None:
            return Settlement(outcomes, due_at, fate="deferred")
        for recipient in deferred:
            _expire(outcomes[recipient])
    dead = _earlier_failures(claim)
    dead += [{"recipient": recipient, **kept} for recipient, kept in outcomes.items() if kept["outcome"] == "failed"]
    return Settlement(outcomes, None, dead, "buried" if dead else "delivered")


def _expire(kept: entry.Outcome) -> None:
    """The message is too old: what was a deferral is now the last word (RFC 3463 §3.5, X.4.7)."""
    kept["outcome"] = "failed"
    kept["enhanced"] = "5.4.7"
    kept["text"] = f"Delivery time expired; last: {kept['text']}"


def _earlier_failures(claim: Claim) -> list[dict[str, Any]]:
    """Who failed in earlier attempts, with the reasons; also those whose reason is not known any more."""
    failed = [recipient for recipient, outcome in claim.settled.items() if outcome == "failed"]
    if not failed:
        return []
    reasons = {one.get("recipient"): one for one in claim.history if one.get("outcome") == "failed"}
    unknown = {"outcome": "failed", "text": "failed earlier, the reason is lost"}
    return [{"recipient": recipient} | reasons.get(recipient, unknown) for recipient in failed]
