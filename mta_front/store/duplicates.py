"""Messages that are sent again because their 250 was lost: each is stored once.

The hand-over leaves a record of a message, under a digest of where it came in, who sent it, its envelope and its body;
a message that meets its record is not stored again, and gets the id of the first copy. The record goes as soon as the
client has shown that it saw our 250: so it is there only where a retry is to be expected, and two equal messages that a
client sends one after the other are two.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import gevent

from mta_front.store import scripts
from mta_front.store.batch import Call
from mta_front.store.entry import Entry
from mta_front.store.errors import StoreError
from mta_front.store.keys import ShardKeys

__all__ = ["Hasher", "Remembered", "Seen", "key_of"]

SEEN_MAX = 500
"""Records that one call removes."""

GATHER_S = 0.005
"""So long a call waits for more: each is an fsync. Only to other workers a record is there meanwhile."""


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
    """A record: the message `id` under `key`, of a shard."""

    shard: int
    key: str
    id: str


def digest_of(entry: Entry, body_digest: int) -> str:
    """What two copies of a message have in common: 22 characters."""
    named = "\n".join(
        [entry.listener, entry.user or entry.client_address, entry.mail_from, *entry.rcpt_to, entry.body_type]
    )
    digest = blake2b(named.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
    return f"{digest}{body_digest:016x}"


class Seen:
    """Removes records, many in one call and without anybody waiting. What is on its way counts as removed here."""

    def __init__(self, post: Callable[[int, Call], None]) -> None:
        """`post(shard, call)` sends it."""
        self._post = post
        self._waiting: dict[int, list[Remembered]] = {}  # by shard
        self._under_way: set[int] = set()
        self._seen: dict[str, str] = {}  # key -> id

    def add(self, remembered: Remembered) -> None:
        """The client of this message has seen its 250."""
        self._seen[remembered.key] = remembered.id
        self._waiting.setdefault(remembered.shard, []).append(remembered)
        if remembered.shard not in self._under_way:
            self._under_way.add(remembered.shard)
            gevent.spawn_later(GATHER_S, self._send, remembered.shard)

    def id_of(self, key: str) -> str:
        """The message that may still be recorded there although its 250 was seen; "" when there is none."""
        return self._seen.get(key, "")

    def _send(self, shard: int) -> None:
        waiting = self._waiting.pop(shard, [])
        some, rest = waiting[:SEEN_MAX], waiting[SEEN_MAX:]
        if rest:
            self._waiting[shard] = rest

        def answered(_: Call) -> None:
            self._under_way.discard(shard)
            self._forget(some)
            if shard in self._waiting:
                self._under_way.add(shard)
                gevent.spawn_later(GATHER_S, self._send, shard)

        sent = False
        with contextlib.suppress(StoreError):  # the store is away: the records expire
            self._post(shard, scripts.seen([one.key for one in some], [one.id for one in some], answered))
            sent = True
        if not sent:
            self._under_way.discard(shard)
            self._forget(some + self._waiting.pop(shard, []))

    def _forget(self, those: list[Remembered]) -> None:
        for one in those:
            if self._seen.get(one.key) == one.id:
                del self._seen[one.key]


def key_of(keys: ShardKeys, entry: Entry, hasher: Any) -> str:
    """Where the record of a message is."""
    return keys.duplicate(digest_of(entry, hasher.digest()))
