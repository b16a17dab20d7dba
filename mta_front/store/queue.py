"""The relay's side of one shard: take messages under a lease, settle or defer them, take over from dead relays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mta_front.observe.events import NOBODY, Events
from mta_front.store.client import StoreOptions
from mta_front.store.entry import Entry, Outcome


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
    history: list[dict[str, Any]] = field(default_factory=list)
    first_at: float = 0.0  # unix seconds of the first attempt; 0 = none yet
    expires_at: float = 0.0  # time.monotonic() up to which the lease surely holds
    kept: bool = False  # a msg:ID hash exists


class Queue:
    """One shard of the queue, as one relay sees it."""

    def __init__(
        self, options: StoreOptions, shard: int, consumer: str, lease_s: float = 60.0, events: Events = NOBODY
    ) -> None:
        raise NotImplementedError

    def start(self) -> None:
        """Connect in the background and make the group `relay` at 0; returns at once."""

    def take(self, count: int, block_ms: int) -> list[Claim]:
        """Up to `count` new messages; waits up to `block_ms` for the first. [] when there is none."""
        raise NotImplementedError

    def due(self, count: int) -> list[Claim]:
        """Up to `count` deferred messages whose time has come."""
        raise NotImplementedError

    def reclaim(self, count: int) -> list[Claim]:
        """Up to `count` messages whose holder is gone; nothing until the store has answered for a whole lease."""
        raise NotImplementedError

    def renew(self, claims: Sequence[Claim]) -> list[Claim]:
        """Extend the leases (and `expires_at`); returns those that are no longer ours."""
        raise NotImplementedError

    def body(self, claim: Claim) -> Iterator[bytes]:
        """The body, one segment (at most 64 KiB) at a time. `StoreBodyGone`: it is lost; settle the message as dead."""
        raise NotImplementedError

    def progress(self, claim: Claim, outcomes: Mapping[str, Outcome]) -> bool:
        """Record outcomes of some recipients while others still run. False: the claim is lost, nothing was done."""
        raise NotImplementedError

    def settle(
        self,
        claim: Claim,
        outcomes: Mapping[str, Outcome],
        due_at: float | None,
        dead: Sequence[Mapping[str, Any]] = (),
    ) -> bool:
        """Record the outcomes of an attempt and let go of the message, in one step.

        `due_at` None: every recipient is settled, the message leaves the queue; if `dead` is not empty, it goes with its
        body to the dead letters. Else it is deferred until `due_at` (unix seconds). False: the claim is lost, nothing
        was done.
        """
        raise NotImplementedError

    def counts(self) -> dict[str, float]:
        """length, later, leased, dead, oldest_age_s."""
        raise NotImplementedError

    def close(self) -> None:
        """Close the connections; calls that wait fail."""
