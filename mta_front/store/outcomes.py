"""What became of the calls of a batch, by the replies that came."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from mta_front.store.batch import Batch, Call
from mta_front.store.errors import StoreFull, StoreRefused, StoreUnknown
from mta_front.store.topology import place_in
from mta_front.store.wire import Lost, Place, ReplyError

MOMENTARY = {"LOADING", "TRYAGAIN", "BUSY", "CLUSTERDOWN"}  # not executed; the store may take it in a moment
ELSEWHERE = {"READONLY", "MASTERDOWN", "UNBLOCKED"}  # not executed; this store is the master no more
NOT_EXECUTED = {"NOSCRIPT", "EXECABORT", "MOVED", "ASK"} | MOMENTARY | ELSEWHERE


def settle(
    calls: Iterable[Call], replies: Sequence[Any], loss: Lost | None, shortfall: str, host: str
) -> tuple[dict[str, ReplyError], list[Batch]]:
    """Give each call its outcome. Those that were not executed come back in batches, to be sent again, with the errors
    of why, by their codes. `shortfall`: why what was executed may not be durable; "" when it is. `host`: who
    was asked.
    """
    again = Batch(alone=True)
    asked: dict[Place, Batch] = {}
    errors: dict[str, ReplyError] = {}
    for index, call in enumerate(calls):
        if index >= len(replies):
            call.finish(StoreUnknown(loss.reason if loss else "no answer"))
            continue
        reply = replies[index]
        if not isinstance(reply, ReplyError):
            call.reply = reply
            call.finish(StoreUnknown(shortfall) if shortfall else None)
        elif reply.code in NOT_EXECUTED:
            errors[reply.code] = reply
            call.sent = False
            place = place_in(reply.text, host) if reply.code == "ASK" else None
            (asked.setdefault(place, Batch(alone=True, asked_at=place)) if place else again).add(call)
        elif reply.code == "OOM":
            call.finish(StoreFull("the store is over its maxmemory"))
        else:
            call.finish(StoreRefused(reply.text))
    return errors, [batch for batch in (again, *asked.values()) if batch.calls]
