"""What one attempt at a message came to: who is settled, who is tried again and when, who has failed for good. Pure.

A message may have several recipients on several routes; each is settled by itself, and what is settled stays so,
however often the message is tried. Who has failed is dealt with at once, whatever is still to come for the others: the
sender gets a report, or, where none may be sent, it is a dead letter.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from mta_front.relay.dsn import Action, Kind, Told
from mta_front.relay.schedule import Schedule
from mta_front.smtp.transaction import Outcome
from mta_front.store import entry
from mta_front.store.claim import Claim
from mta_front.store.entry import Entry

# RFC 3463 §2, at the start of a reply's text (RFC 2034 §3)
_ENHANCED = re.compile(r"[245]\.[0-9]{1,3}\.[0-9]{1,3}(?![0-9.])")
_CLASS = {"delivered": "2", "deferred": "4", "failed": "5"}
_FINAL = frozenset(
    {"lmtp", "maildir", "discard"}
)  # transports after which a message is in somebody's mailbox, or nowhere


@dataclass(slots=True)
class Result:
    """What became of a recipient, and whose word that is: a next hop's address, or the name of a transport."""

    outcome: Outcome
    next_hop: str
    transport: str = ""


@dataclass(frozen=True, slots=True)
class Reporting:
    """What senders are told. `delay_after_s`: age at which they hear of a delay, 0 = never. `keep`: whose failure is a
    dead letter: of all, or only where no report may be sent.
    """

    delay_after_s: float = 0.0
    keep: Literal["unreported", "all"] = "unreported"


@dataclass(slots=True)
class Settlement:
    """What goes to the store after an attempt, see `Queue.settle`."""

    outcomes: dict[str, entry.Outcome]
    due_at: float | None
    failed: list[dict[str, Any]] = field(default_factory=list)
    """Those who failed, and were not dealt with before."""
    dead: list[dict[str, Any]] = field(default_factory=list)
    """Those of them who become a dead letter."""
    told: dict[Kind, list[Told]] = field(default_factory=dict)
    """Whom the sender is told of, in a report of each kind."""
    dealt_with: list[str] = field(default_factory=list)
    """All recipients, also of earlier attempts, whose end was reported or buried, or is for the next hop to report."""
    warned: bool = False
    """The sender was told of a delay."""
    fate: str = "delivered"
    """For the log: delivered, deferred, bounced (failures were reported), buried (there are dead letters)."""


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
    claim: Claim,
    results: Mapping[str, Result],
    schedule: Schedule,
    now: float,
    dice: Callable[[], float],
    reporting: Reporting = Reporting(),
) -> Settlement:
    """Judge an attempt at `claim`. `results` has every recipient that was not settled; `now`: unix seconds."""
    at = round(now, 3)
    outcomes = {recipient: recorded(result, at) for recipient, result in results.items()}
    deferred = [recipient for recipient, result in results.items() if result.outcome.kind == "deferred"]
    due_at = None
    if deferred:
        due_at = schedule.due_at(claim.attempts + 1, claim.envelope.received_at, now, dice)
        waits_s = [results[recipient].outcome.wait_s for recipient in deferred]
        if due_at is not None and all(waits_s):  # nothing is wrong, it is only not their turn
            due_at = min(now + max(waits_s), schedule.expires_at(claim.envelope.received_at))
        if due_at is None:
            for recipient in deferred:
                _expire(outcomes[recipient])
    settlement = Settlement(outcomes, due_at, warned=claim.warned, dealt_with=list(claim.dealt_with))
    failed = [{"recipient": recipient, **kept} for recipient, kept in outcomes.items() if kept["outcome"] == "failed"]
    settlement.failed = _earlier_failures(claim) + failed
    _deal_with(claim.envelope, results, reporting, settlement)
    if claim.envelope.mail_from:  # else nobody could be told: no report on a report (RFC 3464 §2)
        _tell_success(claim, results, outcomes, settlement)
        late = reporting.delay_after_s and now - claim.envelope.received_at >= reporting.delay_after_s
        if due_at is not None and late and not claim.warned:
            _tell_delay(claim.envelope, deferred, results, outcomes, settlement)
    settlement.fate = _fate(claim, settlement)
    return settlement


def poisoned(claim: Claim, now: float) -> Settlement:
    """A message that several relays have died of is touched no more: a dead letter, for people to look at (S12)."""
    text = f"Poison: {claim.deaths} relays in a row died while they had it in hand"
    at = round(now, 3)
    outcomes: dict[str, entry.Outcome] = {
        recipient: {"outcome": "failed", "code": 0, "enhanced": "5.3.0", "text": text, "at": at}
        for recipient in unsettled(claim.envelope.rcpt_to, claim.settled)
    }
    failed = [{"recipient": recipient, **kept} for recipient, kept in outcomes.items()]
    return Settlement(outcomes, None, failed, failed, fate="buried")


def _deal_with(envelope: Entry, results: Mapping[str, Result], reporting: Reporting, settlement: Settlement) -> None:
    """A report or a dead letter for each that has failed, or both."""
    for one in settlement.failed:
        recipient = one["recipient"]
        settlement.dealt_with.append(recipient)
        tells = envelope.mail_from and "FAILURE" in _notify(envelope, recipient)
        if tells:
            settlement.told.setdefault("failure", []).append(_told("failed", one, results.get(recipient)))
        if not tells or reporting.keep == "all":
            settlement.dead.append(one)


def _tell_success(
    claim: Claim, results: Mapping[str, Result], outcomes: Mapping[str, entry.Outcome], settlement: Settlement
) -> None:
    """Only to who asked for it, and only where the next hop does not see to it itself (RFC 3461 §5.2)."""
    envelope = claim.envelope
    if not envelope.dsn:
        return
    dealt_with = set(claim.dealt_with)
    # A relay may have died between a delivery and its report: then all that is known is that there was one.
    unknown: entry.Outcome = {"outcome": "delivered", "text": ""}
    for recipient in [who for who, end in claim.settled.items() if end == "delivered"] + list(results):
        result = results.get(recipient)
        if recipient in dealt_with or "SUCCESS" not in _notify(envelope, recipient):
            continue
        if result is not None and result.outcome.kind != "delivered":
            continue
        settlement.dealt_with.append(recipient)
        if result is None or not result.outcome.dsn_passed:
            one = {"recipient": recipient, **outcomes.get(recipient, unknown)}
            final = result is not None and result.transport in _FINAL
            told = _told("delivered" if final else "relayed", one, result)
            settlement.told.setdefault("success", []).append(told)


def _tell_delay(
    envelope: Entry,
    deferred: Iterable[str],
    results: Mapping[str, Result],
    outcomes: Mapping[str, entry.Outcome],
    settlement: Settlement,
) -> None:
    """Once for a message."""
    settlement.warned = True
    for recipient in deferred:
        if "DELAY" in _notify(envelope, recipient):
            one = {"recipient": recipient, **outcomes[recipient]}
            settlement.told.setdefault("delay", []).append(_told("delayed", one, results[recipient]))


def _notify(envelope: Entry, recipient: str) -> list[str]:
    """What the sender wants to hear of a recipient; who says nothing hears of failures and delays (RFC 3461 §4.1)."""
    said = (envelope.dsn or {}).get("rcpt", {}).get(recipient, {}).get("notify")
    return said or ["FAILURE", "DELAY"]


def _told(action: Action, one: Mapping[str, Any], result: Result | None) -> Told:
    found = _ENHANCED.match(str(one.get("text", "")))
    status = one.get("enhanced") or (found[0] if found and found[0][0] == "2" else "")
    return Told(
        recipient=one["recipient"],
        action=action,
        status=str(status or {"failed": "5.0.0", "delayed": "4.0.0"}.get(action, "2.0.0")),
        code=int(one.get("code") or 0),
        text=str(one.get("text", "")),
        next_hop=str(one.get("next_hop", "")),
        transport=result.transport if result else "",
        at=float(one.get("at") or 0.0),
    )


def _fate(claim: Claim, settlement: Settlement) -> str:
    if settlement.due_at is not None:
        return "deferred"
    if settlement.dead:
        return "buried"
    ends = [*claim.settled.values(), *(kept["outcome"] for kept in settlement.outcomes.values())]
    return "bounced" if "failed" in ends else "delivered"


def _expire(kept: entry.Outcome) -> None:
    """The message is too old: what was a deferral is now the last word (RFC 3463 §3.5, X.4.7)."""
    kept["outcome"] = "failed"
    kept["enhanced"] = "5.4.7"
    kept["text"] = f"Delivery time expired; last: {kept['text']}"


def _earlier_failures(claim: Claim) -> list[dict[str, Any]]:
    """Who failed in earlier attempts and was not dealt with, since a version did it that did so at the end."""
    dealt_with = set(claim.dealt_with)
    failed = [who for who, outcome in claim.settled.items() if outcome == "failed" and who not in dealt_with]
    if not failed:
        return []
    reasons = {one.get("recipient"): one for one in claim.history if one.get("outcome") == "failed"}
    unknown = {"outcome": "failed", "text": "failed earlier, the reason is lost"}
    return [{"recipient": recipient} | reasons.get(recipient, unknown) for recipient in failed]
