"""A connection to the store that greenlets share: what they ask in one turn of the loop goes out together.

One greenlet per link publishes: it takes a batch of what was gathered, sends it in one write, reads the replies and
wakes the callers; meanwhile the next batch gathers (group commit). So an fsync, a system call and a wake-up of the
store are shared by all who came during the one before. With `together` a batch is one transaction: without it the store
reads some 16 KiB at a time, and makes an fsync for each piece.

Each call has an outcome of its own:

- a reply: executed. On a link with `commits` it is also durable: the store is fit (`fitness`) and fsyncs before it
  replies; where it has WAITAOF, that was asked behind the batch and said at least 1;
- NOSCRIPT, LOADING, READONLY and their like: not executed; sent again in time (READONLY: on a new connection);
- OOM: `StoreFull`. Other errors: `StoreRefused`;
- no reply: `StoreUnknown`, never sent again. A frozen store executes what it was sent once it wakes, even if the
  connection was closed long before; scripts that must not run late carry their deadline on the store's clock;
- not sent: `StoreDown`, or `StoreNotDurable` when the check before the batch failed.

A call waits at most `timeout_ms`. While the link is down calls fail at once; it reconnects in the background.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import gevent
from gevent.event import Event

from mta_front.observe.events import NOBODY, Events
from mta_front.store import fitness
from mta_front.store.batch import Batch, Call
from mta_front.store.errors import StoreDown, StoreError, StoreFull, StoreNotDurable, StoreRefused, StoreUnknown
from mta_front.store.options import StoreOptions
from mta_front.store.wire import Address, Command, Lost, ReplyError, Wire

__all__ = ["Call", "Link", "StoreOptions"]

BACKOFF_FIRST_S, BACKOFF_LAST_S = 0.05, 1.0
STEADY_S = 1.0  # connections that are lost again and again before this are not reconnected at once
CONNECT_S = 2.0
IDLE_S, PROBE_S = 0.01, 1.0
AGAIN_S = 0.02  # pause before a call that the store could not take yet is sent again
CLOCK_DOUBT_S, CLOCK_AGAIN_S = 0.1, 1.0  # a clock that took so long to read is read again after that
WORTH_SENDING = 1 / 8  # with less than this of its time left a call is refused, not sent: better than not knowing

_MOMENTARY = {"LOADING", "TRYAGAIN", "BUSY", "CLUSTERDOWN"}  # not executed; the store may take it in a moment
_ELSEWHERE = {"READONLY", "MASTERDOWN", "UNBLOCKED"}  # not executed; this store is the master no more
_NOT_EXECUTED = {"NOSCRIPT", "EXECABORT"} | _MOMENTARY | _ELSEWHERE

Greeting = tuple[Command, Callable[[Any], None]]


class Link:
    """One connection for one purpose, kept up in the background."""

    def __init__(
        self,
        options: StoreOptions,
        purpose: str,
        events: Events = NOBODY,
        *,
        scripts: Sequence[str] = (),
        greetings: Sequence[Greeting] = (),
        whole: bool = False,
        together: bool = False,
        commits: bool = False,
    ) -> None:
        """`scripts`: Lua texts to load. `greetings`: commands for each new connection, each with the judge of its
        reply, who may raise `StoreError`. `whole`: the store must be fit to be trusted with mail, not only serve.
        `together`: batches are transactions. `commits`: a reply means durable.
        """
        self._options = options
        self._events = events
        self._address = Address(options.url, options.username, options.password)
        self._scripts: list[Command] = [("SCRIPT", "LOAD", text) for text in scripts]
        self._greetings = list(greetings)
        self._whole = whole
        self._together = together
        self._commits = commits
        self._timeout_s = options.timeout_ms / 1000
        self._wire: Wire | None = None
        self._batches: deque[Batch] = deque()
        self._wake = Event()
        self._check_at = 0.0  # when the next check is due, time.monotonic()
        self._heard_at = 0.0  # when the store last answered
        self._waitaof = False
        self._clock_offset_us = 0
        self._greenlets: list[Any] = []
        self._told: tuple[bool, str] | None = None
        self.purpose = purpose
        self.fault: StoreError | None = StoreDown("not started")  # why calls fail at once; None = they are taken
        self.answered = False  # once, since the start, and fit
        self.up_since = 0.0  # time.monotonic() of the connection; 0 = none
        self.busy_since = 0.0  # when the batch under way was sent; 0 = none is

    # -- the callers' side ----------------------------------------------------------------------------------------

    def start(self) -> None:
        """Connect in the background; calls wait for the first attempt."""
        self.fault = None
        self._greenlets = [gevent.spawn(self._publish_forever), gevent.spawn(self._remind)]

    def close(self) -> None:
        """Close the connection; calls that wait fail."""
        gevent.killall(self._greenlets)
        self._drop()
        self._fail_all(StoreDown("closed"))

    def call(self, call: Call, deadline: float = 0.0) -> Any:
        """Send, wait, return the reply. `deadline` on `time.monotonic()`, only to wait less long than usual."""
        if deadline:
            call.deadline = deadline
            call.timed = True
        self.post(call)
        return self.wait(call)

    def post(self, call: Call) -> None:
        """Send without waiting. `StoreError` when that cannot be: then `then` is not called."""
        if self.fault is not None:
            raise _copy(self.fault)
        if not call.deadline:
            call.deadline = time.monotonic() + self._timeout_s
        batches = self._batches
        if not batches:
            self._wake.set()
        if not batches or not batches[-1].has_room(call):
            batches.append(Batch())
        batches[-1].add(call)

    def wait(self, call: Call) -> Any:
        """Wait for the outcome of a call that was posted."""
        while not call.done:
            if not call.timed:
                call.gate.wait()  # the publisher keeps the deadline
            elif not call.gate.wait(max(0.0, call.deadline - time.monotonic())):
                if call.sent:
                    call.finish(StoreUnknown("no answer in time"))
                else:
                    call.finish(StoreDown("its turn did not come in time"))
        return call.result()

    def distrust_clock(self) -> None:
        """The store said "late" to what was in time: its clock was set. Read it again before the next batch."""
        self._check_at = 0.0

    # -- the publisher --------------------------------------------------------------------------------------------

    def _remind(self) -> None:
        """Let an idle link see in time that its connection was closed, and that a check is due."""
        while True:
            gevent.sleep(min(PROBE_S, self._options.check_interval_s))
            self._wake.set()

    def _publish_forever(self) -> None:
        pause_s = BACKOFF_FIRST_S
        quick_losses = 0
        while True:
            try:
                self._connect()
                pause_s = BACKOFF_FIRST_S
                while True:
                    self._publish_next()
            except Lost as loss:
                quick_losses = quick_losses + 1 if time.monotonic() - self.up_since < STEADY_S else 0
                self._drop()
                self._tell(False, loss.reason)
                if loss.timed_out or quick_losses > 1:  # frozen: it would not answer a new connection either
                    self._fail_all(StoreDown(loss.reason))
            except StoreError as error:  # there is no connecting, or it must not be used
                self._drop()
                self._tell(False, error.reason)
                self._fail_all(error)
            except Exception as error:  # noqa: BLE001  # a bug; whoever waits must still hear of it
                self._events.fault(error, f"store {self.purpose}")
                self._drop()
                self._fail_all(StoreDown("a fault in the front"))
            if self.fault is not None:
                gevent.sleep(pause_s)
                pause_s = min(pause_s * 2, BACKOFF_LAST_S)

    def _connect(self) -> None:
        deadline = min(self._patience(), time.monotonic() + CONNECT_S)
        try:
            self._wire = wire = self._address.connect(max(0.001, deadline - time.monotonic()))
            self._check(wire, deadline)
            commands = [*self._scripts, *(command for command, _ in self._greetings), ("WAITAOF", "0", "0", "0")]
            replies = wire.ask(commands, deadline)
        except Lost as loss:
            raise StoreDown(loss.reason) from None
        self._judge_scripts(replies)
        for (_, judge), reply in zip(self._greetings, replies[len(self._scripts) :], strict=False):
            judge(reply)
        self._waitaof = self._commits and self._options.durability == "fsync" and isinstance(replies[-1], list)
        self.fault = None
        self.answered = True
        self.up_since = time.monotonic()
        self._tell(True, "")

    def _patience(self) -> float:
        """Until when the first of those who wait can wait; `time.monotonic()`."""
        until = time.monotonic() + self._timeout_s
        if self._batches:
            until = min([until, *(call.deadline for call in self._batches[0].calls if not call.timed)])
        return until

    def _check(self, wire: Wire, deadline: float) -> None:
        """Ask for the store's fitness, and what its clock says."""
        before = time.monotonic()
        *replies, clock = wire.ask([*fitness.QUESTIONS, ("TIME",)], deadline)
        after = time.monotonic()
        fitness.judge(self._options, self._whole, replies)
        if isinstance(clock, ReplyError):
            raise StoreDown(f"cannot read the store's clock: {clock.text}")
        # The store read its clock before `after`, so this offset is never too large: no deadline falls too late.
        self._clock_offset_us = int(clock[0]) * 1_000_000 + int(clock[1]) - int(after * 1_000_000)
        interval_s = self._options.check_interval_s
        self._check_at = after + (interval_s if after - before < CLOCK_DOUBT_S else min(interval_s, CLOCK_AGAIN_S))
        self._heard_at = after

    def _judge_scripts(self, replies: list[Any]) -> None:
        for reply in replies[: len(self._scripts)]:
            if isinstance(reply, ReplyError):
                raise StoreDown(f"cannot load scripts: {reply.text}")

    def _publish_next(self) -> None:
        if not self._batches:
            self._wake.clear()
            self._wake.wait()
        wire = self._wire
        assert wire is not None
        now = time.monotonic()
        if now - self._heard_at > IDLE_S:
            wire.must_be_open()  # else all that is sent now would be lost, and unknown
        if now >= self._check_at:  # a store that is found unfit is sent nothing, and nothing is acknowledged
            self._check(wire, self._patience())
        if self._batches:
            batch = self._batches.popleft()
            try:
                self._publish(wire, batch)
            finally:  # whatever happened, nobody waits on
                for call in batch.calls:
                    if not call.done and call.gate is batch.gate:
                        call.finish(StoreUnknown("a fault in the front"))
                batch.gate.set()

    def _publish(self, wire: Wire, batch: Batch) -> None:
        now = time.monotonic()
        calls = self._worth_sending(batch, now)
        if not calls:
            return
        deadline = min((call.deadline for call in calls if not call.timed), default=now + self._timeout_s)
        commands: list[Command] = [call.args for call in calls]
        framed = self._together and len(calls) > 1 and not batch.alone
        if framed:
            commands = [("MULTI",), *commands, ("EXEC",)]
        if self._waitaof:
            commands.append(("WAITAOF", "1", "0", max(1, int((deadline - now) * 1000))))
        replies: list[Any] = []
        loss: Lost | None = None
        self.busy_since = now
        try:
            wire.send(commands, deadline)
            for _ in commands:
                replies.append(wire.read(deadline))  # noqa: PERF401  # those before a loss count
        except Lost as error:
            loss = error
        self.busy_since = 0.0
        self._heard_at = time.monotonic()
        shortfall = self._shortfall(replies, loss) if self._waitaof else ""
        again = self._settle(calls, _unframed(replies, len(calls)) if framed else replies, loss, shortfall)
        if self._commits:
            self._events.committed(sum(call.done and call.error is None for call in calls), self._heard_at - now)
        if loss is not None:
            raise loss
        if again:
            self._make_ready_again(wire, again)

    def _worth_sending(self, batch: Batch, now: float) -> list[Call]:
        """The calls of a batch that still have time; the others are refused. All of these are sent from here on."""
        latest = now + self._timeout_s * WORTH_SENDING
        calls = []
        for call in batch.calls:
            if call.done:
                continue
            if call.deadline < latest:
                call.finish(StoreDown("its turn did not come in time"))
                continue
            if call.late:
                call.args[call.late] = int(call.deadline * 1_000_000) + self._clock_offset_us
            call.sent = True
            calls.append(call)
        return calls

    def _shortfall(self, replies: list[Any], loss: Lost | None) -> str:
        """Why what was executed may not be durable, by WAITAOF's reply; "" when it is."""
        if loss is not None:
            return loss.reason
        if not isinstance(replies[-1], list) or replies[-1][0] < 1:
            return "the store did not confirm its fsync"
        return ""

    def _settle(self, calls: list[Call], replies: list[Any], loss: Lost | None, shortfall: str) -> set[str]:
        """Give each call its outcome. Those that were not executed go to the front of the queue; the codes of why."""
        again = Batch()
        again.alone = True
        codes: set[str] = set()
        for index, call in enumerate(calls):
            if index >= len(replies):
                call.finish(StoreUnknown(loss.reason if loss else "no answer"))
                continue
            reply = replies[index]
            if not isinstance(reply, ReplyError):
                call.reply = reply
                call.finish(StoreUnknown(shortfall) if shortfall else None)
            elif reply.code in _NOT_EXECUTED:
                codes.add(reply.code)
                call.sent = False
                again.add(call)
            elif reply.code == "OOM":
                call.finish(StoreFull("the store is over its maxmemory"))
            else:
                call.finish(StoreRefused(reply.text))
        if again.calls:
            self._batches.appendleft(again)
        return codes

    def _make_ready_again(self, wire: Wire, codes: set[str]) -> None:
        if codes & _ELSEWHERE:
            raise Lost(f"the store is the master no more: {min(codes & _ELSEWHERE)}")
        if "NOSCRIPT" in codes:
            self._judge_scripts(wire.ask(self._scripts, self._patience()))
        if codes & _MOMENTARY:
            gevent.sleep(AGAIN_S)

    # -- states ---------------------------------------------------------------------------------------------------

    def _drop(self) -> None:
        self.up_since = 0.0
        self.busy_since = 0.0
        if self._wire is not None:
            self._wire.close()
            self._wire = None

    def _fail_all(self, error: StoreError) -> None:
        self.fault = error
        while self._batches:
            batch = self._batches.popleft()
            for call in batch.calls:
                call.finish(_copy(error))
            batch.gate.set()

    def _tell(self, up: bool, reason: str) -> None:
        if self._told != (up, reason):
            self._told = (up, reason)
            self._events.store_state(self.purpose, up, reason)


def _unframed(replies: list[Any], count: int) -> list[Any]:
    """The replies of a transaction's calls, as far as they came."""
    began, queued, ended = replies[:1], replies[1 : count + 1], replies[count + 1 : count + 2]
    if not ended:
        return []
    if isinstance(ended[0], list):
        return ended[0]
    if began and isinstance(began[0], ReplyError):  # no transaction, so each was executed by itself
        return queued
    return [ended[0]] * count  # EXECABORT: one was refused, and none was executed; each is sent again by itself


def _copy(error: StoreError) -> StoreError:
    """One for each caller. None of them was sent: what was unknown or refused for others is down for these."""
    kind = type(error) if isinstance(error, (StoreDown, StoreNotDurable)) else StoreDown
    return kind(error.reason)
