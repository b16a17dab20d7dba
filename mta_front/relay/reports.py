"""Settlements and the reports that go with them: `delivery` judges, `dsn` writes, and the message is read only as far
as it goes back to its sender.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from mta_front.observe.events import Events
from mta_front.relay.delivery import Reporting, Result, Settlement, conclude
from mta_front.relay.dsn import Kind, Returned, compose, gather
from mta_front.relay.schedule import Schedule
from mta_front.store.claim import Claim
from mta_front.store.errors import StoreBodyGone, StoreError
from mta_front.store.settling import Report


class Reports:
    """What a relay says to senders. `name`: ours; `return_max_bytes`: of a message that goes back whole."""

    def __init__(
        self, schedule: Schedule, reporting: Reporting, name: str, return_max_bytes: int, events: Events
    ) -> None:
        self._schedule = schedule
        self._reporting = reporting
        self._name = name
        self._return_max_bytes = return_max_bytes
        self._events = events

    def conclude(
        self, claim: Claim, results: Mapping[str, Result], now: float, dice: Callable[[], float]
    ) -> Settlement:
        """Judge an attempt; see `delivery.conclude`."""
        return conclude(claim, results, self._schedule, now, dice, self._reporting)

    def write(
        self, claim: Claim, settlement: Settlement, now: float, body: Callable[[], Iterable[bytes]]
    ) -> list[Report]:
        """The reports of a settlement. `body` reads the message; StoreError when that cannot be done now.

        A report that cannot be written is a bug: it is told, and who it was about becomes a dead letter.
        """
        if not settlement.told:
            return []
        try:
            return [self._written(claim, settlement, now, body, kind) for kind in settlement.told]
        except StoreError:
            raise
        except Exception as error:  # noqa: BLE001
            self._events.fault(error, "relay")
            settlement.told.clear()
            settlement.dead = list(settlement.failed)
            return []

    def _written(
        self, claim: Claim, settlement: Settlement, now: float, body: Callable[[], Iterable[bytes]], kind: Kind
    ) -> Report:
        envelope = claim.envelope
        try:
            returned = gather(envelope, body, kind, self._return_max_bytes)
        except StoreBodyGone:
            returned = Returned(None, False)
        report = compose(
            kind,
            envelope,
            settlement.told[kind],
            returned,
            attempt=claim.attempts,
            name=self._name,
            now=now,
            retry_until=self._schedule.expires_at(envelope.received_at),
        )
        return Report(*report)
