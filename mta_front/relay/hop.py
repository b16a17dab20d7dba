"""One next hop: its health, the attempts that wait for it, and how many connections carry them.

A hop that cannot be reached is set aside: what waits for it goes elsewhere or is deferred at once, and so is what comes
meanwhile, so that 20,000 messages do not each try a dead host. When its back-off is over, one attempt probes it. A hop
that was never tried, or has come back, gets one connection first and more when that one has said hello.

A hop may have a pace. Who would wait for too long gets a turn by the clock instead, and comes back then: what is in
hand is for those whose turn it is.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

import gevent
from gevent.event import Event

from mta_front.observe.events import Events
from mta_front.relay.attempt import Attempt
from mta_front.relay.pace import Pace
from mta_front.smtp.transaction import Outcome

BACKOFF_S = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
"""How long a hop is set aside after the first, second, … failure in a row; the last repeats."""
LOSSES_MAX = 3
"""So many connections that break in a row, with no message answered between, set the hop aside too."""
PATIENCE_S = 30.0
"""A hop that answers no message for so long, while others wait for it, is set aside."""
QUICK_S = 0.05
"""A next hop that answers a message within so long is quick: see `Health.quick`."""
TURN_S = 10.0
"""Who would wait for its turn longer than this comes back when it is due."""
CROWD_S = 30.0
"""Who finds too many waiting comes back after so long."""
FULL_S = 1.0
"""How long until places for connections are asked for again, when other relays have them all."""
CROWDED_S = 5.0
"""So long no further connection is tried after one was refused while others live: the hop has its own limit."""


class Unreachable(Exception):
    """No connection to the next hop. `code`: of the reply that refused it, 0 = none."""

    def __init__(self, reason: str, code: int = 0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.code = code


class Carrier(Protocol):
    """A connection that carries attempts, one after the other."""

    def serve(self) -> None:
        """Carry until there is nothing to do for a while or the connection ends."""

    def close(self) -> None:
        """Close the socket."""


class Fleet(Protocol):
    """Places for connections to this next hop, counted over all relays."""

    def enter(self, name: str) -> str:
        """A place, "" if there is none. May wait."""

    def leave(self, place: str) -> None:
        """Give it back."""


class Health:
    """Whether a next hop may be used. The clock is an argument: seconds, monotonic."""

    __slots__ = ("answer_s", "failures", "good_at", "last", "losses", "probing", "proven", "retry_at")

    def __init__(self) -> None:
        self.proven = False  # a connection said hello since the last failure
        self.failures = 0  # in a row
        self.losses = 0  # connections that broke, in a row
        self.retry_at = 0.0
        self.probing = False  # the attempt that tries it again is on its way
        self.good_at = 0.0  # when it last answered a message
        self.answer_s = math.inf  # how long it takes to, of late
        self.last = Outcome("deferred", 0, "")  # what to tell those who are turned away

    def admits(self, now: float) -> bool:
        """Whether an attempt may wait for it now. After the back-off: one may."""
        if not self.failures or self.proven:
            return True
        if self.probing or now < self.retry_at:
            return False
        self.probing = True
        return True

    def reached(self) -> None:
        """It said hello."""
        self.proven = True
        self.probing = False

    @property
    def quick(self) -> bool:
        """Whether the next message may go out behind one that is not answered yet.

        Over a connection that takes its time it would only wait there, while others become free.
        """
        return self.answer_s < QUICK_S

    def answered(self, now: float, answer_s: float) -> None:
        """It answered a message, `answer_s` after its end: nothing that went before counts."""
        self.failures = self.losses = 0
        self.good_at = now
        self.answer_s = answer_s if self.answer_s == math.inf else 0.8 * self.answer_s + 0.2 * answer_s

    def failed(self, now: float, outcome: Outcome) -> None:
        """It cannot be used: set aside. While it is, more connections that end are no further failure."""
        self.losses = 0
        self.last = outcome
        if self.failures and not self.proven and now < self.retry_at:
            return
        self.retry_at = now + BACKOFF_S[min(self.failures, len(BACKOFF_S) - 1)]
        self.failures += 1
        self.proven = self.probing = False

    def lost(self) -> bool:
        """A connection broke in the middle; True if that was one too many."""
        self.losses += 1
        return self.losses >= LOSSES_MAX


class Hop:
    """`connect` makes a Carrier or raises Unreachable; `turned_away` gets each attempt that has to go elsewhere."""

    def __init__(
        self,
        name: str,
        max_connections: int,
        connect: Callable[[Hop], Carrier],
        turned_away: Callable[[Attempt, Outcome], None],
        events: Events,
        *,
        pace: Pace | None = None,
        max_waiting: int = 0,
        fleet: Fleet | None = None,
    ) -> None:
        """`max_waiting`: 0 = no limit. `fleet`: counts connections of all relays; None = nobody does."""
        self.name = name
        self.health = Health()
        self.closing = False
        self._max_connections = max_connections
        self._connect = connect
        self._turned_away = turned_away
        self._events = events
        self._waiting: deque[Attempt] = deque()
        self._idle: list[Event] = []
        self._carriers = 0
        self._connecting = 0
        self._crowded_until = 0.0
        self._pace = pace
        self._held_at = 0.0  # when the pace last held something back
        self._woken_at = 0.0  # when somebody will see to what it holds; 0 = nobody will
        self._max_waiting = max_waiting
        self._fleet = fleet

    # -- for the transport -----------------------------------------------------------------------------------------

    def offer(self, attempt: Attempt, now: float) -> Outcome | None:
        """Take the attempt, or say why not: the hop is set aside, or too many wait for it."""
        crowd = self._crowd(now)
        if crowd is not None:
            return crowd
        if not self.health.admits(now):
            return self.health.last
        attempt.offered_at = now
        self._waiting.append(attempt)
        self._staff(now)
        return None

    def look(self, now: float) -> None:
        """Watch for a hop that takes connections and answers nothing."""
        if self._waiting:
            since = max(self._waiting[0].offered_at, self.health.good_at, self._held_at)
            if now - since > PATIENCE_S and not self._connecting:
                self.set_aside(Outcome("deferred", 0, f"{self.name} has not answered for {PATIENCE_S:.0f} s"))
            else:
                self._staff(now)

    @property
    def unused(self) -> bool:
        """Whether nothing waits here and no connection is open."""
        return not self._waiting and not self._carriers

    def close(self) -> None:
        """Let idle connections say QUIT."""
        self.closing = True
        self._wake_all()

    # -- for its carriers ------------------------------------------------------------------------------------------

    def next(self) -> Attempt | None:
        """The next attempt that waits, if there is one whose time has come."""
        if not self._waiting or self._held(time.monotonic()):
            return None
        return self._waiting.popleft()

    def wait(self, timeout_s: float) -> bool:
        """Idle until there may be an attempt; False after `timeout_s`, or when the hop closes."""
        if self.closing:
            return False
        woken = Event()
        self._idle.append(woken)
        woken.wait(timeout_s)
        if woken.is_set():
            return not self.closing
        self._idle.remove(woken)
        return False

    def again(self, attempt: Attempt) -> None:
        """Put back an attempt about which nothing was said: another connection will have it, once."""
        attempt.again = True
        self._put_back(attempt)

    def pass_on(self, attempt: Attempt, outcome: Outcome) -> None:
        """Let the next hop after this one have it, if there is one: this one cannot take it."""
        self._turned_away(attempt, outcome)

    def rest(self, attempt: Attempt) -> None:
        """Take the recipients that had no place in a transaction: any connection may have them."""
        self._put_back(attempt)
        self._staff(time.monotonic())

    def _put_back(self, attempt: Attempt) -> None:
        if self.health.failures and not self.health.proven:
            self._turned_away(attempt, self.health.last)
        else:
            self._waiting.appendleft(attempt)

    def set_aside(self, outcome: Outcome) -> None:
        """The hop cannot be used; what waits for it goes elsewhere."""
        self.health.failed(time.monotonic(), outcome)
        waiting = list(self._waiting)
        self._waiting.clear()
        for attempt in waiting:
            self._turned_away(attempt, outcome)

    # -- how much it gets ----------------------------------------------------------------------------------------------

    def _crowd(self, now: float) -> Outcome | None:
        """Why one more cannot wait here."""
        waiting = len(self._waiting)
        if self._pace is not None and self._pace.last_in_s(waiting, now) > TURN_S:
            wait_s = self._pace.promise(waiting, now)
            return Outcome("deferred", 451, f"4.4.5 {self.name} gets messages at a rate, and many wait", wait_s=wait_s)
        if self._max_waiting and waiting >= self._max_waiting:
            return Outcome("deferred", 451, f"4.4.5 {waiting} messages wait for {self.name}", wait_s=CROWD_S)
        return None

    def paid(self) -> None:
        """A message goes out: it counts."""
        if self._pace is not None:
            self._pace.take(time.monotonic())

    def _held(self, now: float) -> bool:
        """Whether the pace holds back what waits; somebody sees to it when its time has come."""
        wait_s = 0.0 if self._pace is None else self._pace.wait_s(now)
        if not wait_s:
            return False
        self._held_at = now + wait_s
        if not now < self._woken_at <= self._held_at:
            self._woken_at = self._held_at
            gevent.spawn_later(wait_s, self._wake)
        return True

    def _wake(self) -> None:
        self._woken_at = 0.0
        if self._waiting:
            self._staff(time.monotonic())

    # -- connections -----------------------------------------------------------------------------------------------

    def _staff(self, now: float, taken: int = 0) -> None:
        """See to it that somebody carries what waits: wake the connection used last, or open some.

        `taken`: as good as taken of those who wait.
        """
        if self._held(now):
            return
        if self._idle:
            self._idle.pop().set()
            return
        wanted = len(self._waiting) - taken if self.health.proven else 1
        while self._carriers < self._max_connections and self._connecting < wanted and now >= self._crowded_until:
            self._carriers += 1
            self._connecting += 1
            gevent.spawn(self._run)

    def _run(self) -> None:
        place = self._fleet.enter(self.name) if self._fleet is not None else ""
        if self._fleet is not None and not place:
            self._carriers -= 1
            self._connecting -= 1
            self._look_again(time.monotonic())
            return
        try:
            self._run_in_place()
        finally:
            if self._fleet is not None:
                self._fleet.leave(place)

    def _look_again(self, now: float) -> None:
        """Other relays have all connections that there may be: it is not the next hop's fault, and theirs will end."""
        self._crowded_until = self._held_at = now + FULL_S
        if self._waiting:
            gevent.spawn_later(FULL_S, self._wake)

    def _run_in_place(self) -> None:
        carrier = None
        try:
            try:
                carrier = self._connect(self)
            except Unreachable as error:
                self._carriers -= 1
                self._connecting -= 1
                self._refused(Outcome("deferred", error.code, error.reason))
                return
            self._connecting -= 1
            self.health.reached()
            if len(self._waiting) > 1:
                self._staff(time.monotonic(), taken=1)
            carrier.serve()
        except Exception as error:  # noqa: BLE001 - a bug must cost one connection, not the relay
            if carrier is None:
                self._connecting -= 1
            self._events.fault(error, "relay")
        finally:
            if carrier is not None:
                carrier.close()
        self._carriers -= 1
        if self._waiting:
            self._staff(time.monotonic())

    def _refused(self, outcome: Outcome) -> None:
        if self._carriers > self._connecting:
            self._crowded_until = time.monotonic() + CROWDED_S
        else:
            self.set_aside(outcome)

    def _wake_all(self) -> None:
        idle, self._idle = self._idle, []
        for woken in idle:
            woken.set()


def in_turn(attempt: Attempt, now: float, outcome: Outcome | None = None) -> None:
    """Give the attempt to the first of its next hops that takes it; else report why the last one did not.

    `outcome`: why the one before did not, which had taken it.
    """
    while attempt.hops:
        hop = attempt.hops.pop(0)
        attempt.tried = hop.name
        outcome = hop.offer(attempt, now)
        if outcome is None:
            return
    assert outcome is not None
    attempt.report(attempt, [outcome] * len(attempt.recipients), attempt.tried)
