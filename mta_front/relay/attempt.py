"""One attempt: a message and some of its recipients, given to a transport, which reports what came of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from mta_front.smtp.transaction import Outcome
from mta_front.store.entry import Entry

if TYPE_CHECKING:
    from mta_front.relay.hop import Hop

Report = Callable[["Attempt", Sequence[Outcome] | None, str], None]


@dataclass(slots=True)
class Attempt:
    """What a transport needs. It calls `report` exactly once: outcomes in the order of `recipients`, and the next hop.

    `body()` yields the message's segments from the start; it may raise a StoreError. `may_finish()` is asked before the
    point of no return (the final dot, the rename): when False, the message is no longer surely ours; the transport
    stops, and reports None instead of outcomes (DECISIONS S7). A transport that cannot name all recipients at once
    calls `divide`, and each part is an attempt of its own.
    """

    envelope: Entry
    recipients: list[str]
    body: Callable[[], Iterable[bytes]]
    may_finish: Callable[[], bool]
    report: Report
    divided: Callable[[], None]
    """Told when one attempt becomes two: one more report will come."""
    hops: list[Hop] = field(default_factory=list)
    """Next hops that are still to be tried, the next one first."""
    tried: str = ""
    """The name of the next hop that was tried last."""
    again: bool = False
    """It was on a connection that broke before anything was said about it; this happens once."""
    offered_at: float = field(default_factory=time.monotonic)

    def divide(self, count: int) -> Attempt:
        """Keep the first `count` recipients; the others are those of the attempt returned."""
        self.divided()
        rest = replace(self, recipients=self.recipients[count:], hops=list(self.hops))
        self.recipients = self.recipients[:count]
        return rest


class Transport(Protocol):
    """A way to deliver. All methods return at once."""

    name: str
    recipients_max: int
    """How many recipients one attempt may have."""
    by_domain: bool
    """Whether the recipients of one attempt must be of one domain."""

    def deliver(self, attempt: Attempt) -> None:
        """Take an attempt; its `report` is called later, or now."""

    def look(self, now: float) -> None:
        """Called every second (`now`: monotonic): the place for deadlines that nothing else watches."""

    def close(self) -> None:
        """End what is idle; attempts in hand go on."""
