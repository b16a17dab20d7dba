"""The verdict on a run under kills: what was lost, what came twice, and why.

Lost: a message that got a 250 and was not delivered to each of its recipients, nor lies among the dead letters. It is
counted by the id of the 250, so a copy that came by another way does not hide it.

Doubled: a recipient got a message more than once. Each such case must be explained by the log of kills:
- the same queue id twice: the relay delivered again. Only a message whose delivery was in hand when the relay, the
  store or the next hop was killed or cut may be.
- two queue ids: the client sent again. Only after an attempt that was cut after the final dot, or answered 4xx there
  (unknown is answered 451), and only if that attempt ran into an outage.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tests.load import Attempt
from tests.sink import Delivery

SETTLE_S = 1.0  # from the next hop's log entry to the settled outcome in the store, on a busy machine
RELAY_SIDE = {"relay", "store", "master", "all", "nexthop", "power"}


@dataclass(slots=True, frozen=True)
class Outage:
    """One kill: what, when, and when everything worked again (monotonic seconds)."""

    target: str
    at: float
    over_at: float


@dataclass(slots=True, frozen=True)
class Double:
    """One recipient that got one message more than once. `reason` is "" when nothing explains it."""

    message_id: str
    recipient: str
    queue_ids: tuple[str, ...]
    reason: str


@dataclass(slots=True)
class Verdict:
    """Everything that is counted."""

    attempts: int = 0
    accepted: int = 0
    refused: int = 0
    cut: int = 0
    unknown: int = 0
    given_up: int = 0
    deliveries: int = 0
    dead: int = 0
    lost: list[str] = field(default_factory=list)
    doubled: list[Double] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)  # delivered, but never sent

    @property
    def unexplained(self) -> list[Double]:
        """Doubles without a reason."""
        return [double for double in self.doubled if not double.reason]

    @property
    def good(self) -> bool:
        """Nothing lost, nothing damaged, each double explained."""
        return not (self.lost or self.damaged or self.strangers or self.unexplained)

    def table(self) -> str:
        """The figures, aligned, then one line per fault (at most ten of a kind)."""
        reasons: dict[str, int] = defaultdict(int)
        for double in self.doubled:
            reasons[f"doubled: {double.reason or 'UNEXPLAINED'}"] += 1
        figures: dict[str, int] = {
            "attempts": self.attempts,
            "  accepted (250)": self.accepted,
            "  refused (4xx, 5xx)": self.refused,
            "  cut before the final dot": self.cut,
            "  unknown (cut after the final dot)": self.unknown,
            "messages given up by the client": self.given_up,
            "deliveries": self.deliveries,
            "dead letters": self.dead,
            "LOST (250, not delivered)": len(self.lost),
            "DAMAGED (digest differs)": len(self.damaged),
            "NEVER SENT, yet delivered": len(self.strangers),
            "delivered more than once": len(self.doubled),
            **{f"  {reason}": count for reason, count in sorted(reasons.items())},
        }
        lines = [f"{name:<64}{count:>8}" for name, count in figures.items()]
        faults = [f"lost: {name}" for name in self.lost[:10]] + [f"damaged: {name}" for name in self.damaged[:10]]
        faults += [f"unexplained: {double}" for double in self.unexplained[:10]]
        return "\n".join(lines + faults)


def judge(
    attempts: Sequence[Attempt], deliveries: Sequence[Delivery], outages: Sequence[Outage], dead: Iterable[str] = ()
) -> Verdict:
    """Hold what the client was told against what the next hops got. `dead`: queue ids of dead letters."""
    buried = set(dead)
    outcomes = Counter(attempt.outcome for attempt in attempts)
    verdict = Verdict(
        attempts=len(attempts),
        accepted=outcomes["accepted"],
        refused=outcomes["refused"],
        cut=outcomes["cut"],
        unknown=outcomes["unknown"],
        deliveries=len(deliveries),
        dead=len(buried),
    )

    of_message: dict[str, list[Attempt]] = defaultdict(list)
    for attempt in attempts:
        of_message[attempt.message_id].append(attempt)
    verdict.given_up = sum(all(a.outcome != "accepted" for a in tries) for tries in of_message.values())

    got: dict[tuple[str, str], list[Delivery]] = defaultdict(list)
    under: set[tuple[str, str]] = set()
    for delivery in deliveries:
        if delivery.message_id not in of_message:
            verdict.strangers.append(f"{delivery.message_id} {delivery.queue_id} {delivery.size_bytes} bytes")
        elif not delivery.intact:
            verdict.damaged.append(f"{delivery.message_id} {delivery.queue_id}")
            continue
        for recipient in delivery.rcpt_to:
            got[delivery.message_id, recipient].append(delivery)
            under.add((delivery.queue_id, recipient))

    for attempt in attempts:
        if attempt.outcome != "accepted" or attempt.queue_id in buried:
            continue
        missing = [recipient for recipient in attempt.rcpt_to if (attempt.queue_id, recipient) not in under]
        verdict.lost += [
            f"{attempt.message_id} to {recipient}, 250 with id {attempt.queue_id!r}" for recipient in missing
        ]

    for (message_id, recipient), copies in got.items():
        if len(copies) > 1:
            reason = _reason(copies, of_message.get(message_id, []), outages)
            verdict.doubled.append(Double(message_id, recipient, tuple(copy.queue_id for copy in copies), reason))
    return verdict


def _reason(copies: list[Delivery], tries: list[Attempt], outages: Sequence[Outage]) -> str:
    """Why one recipient got these copies; "" if one of them has no reason."""
    reasons = set[str]()
    by_id: dict[str, list[Delivery]] = defaultdict(list)
    for copy in sorted(copies, key=lambda copy: copy.at):
        by_id[copy.queue_id].append(copy)
    for again in by_id.values():
        for earlier in again[:-1]:
            hit = _outage(outages, earlier.began_at, earlier.at + SETTLE_S, RELAY_SIDE)
            if hit is None:
                return ""
            reasons.add(f"in delivery when {hit.target} was killed")
    if len(by_id) > 1:
        open_ended = [attempt for attempt in tries if attempt.may_be_taken]
        if len(open_ended) < len(by_id) - 1:
            return ""
        for attempt in open_ended:
            hit = _outage(outages, attempt.dot_at, attempt.at, None)
            if hit is None:
                return ""
            reasons.add(f"sent again by the client, no 250 when {hit.target} was killed")
    return " + ".join(sorted(reasons))


def _outage(outages: Sequence[Outage], begin: float, end: float, targets: set[str] | None) -> Outage | None:
    """An outage that touches this span; one in which more than the store was lost, where there is a choice."""
    touching = [
        outage
        for outage in outages
        if (targets is None or outage.target in targets) and outage.at <= end and outage.over_at >= begin
    ]
    return min(touching, key=lambda outage: outage.target == "store", default=None)
