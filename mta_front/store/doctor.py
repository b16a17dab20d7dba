"""What can be wrong with a queue, by accident or by hand, and how it is mended. In ordinary life none of it is there.

Everything is judged again at the moment when it is mended, since relays and fronts go on meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from mta_front.store import scripts
from mta_front.store.batch import Call
from mta_front.store.inspection import SLICE, QueueInspector
from mta_front.store.keys import LAYOUT

STUCK_S = 600.0
"""Without a lease for so long a message is in nobody's hand: relays take such ones over after a lease."""


@dataclass(slots=True, frozen=True)
class Finding:
    """One thing that is wrong. `kind`: stranded, stuck, ghost (a mark without its entry), orphan (a body or a record
    without its message), bodiless (a message without its body), layout.
    """

    shard: int
    kind: str
    what: str  # a key or an entry
    mended: bool


def examine(
    inspector: QueueInspector,
    mending: bool = False,
    stuck_s: float = STUCK_S,
    progress: Callable[[int], None] = lambda looked_at: None,
) -> Iterator[Finding]:
    """Look at every shard; `progress` hears how many messages were looked at. May raise `StoreError`."""
    looked_at = 0
    for shard in range(len(inspector.queues)):
        keys, look = inspector.keys(shard), inspector.looks[shard]
        layout = look.call(Call(["GET", keys.layout]))
        if layout is None or not layout.isdigit() or int(layout) > LAYOUT:
            yield Finding(shard, "layout", keys.layout, False)
        known: set[str] = set()
        large: list[str] = []
        start = "-"
        while start:
            last, *rows = look.call(scripts.list_queue(keys, start, SLICE, SLICE))
            entries = [row[0].decode() for row in rows]
            yield from _of_entries(inspector, shard, entries, mending, stuck_s)
            for row in rows:
                fields = dict(zip(row[4][::2], row[4][1::2], strict=True))
                message_id = fields.get(b"id", b"").decode("ascii", "replace")
                known.add(message_id)
                if not row[3]:
                    large.append(message_id)
            looked_at += len(rows)
            progress(looked_at)
            start = f"({last.decode()}" if last else ""
        for letter in inspector.every(dead=True):
            if letter.shard == shard:
                known.add(letter.id)
        yield from _marks(inspector, shard, mending)
        yield from _bodiless(inspector, shard, large)
        yield from _orphans(inspector, shard, known, mending)


def _of_entries(
    inspector: QueueInspector, shard: int, entries: Sequence[str], mending: bool, stuck_s: float
) -> Iterator[Finding]:
    if not entries:
        return
    call = scripts.mend(inspector.keys(shard), mending, int(stuck_s * 1000), entries)
    for entry, verdict in zip(entries, inspector.looks[shard].call(call), strict=True):
        if verdict:
            yield Finding(shard, verdict.decode(), entry, mending)


def _marks(inspector: QueueInspector, shard: int, mending: bool) -> Iterator[Finding]:
    """Places in later, lease and deaths whose entry is gone."""
    keys, look = inspector.keys(shard), inspector.looks[shard]
    for command, key, step in (("ZSCAN", keys.later, 2), ("ZSCAN", keys.lease, 2), ("HSCAN", keys.deaths, 2)):
        cursor = b"0"
        while True:
            cursor, flat = look.call(Call([command, key, cursor, "COUNT", SLICE]))
            named = [entry.decode() for entry in flat[::step]]
            if named:
                verdicts = look.call(scripts.mend(keys, mending, 2**52, named))
                for entry, verdict in zip(named, verdicts, strict=True):
                    if verdict == b"ghost":
                        yield Finding(shard, "ghost", entry, mending)
            if cursor == b"0":
                break


def _bodiless(inspector: QueueInspector, shard: int, large: Sequence[str]) -> Iterator[Finding]:
    """They are said, and not mended: the relay tells their senders."""
    keys, look = inspector.keys(shard), inspector.looks[shard]
    for message_id in large:
        there = look.call(Call(["EXISTS", keys.body(message_id)]))
        if not there and inspector.find(message_id) is not None:  # and was not delivered meanwhile
            yield Finding(shard, "bodiless", message_id, False)


def _orphans(inspector: QueueInspector, shard: int, known: set[str], mending: bool) -> Iterator[Finding]:
    """Bodies that do not expire, and records, of messages that are nowhere."""
    keys, look = inspector.keys(shard), inspector.looks[shard]
    for begin in (keys.body(""), keys.message("")):
        cursor = b"0"
        pattern = "".join(f"[{letter}]" if letter in "*?[]\\" else letter for letter in begin) + "*"
        while True:
            cursor, found = look.call(Call(["SCAN", cursor, "MATCH", pattern, "COUNT", SLICE]))
            for key in found:
                message_id = key.decode("utf-8", "replace")[len(begin) :]
                if message_id in known or look.call(Call(["PTTL", key])) != -1:
                    continue
                if inspector.find(message_id) is None and inspector.find(message_id, dead=True) is None:
                    if mending:
                        look.call(Call(["UNLINK", key]))
                    yield Finding(shard, "orphan", key.decode("utf-8", "replace"), mending)
            if cursor == b"0":
                break
