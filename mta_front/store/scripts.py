"""The Lua scripts as typed calls. Each file in lua/ begins with the keys it touches, its arguments and its replies."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mta_front.store.batch import Call
from mta_front.store.keys import ShardKeys

TOO_LATE, BODY_GONE = -1, -2  # replies of hand_over and open_body; nothing was changed

_ENVELOPE_BYTES = 600  # about: what a hand-over sends beside the body


class Script:
    """One Lua file; called by its SHA1, loaded when a connection begins and when the store forgot it."""

    __slots__ = ("sha", "text")

    def __init__(self, name: str) -> None:
        self.text = (Path(__file__).parent / "lua" / f"{name}.lua").read_text("utf-8")
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()

    def command(self, keys: Sequence[str], *args: Any) -> list[Any]:
        """The words of the call."""
        return ["EVALSHA", self.sha, len(keys), *keys, *args]


_HAND_OVER = Script("hand_over")
_REMEMBER = Script("remember")
_OPEN_BODY = Script("open_body")
_LEASE = Script("lease")
_RECOVER = Script("recover")
_DUE = Script("due")
_RECLAIM = Script("reclaim")
_RENEW = Script("renew")
_GIVE_BACK = Script("give_back")
_PROGRESS = Script("progress")
_DEFER = Script("defer")
_SETTLE = Script("settle")
_BURY = Script("bury")
_COUNTS = Script("counts")
_FORGET_CONSUMERS = Script("forget_consumers")
_KEEP_HOUSE = Script("keep_house")

_LIST = Script("list")
_CLAIM = Script("claim")
_REPLAY = Script("replay")
_MEND = Script("mend")

FOR_COMMITS = [_HAND_OVER.text]
FOR_BODIES = [_OPEN_BODY.text, _REMEMBER.text, _COUNTS.text]
FOR_RELAY = [
    script.text
    for script in (
        _LEASE,
        _RECOVER,
        _DUE,
        _RECLAIM,
        _RENEW,
        _GIVE_BACK,
        _PROGRESS,
        _DEFER,
        _SETTLE,
        _BURY,
        _COUNTS,
        _FORGET_CONSUMERS,
        _KEEP_HOUSE,
        _CLAIM,
    )
]
FOR_INSPECTION = [script.text for script in (_LIST, _REPLAY, _MEND)]


# -- the front --------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Memory:
    """How a hand-over is remembered, as the script has it. `untold`: ids, each with a space around it."""

    key: str
    window_ms: int
    alive_ms: int
    asked_before_ms: int
    untold: str


def hand_over(keys: ShardKeys, message_id: str, envelope: bytes, body: bytes, memory: Memory | None = None) -> Call:
    """Reply: the stream entry's id, a list with the id of the first copy, or TOO_LATE."""
    return Call(
        _handed_over(keys.queue, "", message_id, envelope, memory, body),
        late=4 if memory is None else 5,
        size_bytes=len(body) + _ENVELOPE_BYTES,
    )


def hand_over_large(
    keys: ShardKeys, message_id: str, envelope: bytes, segments: int, last_bytes: int, memory: Memory | None = None
) -> Call:
    """Reply: the stream entry's id, a list with the id of the first copy, TOO_LATE, or BODY_GONE."""
    return Call(
        _handed_over(keys.queue, keys.body(message_id), message_id, envelope, memory, segments, last_bytes),
        late=5 if memory is None else 6,
        size_bytes=_ENVELOPE_BYTES,
    )


def _handed_over(
    queue: str, body_key: str, message_id: str, envelope: bytes, memory: Memory | None, *body: Any
) -> list[Any]:
    named = [queue]
    if memory is not None:
        named.append(memory.key)
    if body_key:
        named.append(body_key)
    remembered: tuple[Any, ...] = (0, 0, 0, "")
    if memory is not None:
        remembered = (memory.window_ms, memory.alive_ms, memory.asked_before_ms, memory.untold)
    return _HAND_OVER.command(named, 0, message_id, envelope, *remembered, *body)


def remember(named: Sequence[str], said: Sequence[str | int], then: Callable[[Call], None] | None = None) -> Call:
    """`named`: dup:DIGEST keys. `said`: for each the id that it holds, and for how long its session counts as alive,
    ms; 0: it is over, -1: the client went on. Reply: how many were there.
    """
    return Call(_REMEMBER.command(named, *said), then=then)


def open_body(key: str, expiry_ms: int, segments: Sequence[bytes], then: Callable[[Call], None]) -> Call:
    """Reply: how many segments the list has, or TOO_LATE."""
    size_bytes = sum(map(len, segments))
    return Call(_OPEN_BODY.command([key], 0, expiry_ms, *segments), late=4, size_bytes=size_bytes, then=then)


# -- the relay --------------------------------------------------------------------------------------------------------


def lease(keys: ShardKeys, consumer: str, lease_ms: int, entries: Sequence[bytes]) -> Call:
    """Reply: the entries that are ours."""
    return Call(_LEASE.command([keys.queue, keys.lease], 0, consumer, lease_ms, *entries), late=5)


def recover(keys: ShardKeys, consumer: str, lease_ms: int, count: int) -> Call:
    """Reply: the entries that were read and never leased, now leased."""
    return Call(_RECOVER.command([keys.queue, keys.lease], 0, consumer, lease_ms, count), late=5)


def due(keys: ShardKeys, consumer: str, lease_ms: int, count: int) -> Call:
    """Reply: the fence, then the entries; or nothing."""
    return Call(_DUE.command([keys.queue, keys.later, keys.lease], 0, consumer, lease_ms, count), late=6)


def reclaim(keys: ShardKeys, consumer: str, lease_ms: int, count: int, cursor: bytes) -> Call:
    """Reply: the fence, the next cursor, then entries, each with the relays that died holding it; or nothing."""
    return Call(_RECLAIM.command([keys.queue, keys.lease, keys.deaths], 0, consumer, lease_ms, count, cursor), late=6)


def renew(keys: ShardKeys, consumer: str, lease_ms: int, held: Sequence[tuple[str, int]]) -> Call:
    """`held`: entries and fences. Reply: the entries that are no longer ours."""
    words = [word for pair in held for word in pair]
    return Call(_RENEW.command([keys.queue, keys.lease], consumer, lease_ms, *words))


def give_back(keys: ShardKeys, consumer: str, held: Sequence[tuple[str, int]]) -> Call:
    """`held`: entries and fences. Reply: how many were ours."""
    words = [word for pair in held for word in pair]
    return Call(_GIVE_BACK.command([keys.queue, keys.later, keys.lease, keys.deaths], consumer, *words))


def progress(
    keys: ShardKeys, message_id: str, entry_id: str, consumer: str, fence: int, known: Mapping[str, Any]
) -> Call:
    """Reply: 1, or 0 when the claim is lost."""
    return Call(
        _PROGRESS.command([keys.queue, keys.message(message_id)], entry_id, consumer, fence, *_flat(known)),
    )


Held = tuple[str, str, int]
"""A claim: its entry, its consumer, its fence."""


def defer(
    keys: ShardKeys,
    message_id: str,
    held: Held,
    due_ms: int,
    known: Mapping[str, Any],
    letter: Mapping[str, Any],
    copied: Sequence[str],
    added: Sequence[Any],
) -> Call:
    """`known`: fields of msg:ID. `letter`: of a dead letter, {} = none; `copied`: from which key to which its body is.
    `added`: id, envelope and body of each report. Reply: 1, or 0 when the claim is lost.
    """
    named = [keys.queue, keys.later, keys.lease, keys.message(message_id), keys.deaths, keys.dead, *copied]
    words = [2 * len(known), *_flat(known), 2 * len(letter), *_flat(letter), *added]
    return Call(_DEFER.command(named, *held, due_ms, *words))


def settle(keys: ShardKeys, freed: Sequence[str], held: Held, added: Sequence[Any]) -> Call:
    """`freed`: the message's own keys; `added` as in `defer`. Reply: 1, or 0 when the claim is lost."""
    return Call(_SETTLE.command([keys.queue, keys.lease, keys.deaths, *freed], *held, *added))


def bury(keys: ShardKeys, freed: Sequence[str], held: Held, letter: Mapping[str, Any], added: Sequence[Any]) -> Call:
    """`freed`: the message's hash, if there is one; `added` as in `defer`. Reply: 1, or 0 when the claim is lost."""
    named = [keys.queue, keys.lease, keys.dead, keys.deaths, *freed]
    return Call(_BURY.command(named, *held, 2 * len(letter), *_flat(letter), *added))


def counts(keys: ShardKeys) -> Call:
    """Reply: length, later, leased, dead, age of the oldest in ms."""
    return Call(_COUNTS.command([keys.queue, keys.later, keys.lease, keys.dead]))


def keep_house(keys: ShardKeys, consumer: str, lease_ms: int) -> Call:
    """`lease_ms` 0: it leaves. Reply: 1 when this consumer is the shard's housekeeper."""
    return Call(_KEEP_HOUSE.command([keys.housekeeper], consumer, lease_ms))


def forget_consumers(keys: ShardKeys, silence_ms: int, *leaving: str) -> Call:
    """Reply: how many were removed."""
    return Call(_FORGET_CONSUMERS.command([keys.queue], silence_ms, *leaving))


def claim(keys: ShardKeys, consumer: str, lease_ms: int, entry_id: str) -> Call:
    """Reply: the fence; b"" when a relay has it in hand, or it is gone."""
    return Call(_CLAIM.command([keys.queue, keys.later, keys.lease], 0, consumer, lease_ms, entry_id), late=6)


# -- inspection -------------------------------------------------------------------------------------------------------


def list_queue(keys: ShardKeys, start: str, read: int, show: int, texts: Sequence[str | bytes] = ()) -> Call:
    """Reply: the last entry read, then for each shown: entry, state, end, length of the body, the other fields."""
    return Call(_LIST.command([keys.queue, keys.later, keys.lease], start, read, show, *texts))


def list_dead(keys: ShardKeys, start: str, read: int, show: int, texts: Sequence[str | bytes] = ()) -> Call:
    """As `list_queue`, of the dead letters."""
    return Call(_LIST.command([keys.dead], start, read, show, *texts))


def replay(keys: ShardKeys, entry_id: str, message_id: str, envelope: bytes) -> Call:
    """Reply: 1, or 0 when there is no such dead letter."""
    return Call(_REPLAY.command([keys.dead, keys.queue], entry_id, message_id, envelope))


def drop_dead(keys: ShardKeys, entry_id: str, freed: Sequence[str]) -> Call:
    """Reply: 1, or 0 when there is no such dead letter."""
    return Call(_REPLAY.command([keys.dead, *freed], entry_id))


def mend(keys: ShardKeys, mending: bool, idle_ms: int, entries: Sequence[str]) -> Call:
    """Reply: for each entry b"", or what is wrong with it."""
    named = [keys.queue, keys.later, keys.lease, keys.deaths]
    return Call(_MEND.command(named, int(mending), idle_ms, *entries))


def _flat(fields: Mapping[str, Any]) -> list[Any]:
    return [word for pair in fields.items() for word in pair]
