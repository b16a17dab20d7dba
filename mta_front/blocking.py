"""Hooks that block: each runs in a thread, while its session's greenlet waits and fetches what the thread asks for.

    server.add(sock, options, HooksInThreads(hooks))

A hook that calls `time.sleep`, a database driver in C, or anything else that gevent does not know would stop every
session of its process. In a thread it stops its own. A message is still read by its session: the thread asks for one
segment, the greenlet takes it from the socket and hands it over, so no more than one is ever in memory.
"""

from __future__ import annotations

import contextlib
import threading
from _queue import SimpleQueue
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import gevent
from gevent.event import AsyncResult
from gevent.threadpool import ThreadPool

from mta_front.hooks import HOOKS, Hooks, Message, Session, is_overridden
from mta_front.net.reverse import Resolver
from mta_front.smtp.credentials import Credentials
from mta_front.smtp.replies import Reply

THREADS = 32
"""Of all hooks but `on_data`; more than that wait for their turn."""

MESSAGE_THREADS = 256
"""Of `on_data`. How long it takes is up to the client that sends the message, so slow senders have threads of their
own: they delay nobody's other hooks."""

IDLE_S = 30.0
"""A thread with nothing to do ends after so long; also one whose hook outlived its server."""

END_S = 0.5
"""How long `end()` waits for threads."""

_here = threading.local()


class HooksInThreads(Hooks):
    """`hooks`, each called in a thread. What it does not override stays a call of nothing, without a thread.

    For one hub: its threads belong to the first one that calls a hook.
    """

    def __init__(self, hooks: Hooks) -> None:
        self._threads = Threads(THREADS)
        self._message_threads = Threads(MESSAGE_THREADS)
        runs: dict[str, Callable[..., Any]] = {"on_data": self._run_on_data, "on_auth": self._run_on_auth}
        for name in HOOKS:
            if is_overridden(hooks, name):
                setattr(self, name, partial(runs.get(name, self._threads.run), getattr(hooks, name)))

    def _run_on_data(self, hook: Callable[..., Any], message: Message, session: Session) -> Any:
        errand = Errand(self._message_threads)
        return errand.run(hook, HandedMessage(message, errand), session)

    def _run_on_auth(self, hook: Callable[..., Any], credentials: Credentials, session: Session) -> Any:
        errand = Errand(self._threads)
        if credentials.ask is not None:  # the client answers the session, not the thread
            credentials.ask = partial(errand.ask, credentials.ask)
        hold_back, credentials.hold_back = credentials.hold_back, partial(errand.ask, credentials.hold_back)
        try:
            return errand.run(hook, credentials, session)
        finally:
            credentials.hold_back = hold_back

    @property
    def calls_from_here(self) -> bool:
        """Whether the calling code runs inside one of these hooks."""
        return getattr(_here, "threads", None) in (self._threads, self._message_threads)

    def end(self) -> None:
        """End the threads, as far as hooks let them. Call it in the hub's thread; no hook may be called after it."""
        self._threads.end()
        self._message_threads.end()


class ResolverInThreads:
    """A `Resolver` that may block."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self._threads = Threads(THREADS)

    def reverse(self, address: str) -> Sequence[str]:
        """See Resolver."""
        names: Sequence[str] = self._threads.run(self._resolver.reverse, address)
        return names

    def end(self) -> None:
        """End the threads."""
        self._threads.end()


class Threads:
    """A pool of threads, made when it is first needed."""

    __slots__ = ("_limit", "_pool")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._pool: ThreadPool | None = None

    def spawn(self, function: Callable[..., None], *args: Any) -> None:
        """Start `function` in a thread; waits while all are busy."""
        if self._pool is None:
            self._pool = ThreadPool(self._limit, idle_task_timeout=IDLE_S)
        self._pool.spawn(function, *args)

    def run(self, function: Callable[..., Any], *args: Any) -> Any:
        """What `function` returns or raises, in a thread."""
        return Errand(self).run(function, *args)

    def end(self) -> None:
        """End all threads that have nothing to do."""
        if self._pool is not None:
            with gevent.Timeout(END_S, False):
                self._pool.kill()


class Errand:
    """One call in a thread. `run` belongs to the greenlet, `ask` to the thread; they take turns."""

    __slots__ = ("_answers", "_loop", "_over", "_threads", "_turn")

    def __init__(self, threads: Threads) -> None:
        self._threads = threads
        self._loop: Any = gevent.get_hub().loop
        self._turn: Any = AsyncResult()  # what the thread says next: (question, None) or (None, outcome)
        self._answers: SimpleQueue[_Outcome | None] = SimpleQueue()
        self._over = False

    def run(self, function: Callable[..., Any], *args: Any) -> Any:
        """What `function` returns or raises. Questions that it asks meanwhile are answered in this greenlet."""
        self._threads.spawn(self._work, function, args)
        try:
            while True:
                question, outcome = self._turn.get()
                if question is None:
                    return _result(outcome)
                self._turn = AsyncResult()
                self._answers.put(_outcome(question))
        finally:
            self._over = True
            self._answers.put(None)  # if this greenlet was killed, the thread must not wait for an answer for ever

    def ask(self, question: Callable[..., Any], *args: Any) -> Any:
        """What `question(*args)` returns or raises in the greenlet. Raises ConnectionError when that is gone."""
        if not self._over:
            self._say(partial(question, *args), None)
            answer = self._answers.get()
            if answer is not None:
                return _result(answer)
        raise ConnectionError("the session is over")

    def _work(self, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        _here.threads = self._threads
        try:
            self._say(None, _outcome(function, *args))
        finally:
            _here.threads = None

    def _say(self, question: Callable[[], Any] | None, outcome: _Outcome | None) -> None:
        with contextlib.suppress(ValueError):  # the hub is destroyed: nobody is there to hear it
            self._loop.run_callback_threadsafe(self._turn.set, (question, outcome))


_Outcome = tuple[Any, BaseException | None]


def _outcome(function: Callable[..., Any], *args: Any) -> _Outcome:
    try:
        return function(*args), None
    except BaseException as error:  # noqa: BLE001 (it is raised again, in the other thread)
        return None, error


def _result(outcome: _Outcome) -> Any:
    value, error = outcome
    if error is not None:
        raise error
    return value


class HandedMessage:
    """The message as a hook in a thread reads it: see `hooks.Message`."""

    __slots__ = ("_errand", "_message")

    def __init__(self, message: Message, errand: Errand) -> None:
        self._message = message
        self._errand = errand

    @property
    def byte_length(self) -> int:
        """Octets so far."""
        return self._message.byte_length

    @property
    def size_exceeded(self) -> bool:
        """More came than the limit."""
        return self._message.size_exceeded

    @property
    def refusal(self) -> Reply | None:
        """What the core decided."""
        return self._message.refusal

    def __iter__(self) -> Iterator[bytes]:
        segments = iter(self._message)
        while (segment := self._errand.ask(next, segments, None)) is not None:
            yield segment

    def read(self) -> bytes:
        """All that is left, in one piece."""
        whole: bytes = self._errand.ask(self._message.read)
        return whole
