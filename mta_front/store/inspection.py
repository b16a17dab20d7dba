"""A look into the queue and a hand in it, from outside a relay: the command line, and the admin process.

What changes a message takes it in hand first, as a relay does, so the two never meet: what a relay has in hand is left
alone, and said to be. Listing reads at most `READ_MAX` entries for a page, in slices, so that nobody waits for long.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from mta_front.store import scripts
from mta_front.store.batch import Call
from mta_front.store.client import Link
from mta_front.store.entry import Entry, Outcome
from mta_front.store.keys import ShardKeys
from mta_front.store.options import StoreOptions
from mta_front.store.queue import Queue, QueueLinks

READ_MAX = 20_000
SLICE = 500
HEADER_SEGMENTS = 1
STATES = ("waiting", "deferred", "in hand")
EARLY_MS = 3_600_000
"""An entry is written so long before its id was made, at most: clocks differ."""
LEASE_S = 30.0

_CURSOR = re.compile(r"([0-9]{1,3})/(-|\([0-9]{1,20}-[0-9]{1,20})")

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


@dataclass(slots=True)
class Letter:
    """A message in the queue, or a dead letter. Times in unix seconds; `until`: due, or end of its lease."""

    shard: int
    entry_id: str
    id: str
    state: str  # one of STATES, or "dead"
    envelope: Entry | None  # None: it cannot be read
    size_bytes: int = 0
    entered_at: float = 0.0
    until: float = 0.0
    attempts: int = 0
    reason: str = ""  # why it is dead, or was deferred the last time
    settled: dict[str, str] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        envelope = json.loads(self.envelope.to_json()) if self.envelope else None
        names = (
            "shard",
            "entry_id",
            "id",
            "state",
            "size_bytes",
            "entered_at",
            "until",
            "attempts",
            "reason",
            "settled",
        )
        return {name: getattr(self, name) for name in names} | {"envelope": envelope, "history": self.history}


@dataclass(slots=True, frozen=True)
class Wanted:
    """Which messages: each that is given must hold. Texts are parts of an address, without regard to case."""

    sender: str = ""
    recipient: str = ""
    next_hop: str = ""
    state: str = ""
    older_s: float = 0.0

    def takes(self, letter: Letter, now: float) -> bool:
        """Whether it is one of those."""
        envelope = letter.envelope
        if self.state and letter.state != self.state:
            return False
        if self.older_s and now - (envelope.received_at if envelope else letter.entered_at) < self.older_s:
            return False
        if self.sender and (envelope is None or self.sender.lower() not in envelope.mail_from.lower()):
            return False
        if self.next_hop and not any(self.next_hop in str(one.get("next_hop", "")) for one in letter.history):
            return False
        return not self.recipient or (
            envelope is not None and any(self.recipient.lower() in one.lower() for one in envelope.rcpt_to)
        )


@dataclass(slots=True)
class Page:
    """Some messages. `cursor`: where to go on, "" = there are no more; `read`: how many were looked at."""

    letters: list[Letter]
    cursor: str
    read: int = 0


EVERYTHING = Wanted()


class QueueInspector:
    """All shards of a queue. Every method may raise `StoreError`; close it."""

    def __init__(self, options: StoreOptions) -> None:
        self._options = options
        consumer = f"inspector-{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._links = QueueLinks(options)
        shards = range(options.shards)
        self.queues = [Queue(options, shard, consumer, LEASE_S, links=self._links) for shard in shards]
        self.looks = [
            Link(options, "inspector", tag=str(shard), topology=self._links.topology, scripts=scripts.FOR_INSPECTION)
            for shard in shards
        ]
        self._links.start()
        for look in self.looks:
            look.start()

    def close(self) -> None:
        """Leave, and close the connections."""
        for queue in self.queues:
            queue.leave()
        for look in self.looks:
            look.close()
        self._links.close()

    def keys(self, shard: int) -> ShardKeys:
        """The names of a shard's keys."""
        return self.queues[shard].keys

    # -- looking --------------------------------------------------------------------------------------------------

    def stats(self) -> list[dict[str, float]]:
        """For each shard: length, later, leased, dead, oldest_age_s."""
        return [queue.counts() for queue in self.queues]

    def page(self, wanted: Wanted = EVERYTHING, cursor: str = "", count: int = 100, dead: bool = False) -> Page:
        """Messages in the order of their coming, of one shard after the other. A page may be short, or empty, and have
        more behind it: it looks at no more than `READ_MAX`.
        """
        shard, start = _place(cursor, len(self.queues))
        letters: list[Letter] = []
        read = 0
        now = time.time()
        filtered = wanted != EVERYTHING
        while shard < len(self.queues) and len(letters) < count and read < READ_MAX:
            slice_ = SLICE if filtered else min(SLICE, count - len(letters))
            listing = scripts.list_dead if dead else scripts.list_queue
            last, *found = self.looks[shard].call(
                listing(self.keys(shard), start, slice_, slice_ if filtered else count - len(letters))
            )
            read += slice_
            some = [_letter(shard, row, dead) for row in found]
            if wanted.next_hop or not filtered:
                self._fill_in(shard, some)
            for letter in some:
                if wanted.takes(letter, now):
                    letters.append(letter)
                    if len(letters) == count:
                        break
            if len(letters) == count:
                start = f"({letters[-1].entry_id}"
            elif last:
                start = f"({last.decode()}"
            else:
                shard, start = shard + 1, "-"
        return Page(letters, f"{shard}/{start}" if shard < len(self.queues) else "", read)

    def every(self, wanted: Wanted = EVERYTHING, dead: bool = False) -> Iterator[Letter]:
        """All that there are, page by page."""
        cursor = ""
        while True:
            page = self.page(wanted, cursor, SLICE, dead)
            yield from page.letters
            cursor = page.cursor
            if not cursor:
                return

    def find(self, message_id: str, dead: bool = False) -> Letter | None:
        """The message of this id."""
        for shard, queue in enumerate(self.queues):
            if not dead:
                entry = self.looks[shard].call(Call(["HGET", queue.keys.message(message_id), "entry"]))
                letters = self._at(shard, entry.decode(), dead) if entry else []
                if letters and letters[0].id == message_id:
                    return letters[0]
            letter = self._search(shard, message_id, dead)
            if letter is not None:
                return letter
        return None

    def header(self, letter: Letter) -> str:
        """The header of a message; "" when its body is gone."""
        content = self._beginning(letter)
        end = content.find(b"\r\n\r\n")
        return content[: end + 2 if end >= 0 else len(content)].decode("utf-8", "replace")

    # -- changing -------------------------------------------------------------------------------------------------

    def retry(self, letters: Sequence[Letter]) -> int:
        """Deferred messages are due now; how many were."""
        done = 0
        now_ms = int(time.time() * 1000)
        for letter in letters:
            call = Call(["ZADD", self.keys(letter.shard).later, "XX", "CH", now_ms, letter.entry_id])
            done += int(self.looks[letter.shard].call(call))
        return done

    def bury(self, letter: Letter, reason: str) -> bool:
        """It becomes a dead letter, without a report. False: a relay has it in hand, or it is gone."""
        queue = self.queues[letter.shard]
        claim = queue.claim(letter.entry_id)
        if claim is None:
            return False
        at = round(time.time(), 3)
        rest = [one for one in claim.envelope.rcpt_to if one not in claim.settled]
        outcomes: dict[str, Outcome] = {one: {"outcome": "failed", "code": 0, "text": reason, "at": at} for one in rest}
        dead = [{"recipient": recipient, **outcome} for recipient, outcome in outcomes.items()]
        return queue.settle(claim, outcomes, None, dead or [{"reason": reason}])

    def drop(self, letter: Letter) -> bool:
        """It is gone, for all its recipients, and nobody is told. False: a relay has it in hand, or it is gone."""
        if letter.state == "dead":
            keys = self.keys(letter.shard)
            freed = [keys.body(letter.id)] if letter.envelope is None or letter.envelope.segments else []
            return bool(self.looks[letter.shard].call(scripts.drop_dead(keys, letter.entry_id, freed)))
        queue = self.queues[letter.shard]
        claim = queue.claim(letter.entry_id)
        return claim is not None and queue.settle(claim, {}, None)

    def replay(self, letter: Letter) -> bool:
        """A dead letter goes back into the queue, for those who failed, as if it had come now. False: it is gone.

        ValueError when it cannot be read.
        """
        if letter.envelope is None:
            raise ValueError(f"{letter.entry_id}: its envelope cannot be read")
        failed = [one for one in letter.envelope.rcpt_to if letter.settled.get(one) != "delivered"]
        envelope = replace(letter.envelope, received_at=time.time(), rcpt_to=failed or letter.envelope.rcpt_to)
        call = scripts.replay(self.keys(letter.shard), letter.entry_id, letter.id, envelope.to_json())
        return bool(self.looks[letter.shard].call(call))

    # ------------------------------------------------------------------------------------------------------------

    def _at(self, shard: int, entry_id: str, dead: bool) -> list[Letter]:
        listing = scripts.list_dead if dead else scripts.list_queue
        _, *found = self.looks[shard].call(listing(self.keys(shard), entry_id, 1, 1))
        letters = [_letter(shard, row, dead) for row in found]
        self._fill_in(shard, letters)
        return letters

    def _search(self, shard: int, message_id: str, dead: bool) -> Letter | None:
        """From where it should be to the end. The id alone is looked for in the envelope by the store."""
        listing = scripts.list_dead if dead else scripts.list_queue
        start = f"{max(0, _made_ms(message_id) - EARLY_MS)}"
        while True:
            last, *found = self.looks[shard].call(
                listing(self.keys(shard), start, SLICE, SLICE, [f'"{message_id}"'.encode("utf-8", "replace")])
            )
            for row in found:
                letter = _letter(shard, row, dead)
                if letter.id == message_id:
                    self._fill_in(shard, [letter])
                    return letter
            if not last:
                return None
            start = f"({last.decode()}"

    def _fill_in(self, shard: int, letters: Sequence[Letter]) -> None:
        """What msg:ID holds."""
        look = self.looks[shard]
        calls = []
        for letter in letters:
            if letter.state == "dead":
                continue
            names = ("attempts", "settled", "history")
            calls.append((letter, Call(["HMGET", self.keys(shard).message(letter.id), *names])))
            look.post(calls[-1][1])
        for letter, call in calls:
            attempts, settled, history = look.wait(call)
            if attempts is not None:
                letter.attempts = int(attempts)
            _read(letter, {b"settled": settled or b"{}", b"history": history or b"[]"})

    def _beginning(self, letter: Letter) -> bytes:
        keys, look = self.keys(letter.shard), self.looks[letter.shard]
        if letter.envelope is not None and letter.envelope.segments:
            return b"".join(look.call(Call(["LRANGE", keys.body(letter.id), 0, HEADER_SEGMENTS - 1])))
        stream = keys.dead if letter.state == "dead" else keys.queue
        found = look.call(Call(["XRANGE", stream, letter.entry_id, letter.entry_id]))
        flat = found[0][1] if found else []
        return bytes(dict(zip(flat[::2], flat[1::2], strict=True)).get(b"body", b""))


def _letter(shard: int, row: Sequence[Any], dead: bool) -> Letter:
    entry_id, state, ends, body_bytes, flat = row
    fields = dict(zip(flat[::2], flat[1::2], strict=True))
    try:
        envelope: Entry | None = Entry.from_json(fields[b"envelope"])
    except (KeyError, ValueError):
        envelope = None
    letter = Letter(
        shard=shard,
        entry_id=entry_id.decode(),
        id=fields.get(b"id", b"").decode("ascii", "replace"),
        state="dead" if dead else STATES[state],
        envelope=envelope,
        size_bytes=envelope.size_bytes if envelope else body_bytes,
        entered_at=int(entry_id.partition(b"-")[0]) / 1000,
        until=float(ends) / 1000,
    )
    if dead:
        letter.reason = fields.get(b"reason", b"").decode("utf-8", "replace")
        _read(letter, fields)
    return letter


def _read(letter: Letter, fields: Mapping[bytes, bytes]) -> None:
    """What is known of recipients; nothing where it cannot be read."""
    try:
        settled = json.loads(fields.get(b"settled", b"{}"))
        history = json.loads(fields.get(b"history", b"[]"))
    except ValueError:
        return
    if isinstance(settled, dict) and isinstance(history, list):
        letter.settled, letter.history = settled, history
        if history and not letter.reason:
            letter.reason = str(history[-1].get("text", ""))


def _place(cursor: str, shards: int) -> tuple[int, str]:
    if not cursor:
        return 0, "-"
    found = _CURSOR.fullmatch(cursor)
    if found is None or int(found[1]) >= shards:
        raise ValueError(f"{cursor!r} is no cursor")
    return int(found[1]), found[2]


def _made_ms(message_id: str) -> int:
    """When a message's id was made; 0 when it is none of ours."""
    made = 0
    for digit in message_id[:8]:
        if digit not in _DIGITS:
            return 0
        made = made * 62 + _DIGITS.index(digit)
    return made if len(message_id) == 16 and made < 2**53 else 0
