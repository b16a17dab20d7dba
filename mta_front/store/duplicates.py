"""Messages that are sent again because their 250 was lost: each is stored once.

The hand-over leaves a record of a message, under a digest of where it came in, who sent it, its envelope and its body.
It counts as a first copy when the session is over and its client had not gone on after our 250; when the worker is
dead; or when this worker answered 451 without knowing. A message that meets it then is not stored, and gets the id of
the first. While the session lives the record does not count: pools of clients send equal messages on many connections
at once, and each is a message. It goes when the client goes on.

A dead worker is known by its silence, but only where the store was there to hear it (`Records.memory`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from typing import Any

import gevent

from mta_front.store import scripts
from mta_front.store.batch import Call
from mta_front.store.entry import Entry
from mta_front.store.errors import StoreError
from mta_front.store.keys import ShardKeys
from mta_front.store.options import StoreOptions
from mta_front.store.scripts import Memory

__all__ = ["Hasher", "Records", "Remembered", "key_of"]

SEEN_MAX = 500
"""Records that one call changes."""

WAITING_MAX = 10_000
"""Of a shard, while the store is away; what is more is forgotten."""

UNTOLD_MAX, UNTOLD_IDS = 10_000, 16
"""Of a worker, and of one key."""

ROUNDS, GAP = 3, 2 / 3
"""The live ones are named so often in `duplicate_alive_s`; a store that was silent for this part of it was away."""

GATHER_S = 0.005
"""So long a call waits for more: each is an fsync. Nobody's message is judged by a record meanwhile."""


class _Slow:
    """Where StringZilla is not installed: 1.7 ms for a MiB instead of 0.14."""

    def __init__(self) -> None:
        self._hash = blake2b(digest_size=8)
        self.update = self._hash.update

    def digest(self) -> int:
        return int.from_bytes(self._hash.digest(), "big")


try:
    from stringzilla import Hasher
except ImportError:
    Hasher = _Slow
"""64 bits are enough: only messages of one client to the same recipients are ever compared, and only for an hour."""


@dataclass(slots=True)
class Remembered:
    """A record: the upload `id` under `key`, of a shard. It expires at `until`, `time.monotonic()`."""

    shard: int
    key: str
    id: str
    until: float


_Said = tuple[Remembered, int]
"""A record, and for how long its session counts as alive, ms."""

_OVER, _SEEN = 0, -1
_NEVER = (float("-inf"), float("inf"))


def digest_of(entry: Entry, body_digest: int) -> str:
    """What two copies of a message have in common: 22 characters."""
    named = "\n".join(
        [entry.listener, entry.user or entry.client_address, entry.mail_from, *entry.rcpt_to, entry.body_type]
    )
    digest = blake2b(named.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
    return f"{digest}{body_digest:016x}"


class Records:
    """What this worker knows of its clients, and tells the store: nobody waits for it."""

    def __init__(self, options: StoreOptions, posts: Sequence[Callable[[Call], None]]) -> None:
        """`posts`: for each shard, how a call is sent to it; `StoreError` when it cannot be."""
        self._window_s = options.duplicate_window_s
        self._window_ms = int(options.duplicate_window_s * 1000)
        self._alive_s = options.duplicate_alive_s
        self._alive_ms = int(options.duplicate_alive_s * 1000)
        self._timeout_ms = options.timeout_ms
        self._posts = posts
        self._live: dict[str, Remembered] = {}  # by id: the client was answered 250 and is still there
        self._untold: dict[str, str] = {}  # key -> " ID ID … ": who was not told, or left without having gone on
        self._waiting: list[dict[str, _Said]] = [{} for _ in posts]  # by shard and id
        self._under_way = [False] * len(posts)  # a call with what clients have seen
        self._urgent = [False] * len(posts)
        self._heard = [_NEVER] * len(posts)  # when the store answered last, and since when without a gap
        self._greenlet: Any = None

    def start(self) -> None:
        """Keep saying which sessions live."""
        if self._window_ms:
            self._greenlet = gevent.spawn(self._go_on_saying)

    def close(self) -> None:
        """Say no more: what is live now counts as lost when `duplicate_alive_s` are over."""
        if self._greenlet is not None:
            self._greenlet.kill()

    # -- hand-overs ----------------------------------------------------------------------------------------------------

    def memory(self, shard: int, key: str) -> Memory:
        """What a hand-over under this key says."""
        return Memory(key, self._window_ms, self._alive_ms, self._asked_before_ms(shard), self._untold.get(key, ""))

    def _asked_before_ms(self, shard: int) -> int:
        """-1 unless the store has been there for so long that all workers that live have said so."""
        last_at, since = self._heard[shard]
        now = time.monotonic()
        steady = now - last_at < self._alive_s * GAP and now - since > self._alive_s
        return self._timeout_ms if steady else -1

    def untold(self, key: str, message_id: str) -> None:
        """It may have been stored, and its client hears 451."""
        ids = self._untold.pop(key, " ").split()[-UNTOLD_IDS:]
        self._untold[key] = f" {' '.join([*ids, message_id])} "
        if len(self._untold) > UNTOLD_MAX:
            del self._untold[next(iter(self._untold))]

    def told(self, shard: int, key: str, message_id: str) -> Remembered:
        """It was handed over, and its client hears 250. What was untold has met it, or is not there."""
        self._untold.pop(key, None)
        return Remembered(shard, key, message_id, time.monotonic() + self._window_s)

    # -- clients -------------------------------------------------------------------------------------------------------

    def live(self, remembered: Remembered) -> None:
        """The client is there, and has not gone on yet."""
        self._live[remembered.id] = remembered

    def seen(self, remembered: Remembered) -> None:
        """The client went on, so it has seen its 250."""
        self._live.pop(remembered.id, None)
        shard = remembered.shard
        self._wait(remembered, _SEEN)
        if not self._under_way[shard]:
            self._under_way[shard] = True
            gevent.spawn_later(GATHER_S, self._send, shard)

    def lost(self, remembered: Remembered) -> None:
        """The client is gone and did not go on: its retry may come at once, here or to another worker."""
        self._live.pop(remembered.id, None)
        shard = remembered.shard
        self.untold(remembered.key, remembered.id)
        self._wait(remembered, _OVER)
        if not self._urgent[shard]:
            self._urgent[shard] = True
            gevent.spawn(self._send_at_once, shard)

    # ------------------------------------------------------------------------------------------------------------------

    def _wait(self, remembered: Remembered, alive_ms: int) -> None:
        waiting = self._waiting[remembered.shard]
        waiting[remembered.id] = remembered, alive_ms
        if len(waiting) > WAITING_MAX:
            del waiting[next(iter(waiting))]

    def _send_at_once(self, shard: int) -> None:
        self._urgent[shard] = False
        self._post(shard, None)

    def _send(self, shard: int) -> None:
        def answered(call: Call) -> None:
            self._under_way[shard] = False
            if self._waiting[shard] and call.error is None:
                self._under_way[shard] = True
                gevent.spawn_later(GATHER_S, self._send, shard)

        self._under_way[shard] = self._post(shard, answered)

    def _post(self, shard: int, then: Callable[[Call], None] | None) -> bool:
        """Send what waits. What did not reach the store waits for the next round, or until its record has expired."""
        now = time.monotonic()
        waiting = self._waiting[shard]
        some: list[_Said] = []
        while waiting and len(some) < SEEN_MAX:
            said = waiting.pop(next(iter(waiting)))
            if said[0].until > now:
                some.append(said)
        if not some:
            return False

        def answered(call: Call) -> None:
            if call.error is not None:
                self._wait_again(some)
            if then is not None:
                then(call)

        return self._say(shard, some, answered)

    def _wait_again(self, some: list[_Said]) -> None:
        for remembered, alive_ms in some:
            self._wait(remembered, alive_ms)

    def _say(self, shard: int, some: Sequence[_Said], then: Callable[[Call], None] | None = None) -> bool:
        keys = [remembered.key for remembered, _ in some]
        call = scripts.remember(keys, [word for one, alive_ms in some for word in (one.id, alive_ms)], then)
        try:
            self._posts[shard](call)
        except StoreError as error:
            call.finish(error)
            return False
        return True

    def _go_on_saying(self) -> None:
        while True:
            self._listen()
            live: list[list[_Said]] = [[] for _ in self._posts]
            now = time.monotonic()
            for remembered in list(self._live.values()):
                if remembered.until > now:
                    live[remembered.shard].append((remembered, self._alive_ms))
                else:
                    del self._live[remembered.id]
            for shard, those in enumerate(live):
                for start in range(0, len(those), SEEN_MAX):
                    self._say(shard, those[start : start + SEEN_MAX])
                if self._waiting[shard] and not self._under_way[shard]:
                    self._under_way[shard] = True
                    self._send(shard)
            gevent.sleep(self._alive_s / ROUNDS)

    def _listen(self) -> None:
        """A store that was away, or frozen, could not be told who lives."""

        def answered(shard: int, call: Call) -> None:
            now = time.monotonic()
            last_at, since = self._heard[shard]
            if call.error is not None:
                self._heard[shard] = _NEVER
            else:
                self._heard[shard] = now, since if now - last_at < self._alive_s * GAP else now

        for shard, post in enumerate(self._posts):
            call = Call(["PING"], then=partial(answered, shard))
            try:
                post(call)
            except StoreError as error:
                call.finish(error)


def key_of(keys: ShardKeys, entry: Entry, hasher: Any) -> str:
    """Where the record of a message is."""
    return keys.duplicate(digest_of(entry, hasher.digest()))
