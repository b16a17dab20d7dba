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
from collections.abc import Sequence
from random import uniform
from typing import Any

import gevent
from gevent.event import Event

from mta_front.observe.events import NOBODY, Events
from mta_front.store import framing
from mta_front.store.batch import Batch, Call
from mta_front.store.errors import StoreDown, StoreError, StoreNotDurable, StoreUnknown
from mta_front.store.keys import confirmation
from mta_front.store.node import Greeting, Node, judge_scripts
from mta_front.store.options import StoreOptions
from mta_front.store.outcomes import ELSEWHERE, MOMENTARY, settle
from mta_front.store.topology import Topology, place_in, topology_of
from mta_front.store.wire import Command, Lost, Place, ReplyError, Wire

__all__ = ["Call", "Greeting", "Link", "StoreOptions"]

BACKOFF_FIRST_S, BACKOFF_LAST_S = 0.05, 1.0
STEADY_S = 1.0  # connections that are lost again and again before this are not reconnected at once
CONNECT_S = 2.0
IDLE_S, PROBE_S = 0.01, 1.0
AGAIN_S = 0.02  # pause before a call that the store could not take yet is sent again
WORTH_SENDING = 1 / 8  # with less than this of its time left a call is refused, not sent: better than not knowing


class _Moved(Lost):
    """The tag lives on another node now; nothing is lost but this connection."""


class Link:
    """One connection for one purpose, kept up in the background."""

    def __init__(
        self,
        options: StoreOptions,
        purpose: str,
        events: Events = NOBODY,
        *,
        tag: str = "",
        topology: Topology | None = None,
        scripts: Sequence[str] = (),
        greetings: Sequence[Greeting] = (),
        whole: bool = False,
        together: bool = False,
        commits: bool = False,
    ) -> None:
        """`tag`: the hash tag of all keys that will be asked for; in a Cluster it decides where we connect to.
        `topology`: shared with other links. `scripts`: Lua texts to load. `greetings`: commands for each new
        connection, each with the judge of its reply, who may raise `StoreError`. `whole`: the store must be fit to be
        trusted with mail, not only serve. `together`: batches are transactions. `commits`: a reply means durable.
        """
        self._options = options
        self._events = events
        self._tag = tag
        self._topology = topology or topology_of(options)
        self._scripts: list[Command] = [("SCRIPT", "LOAD", text) for text in scripts]
        self._greetings = list(greetings)
        self._whole = whole
        self._together = together
        self._commits = commits
        self._confirmed_by = confirmation(options.prefix, tag or "0") if commits else ""
        self._timeout_s = options.timeout_ms / 1000
        self._node: Node | None = None
        self._aside: dict[Place, Node] = {}  # nodes of a Cluster to which our slot is on its way
        self._batches: deque[Batch] = deque()
        self._wake = Event()
        self._moved = False  # others say that the master is another one
        self._greenlets: list[Any] = []
        self._told: tuple[bool, str] | None = None
        self._told_replicas: int | None = None
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
        for node in filter(None, (self._node, *self._aside.values())):
            node.check_at = 0.0

    # -- the publisher --------------------------------------------------------------------------------------------

    def _remind(self) -> None:
        """Let an idle link see in time that its connection was closed, and that a check is due; ask whether it is still
        the right one.
        """
        interval_s = self._options.check_interval_s
        ask_at = time.monotonic() + interval_s
        while True:
            gevent.sleep(min(PROBE_S, interval_s))
            node = self._node
            if node is not None and time.monotonic() >= ask_at:
                ask_at = time.monotonic() + _about(interval_s)
                if self._topology.has_moved(node.wire, time.monotonic() + CONNECT_S) and node is self._node:
                    self._moved = True
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
            except _Moved:
                self._drop()
                gevent.sleep(AGAIN_S)  # whoever sent us there may know more than the node there
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
                gevent.sleep(_about(pause_s))
                pause_s = min(pause_s * 2, BACKOFF_LAST_S)

    def _connect(self) -> None:
        deadline = time.monotonic() + CONNECT_S
        if self.fault is None:  # else nobody waits, and a store far away gets the time that it needs
            deadline = min(self._patience(), deadline)
        self._moved = False
        try:
            self._node = self._prepared(self._topology.connect(self._tag, deadline), self._greetings, deadline)
        except Lost as loss:
            raise StoreDown(loss.reason) from None
        self.fault = None
        self.answered = True
        self.up_since = time.monotonic()
        self._tell(True, "")
        self._tell_replicas(self._node)

    def _prepared(self, wire: Wire, greetings: Sequence[Greeting], deadline: float) -> Node:
        node = Node(self._options, wire, self._whole)
        try:
            node.prepare(self._scripts, greetings, self._confirmed_by, deadline)
        except BaseException:
            wire.close()
            raise
        return node

    def _patience(self) -> float:
        """Until when the first of those who wait can wait; `time.monotonic()`."""
        until = time.monotonic() + self._timeout_s
        if self._batches:
            until = min([until, *(call.deadline for call in self._batches[0].calls if not call.timed)])
        return until

    def _publish_next(self) -> None:
        if not self._batches:
            self._wake.clear()
            self._wake.wait()
        if self._moved:
            raise Lost("the store has another master")
        node = self._node
        assert node is not None
        now = time.monotonic()
        if now - node.heard_at > IDLE_S:
            node.wire.must_be_open()  # else all that is sent now would be lost, and unknown
        if now >= node.check_at:  # a store that is found unfit is sent nothing, and nothing is acknowledged
            node.check(self._patience())
            self._tell_replicas(node)
        if self._batches:
            place = self._batches[0].asked_at
            aside = self._node_aside(place) if place is not None else node
            batch = self._batches.popleft()
            if aside is None:  # ask our own node again, which may know better by now
                gevent.sleep(AGAIN_S)
                batch.asked_at = None
            try:
                self._publish(aside or node, batch)
            finally:  # whatever happened, nobody waits on
                for call in batch.calls:
                    if not call.done and call.gate is batch.gate:
                        call.finish(StoreUnknown("a fault in the front"))
                batch.gate.set()

    def _node_aside(self, place: Place) -> Node | None:
        """The node that has what our own one has given away already; None: there is no connecting. As fit as our own,
        or it is sent nothing.
        """
        node = self._aside.pop(place, None)
        deadline = min(self._patience(), time.monotonic() + CONNECT_S)
        try:
            if node is None:
                node = self._prepared(self._topology.connect_to(place, deadline), (), deadline)
            node.wire.must_be_open()
            if time.monotonic() >= node.check_at:
                node.check(deadline)
        except (Lost, StoreDown):
            return None
        self._aside[place] = node
        return node

    def _publish(self, node: Node, batch: Batch) -> None:
        now = time.monotonic()
        calls = self._worth_sending(batch, node, now)
        if not calls:
            return
        deadline = min((call.deadline for call in calls if not call.timed), default=now + self._timeout_s)
        frame = framing.ASKING if batch.asked_at else framing.PLAIN
        if self._together and len(calls) > 1 and not batch.alone:
            frame = framing.TRANSACTION
        commands = frame.put_around([call.args for call in calls])
        commands += node.confirmations(deadline - now)
        replies: list[Any] = []
        loss: Lost | None = None
        self.busy_since = now
        try:
            node.wire.send(commands, deadline)
            for _ in commands:
                replies.append(node.wire.read(deadline))  # noqa: PERF401  # those before a loss count
        except Lost as error:
            loss = error
        self.busy_since = 0.0
        node.heard_at = time.monotonic()
        shortfall = node.shortfall(replies, loss)
        host, _ = node.wire.place
        errors, again = settle(calls, frame.take_from(replies, len(calls)), loss, shortfall, host)
        self._batches.extendleft(again)
        if self._commits:
            self._events.committed(sum(call.done and call.error is None for call in calls), node.heard_at - now)
        if loss is not None:
            raise loss
        if shortfall:  # connect anew: then it must be proven before anything is sent
            raise StoreDown(shortfall)
        if errors:
            self._make_ready_again(node, errors)

    def _worth_sending(self, batch: Batch, node: Node, now: float) -> list[Call]:
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
                call.args[call.late] = int(call.deadline * 1_000_000) + node.clock_offset_us
            call.sent = True
            calls.append(call)
        return calls

    def _make_ready_again(self, node: Node, errors: dict[str, ReplyError]) -> None:
        codes = errors.keys()
        if not self._topology.splits and codes & {"MOVED", "ASK"}:
            raise StoreDown("this is a node of a Cluster; its URL must begin with redis+cluster")
        if "MOVED" in codes:
            self._topology.moved(self._tag, place_in(errors["MOVED"].text, node.wire.place[0]))
            raise _Moved("the slot is on another node")
        if codes & ELSEWHERE:
            raise Lost(f"the store is the master no more: {min(codes & ELSEWHERE)}")
        if "NOSCRIPT" in codes:
            judge_scripts(node.wire.ask(self._scripts, self._patience()))
        if codes & MOMENTARY:
            gevent.sleep(AGAIN_S)

    # -- states ---------------------------------------------------------------------------------------------------

    def _drop(self) -> None:
        self.up_since = 0.0
        self.busy_since = 0.0
        for node in filter(None, (self._node, *self._aside.values())):
            node.wire.close()
        self._node = None
        self._aside.clear()

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

    def _tell_replicas(self, node: Node) -> None:
        if self._commits and self._options.replicas and node.replicas not in (None, self._told_replicas):
            self._told_replicas = node.replicas
            self._events.store_replicas(self.purpose, node.replicas, self._options.replicas)


def _about(seconds: float) -> float:
    """A bit less, so that not all links of all workers do the same in the same moment."""
    return seconds * uniform(0.5, 1.0)  # noqa: S311  # no secret


def _copy(error: StoreError) -> StoreError:
    """One for each caller. None of them was sent: what was unknown or refused for others is down for these."""
    kind = type(error) if isinstance(error, (StoreDown, StoreNotDurable)) else StoreDown
    return kind(error.reason)
