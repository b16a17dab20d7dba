"""Attempts made by tests, and what was reported of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from mta_front.observe.events import Events
from mta_front.relay.attempt import Attempt, Transport
from mta_front.smtp.transaction import Outcome
from mta_front.store.entry import Entry
from tests.relay.hub import eventually

BODY = b"Subject: x\r\n\r\n.dot\r\nend\r\n"
_numbers = itertools.count(1)


class Noted(Events):
    """Keeps what was reported."""

    def __init__(self) -> None:
        self.faults: list[BaseException] = []
        self.attempts: list[tuple[str, str, int]] = []
        self.settlements: list[dict[str, Any]] = []

    def fault(self, error: BaseException, where: str) -> None:
        self.faults.append(error)

    def attempted(self, transport: str, outcome: str, recipients: int, duration_s: float) -> None:
        self.attempts.append((transport, outcome, recipients))

    def settled(self, summary: dict[str, Any]) -> None:
        self.settlements.append(summary)


class Try:
    """One attempt and its report. `outcomes` None: not reported yet, or let go (`let_go`).

    Where a transport divides it, `outcomes` are those of all parts, in the order of the recipients; `found`: so far.
    """

    def __init__(
        self,
        recipients: Sequence[str] = ("b@y.example",),
        body: bytes | Callable[[], Iterable[bytes]] = BODY,
        may_finish: Callable[[], bool] = lambda: True,
        **fields: Any,
    ) -> None:
        self.reports = 0
        self.parts = 1
        self.outcomes: Sequence[Outcome] | None = None
        self.next_hop = ""
        self.id = f"id{next(_numbers)}"
        self._recipients = list(recipients)
        self.found: dict[str, Outcome] = {}
        values: dict[str, Any] = {"mail_from": "a@x.example", "received_at": 1_700_000_000.5, "size_bytes": 27}
        self.attempt = Attempt(
            Entry(id=self.id, rcpt_to=list(recipients), **values | fields),
            list(recipients),
            body if callable(body) else lambda: iter([body]),
            may_finish,
            self._report,
            self._divided,
        )

    def _divided(self) -> None:
        self.parts += 1

    def _report(self, attempt: Attempt, outcomes: Sequence[Outcome] | None, next_hop: str) -> None:
        assert attempt.envelope is self.attempt.envelope
        self.reports += 1
        self.next_hop = next_hop
        if outcomes is None:
            return
        self.found |= zip(attempt.recipients, outcomes, strict=True)
        if self.reports == self.parts:
            self.outcomes = [self.found[recipient] for recipient in self._recipients]

    @property
    def let_go(self) -> bool:
        return self.reports > 0 and self.outcomes is None

    @property
    def kinds(self) -> list[str]:
        assert self.outcomes is not None
        return [outcome.kind for outcome in self.outcomes]

    @property
    def only(self) -> Outcome:
        assert self.outcomes is not None
        assert len(self.outcomes) == 1
        return self.outcomes[0]


def deliver(transport: Transport, *tries: Try, timeout_s: float = 10.0) -> None:
    """Give attempts to a transport and wait until each was reported, once."""
    for each in tries:
        transport.deliver(each.attempt)
    eventually(lambda: all(each.reports >= each.parts for each in tries), timeout_s, "every attempt is reported")
    assert [each.reports for each in tries] == [each.parts for each in tries]


def pieces(body: bytes, size: int) -> Iterator[bytes]:
    """A body in segments of `size` bytes."""
    return (body[start : start + size] for start in range(0, len(body), size))
