"""One run of the library's server: what serves, in one hub, from the start to the end that leaves nothing in it."""

from __future__ import annotations

import contextlib
import logging
import threading
from time import monotonic
from typing import Any

import gevent
from gevent.event import Event

from mta_front.blocking import HooksInThreads, ResolverInThreads
from mta_front.doors import Door
from mta_front.hooks import Hooks, is_overridden
from mta_front.net.options import SessionOptions
from mta_front.net.tally import LocalTally
from mta_front.observe.events import Events
from mta_front.server import Server

log = logging.getLogger("mta_front")


class Run:
    """A server that serves: made, and ended, in the thread whose hub it serves in."""

    def __init__(self, session: SessionOptions, hooks: Hooks, tally: LocalTally, doors: list[Door]) -> None:
        self._session = session
        self._hooks = hooks
        self._tally = tally
        self._doors = doors
        self._hub: Any = gevent.get_hub()
        self._loop: Any = self._hub.loop
        self._thread_ident = threading.get_ident()
        self._draining = 0  # calls of `end` at work
        self._clean = True
        if isinstance(hooks, HooksInThreads) and session.resolver is not None:
            session.resolver = ResolverInThreads(session.resolver)
        self.server = Server(_Faults(told=is_overridden(hooks, "on_error")))
        self.drained = Event()
        self.finished = threading.Event()
        for door in doors:
            self._add(door)
        self.server.start()

    def _add(self, door: Door) -> None:
        self.server.add(door.sock, self._session, self._hooks, self._tally)

    def admit(self, door: Door) -> None:
        """Serve one address more. From any thread."""
        with contextlib.suppress(ValueError):  # the hub was destroyed: closed a moment ago
            self._loop.run_callback_threadsafe(self._add, door)

    def end(self, timeout_s: float) -> None:
        """Begin to end. From any thread."""
        with contextlib.suppress(ValueError):  # ended already, and its hub too
            self._loop.run_callback_threadsafe(gevent.spawn, self._drain, timeout_s)

    def _drain(self, timeout_s: float) -> None:
        self._draining += 1
        self.server.stop_accepting()
        for door in self._doors:
            door.close()
        gevent.sleep(0)  # a connection that was accepted in this turn is a session from the next one on
        deadline = monotonic() + timeout_s
        if not self.server.drain(timeout_s) or not self.server.ended_by(deadline):
            self._clean = False
            self.server.kill()
        self._draining -= 1
        if not self._draining:
            self.drained.set()

    def calls_from_hook(self) -> bool:
        """Whether the calling code runs where it would wait for itself: in a session, or in the hub."""
        current = gevent.getcurrent()
        if current is self._hub or current in self.server.greenlets:
            return True
        return isinstance(self._hooks, HooksInThreads) and self._hooks.calls_from_here

    def await_end(self, timeout_s: float, thread: threading.Thread | None) -> bool:
        """Wait until it has ended; False when something was cut, or a hook that blocks keeps the hub from ending."""
        if threading.get_ident() == self._thread_ident:
            return bool(self.drained.wait(timeout_s)) and self._clean
        if not self.finished.wait(timeout_s):
            return False
        if thread is not None:
            thread.join()
        return self._clean

    def release(self, *, destroy_hub: bool) -> None:
        """Let go of what is left in the hub, and of the hub. In its thread."""
        self.server.end()
        for each in (self._hooks, self._session.resolver):
            if isinstance(each, HooksInThreads | ResolverInThreads):
                each.end()
        if destroy_hub:
            gevent.sleep(0)  # greenlets that wait in close() go on first
            self._hub.destroy(destroy_loop=True)
        self.finished.set()


class _Faults(Events):
    """Logs what no hook is told. `told`: hooks have an `on_error`."""

    def __init__(self, *, told: bool) -> None:
        self._told = told

    def proxy_refused(self, listener: str, reason: str) -> None:
        """See Events. No warning either, for the same reason; but whoever waits for a banner in vain finds it here."""
        log.info("%s: connection refused for its PROXY header: %s", listener, reason)

    def tls_failed(self, listener: str, reason: str) -> None:
        """See Events. Any stranger can make a handshake fail: that is no warning."""
        log.info("%s: TLS handshake failed: %s", listener, reason)

    def fault(self, error: BaseException, where: str) -> None:
        """See Events."""
        if not self._told or where in ("accept", "on_error"):
            log.error("%s: %s", where, error, exc_info=error)
