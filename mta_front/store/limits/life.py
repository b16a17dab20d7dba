"""A worker's life in the store: what it holds counts while it says that it lives.

One greenlet renews the life, a single call each third of a lease. When the store was away, whatever came back (the same
one, one without its last second, an empty one, another master) need not know what is held: so a worker begins a new
life, under a new number, writes down what it holds in slices, and the old number counts as dead at once. No count is
corrected, none is replayed.
"""

from __future__ import annotations

import contextlib
import random
import secrets
import time
from typing import Any

import gevent
from gevent.event import Event

from mta_front.observe.events import Events
from mta_front.store.client import Call, Link
from mta_front.store.errors import StoreError, StoreUnknown
from mta_front.store.keys import LimitKeys
from mta_front.store.limits import calls
from mta_front.store.limits.alone import Alone
from mta_front.store.limits.breaker import Breaker
from mta_front.store.limits.local import Holds

SLICE = 500  # leases in one call
PROBE_S = 0.1
RENEWALS = 3  # in a lease,
LASTS = 0.9  # of which a worker that says nothing has so much: who looks at the end of a lease finds it dead
REWRITE_S = 3600.0  # what is held for hours is written again before its key expires
FAULT_PAUSE_S = 1.0


class Life:
    """Of one worker; `number` is what its leases carry."""

    def __init__(
        self, link: Link, keys: LimitKeys, lease_s: float, breaker: Breaker, holds: Holds, alone: Alone, events: Events
    ) -> None:
        self._link = link
        self._keys = keys
        self._lease_s = lease_s
        self._breaker = breaker
        self._holds = holds
        self._alone = alone
        self._events = events
        self._wake = Event()
        self._greenlet: Any = None
        self._renew_at = 0.0
        self._rewrite_at = 0.0
        self._frees: dict[str, list[str]] = {}  # lease -> what is to be given back of it
        self._free_count = 0
        self._unwritten: set[str] = set()  # sessions that hold what the store may not know of
        self._written = False  # what is held is in the store, or on its way there
        self.mode = "shared"
        self.number = _number()

    @property
    def begun(self) -> bool:
        """The store knows of it."""
        return self._written

    def start(self) -> None:
        """Begin to live."""
        self._greenlet = gevent.spawn(self._run)

    def close(self) -> None:
        """What is held is free."""
        gevent.kill(self._greenlet)
        if self._written and not self._breaker.open:
            with contextlib.suppress(StoreError):  # then it dies with its lease
                self._link.call(calls.leave(self._keys, self.number))

    def failed(self, reason: str) -> None:
        """The store is away, or too slow: sessions leave it alone until it is well again."""
        self._written = False
        if self._breaker.failed():
            self.degraded(reason)

    def degraded(self, reason: str) -> None:
        """The breaker has opened."""
        self._written = False
        self._frees = {}
        self._free_count = 0
        self._wake.set()
        if self.mode == "shared":
            self.mode = "degraded"
            self._events.limits_mode("degraded", reason)

    def remember(self, session: str) -> None:
        """The session holds what the store was not told."""
        self._unwritten.add(session)
        if not self._breaker.open:
            self._wake.set()

    def free(self, session: str, leases: tuple[str, ...]) -> None:
        """The session holds these no more. Those of one turn of the loop travel together, and before what is asked."""
        if not self._written:
            return  # the new life will not know them
        frees = self._frees
        if not frees:
            gevent.get_hub().loop.run_callback(self.flush)
        member = f"{self.number}/{session}"
        for lease in leases:
            members = frees.get(lease)
            if members is None:
                frees[lease] = [member]
            else:
                members.append(member)
        self._free_count += len(leases)
        if self._free_count >= SLICE:
            self.flush()

    def flush(self) -> None:
        """Send what was given back."""
        if self._frees:
            members, self._frees = self._frees, {}
            self._free_count = 0
            try:
                self._link.post(calls.free(members, self._freed))
            except StoreError as error:
                self.failed(error.reason)

    def _freed(self, call: Call) -> None:
        if call.error is not None:
            self.failed(call.error.reason)

    # -- the greenlet ---------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            try:
                self._turn()
            except StoreError as error:
                self.failed(error.reason)
            except Exception as error:  # noqa: BLE001  # a bug; without this greenlet the worker would count as dead
                self._events.fault(error, "limits")
                self.failed("a fault in the front")
                gevent.sleep(FAULT_PAUSE_S)

    def _turn(self) -> None:
        if self._breaker.open:
            gevent.sleep(PROBE_S * (0.75 + _chance() / 2))  # not all workers at once
            self._probe()
            return
        if not self._written:
            self._begin()
        self._write()
        now = time.monotonic()
        if self._breaker.settled(now):
            self.mode = "shared"
            self._events.limits_mode("shared", "")
        if now >= self._rewrite_at:
            self._rewrite_at = now + REWRITE_S
            self._unwritten.update(self._holds.sessions())
            return
        if now >= self._renew_at:
            if not self._live():
                self._begin()  # it was thought dead, and what it held was swept
            return
        self._wake.clear()
        self._wake.wait(min(self._renew_at - now, 1.0 if not self._breaker.closed else self._lease_s))

    def _probe(self) -> None:
        began, busy = time.monotonic(), time.thread_time()
        self._live()
        took_s = time.monotonic() - began - (time.thread_time() - busy)
        if self._breaker.probed(took_s):
            self._begin()
            self._breaker.come_back(time.monotonic())

    def _begin(self) -> None:
        """A new life: the one before is over, with all that it held."""
        ends, self.number = self.number, _number()
        self._live(ends)
        self._unwritten = set(self._holds.sessions())
        self._rewrite_at = time.monotonic() + REWRITE_S
        self._written = True
        self._write()

    def _write(self) -> None:
        """Write down what the store was not told, as far as it is still held."""
        while self._unwritten:
            held: list[tuple[str, str]] = []
            while self._unwritten and len(held) < SLICE:
                session = self._unwritten.pop()
                held += [(lease, session) for lease in self._holds.of(session)]
            if held:
                self._told(calls.hold(self.number, held))

    def _live(self, ends: str = "") -> bool:
        """Say so. False: nobody knew."""
        lasts_ms = int(self._lease_s * LASTS * 1000)
        known, alive, now_ms, *bans = self._told(calls.live(self._keys, self.number, lasts_ms, ends))
        now = time.monotonic()
        self._renew_at = now + self._lease_s / RENEWALS
        self._alone.fleet = max(1, alive)
        self._alone.bans = {
            name.decode(): now + (float(end_ms) - float(now_ms)) / 1000
            for name, end_ms in zip(bans[::2], bans[1::2], strict=True)
        }
        return bool(known)

    def _told(self, call: Call) -> Any:
        reply = self._link.call(call)
        if reply == calls.TOO_LATE:
            self._link.distrust_clock()
            raise StoreUnknown("it came too late")
        return reply


_chance = random.Random().random  # noqa: S311  # no secret


def _number() -> str:
    """For a life: a score of a sorted set is exact up to 2**53."""
    return str(secrets.randbelow(1 << 48) + 1)
