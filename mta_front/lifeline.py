"""The child's end of the control socket: beats to the master, hears its orders, and dies with it.

Used by the process mains after patching. One greenlet reads, one beats. A SIGTERM sent to the child itself is taken as
the master's order to drain, so that `kill PID` of one worker is gentle.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

import gevent
import gevent.socket

from mta_front.store.errors import StoreError, StoreNotDurable

if TYPE_CHECKING:
    from mta_front.watchdog import Standstill

READ_BYTES = 65_536

COUNT_S = 0.02
"""Between two counts of sessions. The master spreads new connections by them (DECISIONS P5)."""


def report_faults(fault: Callable[[BaseException, str], None]) -> None:
    """Let what escapes from a greenlet or callback of this thread's hub be reported as a bug, and end nothing else."""
    hub = gevent.get_hub()
    handle_error = hub.handle_error

    def handle(context: object, kind: type[BaseException], error: BaseException | None, trace: Any) -> None:
        if error is None or issubclass(kind, hub.NOT_ERROR + hub.SYSTEM_ERROR):
            handle_error(context, kind, error, trace)
        else:
            fault(error, "greenlet")

    hub.handle_error = handle


class Lifeline:
    """The control socket of one child.

    Callbacks run in greenlets of their own and may block. `on_drain(deadline_s, grace_s)`: both are seconds from now;
    after `grace_s` idle sessions end, at `deadline_s` all others. `on_stop()`: end at once. `on_status(status)`: the
    master's view of all processes, to the admin only, one at a time. `on_certificates(files)`: to workers, when
    certificate files changed; must not block. `on_cover(slots)`: the slots to accept for beside our own; must not
    block. An order given twice is passed on twice.

    The callbacks are attributes: they may be set after the constructor, before `start()`.
    """

    def __init__(
        self,
        control: socket.socket,
        *,
        on_drain: Callable[[float, float], object] | None = None,
        on_stop: Callable[[], object] | None = None,
        on_status: Callable[[dict[str, Any]], object] | None = None,
        on_certificates: Callable[[dict[str, bytes]], object] | None = None,
        on_cover: Callable[[list[int]], object] | None = None,
        drain_timeout_s: float = 30.0,
        beat_s: float = 1.0,
    ) -> None:
        """`drain_timeout_s`: what a SIGTERM of our own means; the master's order brings its own."""
        self.on_drain = on_drain
        self.on_stop = on_stop
        self.on_status = on_status
        self.on_certificates = on_certificates
        self.on_cover = on_cover
        self.closing: list[int] | None = None
        """The numbers of those of our sockets that go away at the drain that was ordered; None: all of them do."""
        control.setblocking(False)
        # A socket made before the patch stays a plain one: send() and recv() never wait behind gevent's back.
        self._control = control
        self._drain_timeout_s = drain_timeout_s
        self._beat_s = beat_s
        self._unsent = b""
        self._sessions = self._told_sessions = 0
        self._counting = False

    def start(self) -> None:
        """Begin to beat and to listen. Call it early: the master kills a child that is not ready in time."""
        gevent.signal_handler(signal.SIGTERM, self._leave)
        self.report(beat=1)
        gevent.spawn(self._beat)
        gevent.spawn(self._listen)

    def report(self, **fields: Any) -> None:
        """Send one line to the master, e.g. `report(ready={"accepting": True})`, `report(sessions=12)`. Never waits."""
        self._unsent += json.dumps(fields).encode() + b"\n"
        try:
            sent = self._control.send(self._unsent)
        except BlockingIOError:
            return  # the next beat takes it along
        except OSError:
            _die()
        self._unsent = self._unsent[sent:]

    def tell_standstill(self, found: Standstill) -> None:
        """Our hub stands still. Called from another thread, so it sends a line or none, and changes nothing here."""
        line = {"standstill": {"for_ms": found.for_ms, "session": found.session, "where": found.where}}
        if not self._unsent:
            with contextlib.suppress(OSError):
                self._control.send(json.dumps(line).encode() + b"\n")

    def count(self, sessions: int) -> None:
        """We have so many sessions now. Told at once, and then at most each `COUNT_S`."""
        self._sessions = sessions
        if not self._counting:
            self._tell_count()

    def _tell_count(self) -> None:
        self._counting = self._sessions != self._told_sessions
        if self._counting:
            self._told_sessions = self._sessions
            self.report(sessions=self._sessions)
            gevent.get_hub().loop.timer(COUNT_S).start(self._tell_count)

    def tell_store(self, answered: Callable[[], bool], fault: Callable[[], StoreError | None]) -> None:
        """Tell the master once the store has answered; and until then, that it can be reached and must not be used."""
        gevent.spawn(self._tell_store, answered, fault)

    def _tell_store(self, answered: Callable[[], bool], fault: Callable[[], StoreError | None]) -> None:
        told = ""
        while not answered():
            why = fault()
            if isinstance(why, StoreNotDurable) and why.reason != told:
                told = why.reason
                self.report(store={"unfit": told})
            gevent.sleep(0.05)
        self.report(store={"answered": True})

    def _beat(self) -> None:
        while True:
            gevent.sleep(self._beat_s)
            self.report(beat=1)

    def _listen(self) -> None:
        pending = b""
        while received := self._receive():
            *lines, pending = (pending + received).split(b"\n")
            for line in lines:
                self._obey(json.loads(line))
        _die()

    def _receive(self) -> bytes:
        """What the master sent; b"" when it is dead."""
        while True:
            try:
                return self._control.recv(READ_BYTES)
            except BlockingIOError:
                gevent.socket.wait_read(self._control.fileno())
            except OSError:
                return b""

    def _obey(self, order: dict[str, Any]) -> None:
        if "status" in order:
            if self.on_status:
                self.on_status(order["status"])
        elif order.get("do") == "drain":
            self.closing = order.get("closing")
            self._drain(float(order["timeout_s"]), float(order["grace_s"]))
        elif order.get("do") == "stop" and self.on_stop:
            gevent.spawn(self.on_stop)
        elif order.get("do") == "certificates" and self.on_certificates:
            self.on_certificates({path: base64.b64decode(content) for path, content in order["files"].items()})

        elif order.get("do") == "cover" and self.on_cover:
            self.on_cover(order["slots"])

    def _leave(self) -> None:
        """Somebody sent a SIGTERM to this very process: others go on, and accept what waits for us."""
        self.report(leaving="TERM")
        self.closing = []
        self._drain(self._drain_timeout_s, 0.0)

    def _drain(self, timeout_s: float, grace_s: float) -> None:
        if self.on_drain:
            gevent.spawn(self.on_drain, timeout_s, grace_s)


def _die() -> NoReturn:
    """The master is dead. Whoever starts next needs the ports, the lanes and the queue: nothing is worth a delay."""
    os._exit(os.EX_SOFTWARE)
