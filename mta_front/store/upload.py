"""One message on its way into the store.

A body of up to `inline_max_bytes` is gathered here and travels with its envelope. A larger one becomes a list key, one
segment of at most 64 KiB per element, written while it arrives: one open_body, then RPUSHX, which does nothing when the
key is gone. Each is answered with the list's length, so that order and number are proven before the hand-over. The key
expires unless the hand-over lifts that, and is renewed meanwhile with PEXPIRE … XX: that can never put an expiry on a
body that was handed over in between.

Memory: at most `WINDOW_BYTES` of an upload are unanswered, one segment is gathered, and all uploads share the worker's
budget (see Spool.reserve).
"""

from __future__ import annotations

import contextlib
import time
from enum import IntEnum
from typing import TYPE_CHECKING

from gevent.event import Event

from mta_front.store import scripts
from mta_front.store.batch import Call
from mta_front.store.duplicates import Hasher, Remembered, key_of
from mta_front.store.entry import Entry
from mta_front.store.errors import StoreBodyGone, StoreDown, StoreError, StoreRefused, StoreUnknown

if TYPE_CHECKING:
    from mta_front.store.spool import Spool

SEGMENT_BYTES = 64 * 1024
WINDOW_BYTES = 1024 * 1024


class _State(IntEnum):
    OPEN = 0
    HANDING_OVER = 1
    ENDED = 2


class Upload:
    """One greenlet uses it at a time; it ends by `commit` or `abort`."""

    __slots__ = (
        "_answered",
        "_fault",
        "_gathered",
        "_gathered_bytes",
        "_hasher",
        "_key",
        "_last_bytes",
        "_news",
        "_opening",
        "_segments",
        "_spool",
        "_state",
        "_unanswered_bytes",
        "id",
        "remembered",
        "shard",
        "size_bytes",
    )

    def __init__(self, spool: Spool, message_id: str, shard: int) -> None:
        self.id = message_id
        self.shard = shard
        self.size_bytes = 0
        self.remembered: Remembered | None = None
        """Once committed: what `Spool.records` is to be told of the client."""
        self._spool = spool
        self._hasher = Hasher() if spool.options.duplicate_window_s else None
        self._state = _State.OPEN
        self._gathered: list[bytes] = []
        self._gathered_bytes = 0
        self._key = ""  # the list key, once there is one
        self._opening = False  # open_body is not answered yet
        self._segments = 0  # sent
        self._answered = 0
        self._last_bytes = 0  # of the last segment sent
        self._unanswered_bytes = 0
        self._fault: StoreError | None = None
        self._news: Event | None = None  # set at each answer, while somebody waits

    # -- the session's side ---------------------------------------------------------------------------------------

    def write(self, segment: bytes, ours: bool = False) -> None:
        """Take the next bytes of the body. Waits only when 1 MiB of this upload is unanswered, or the worker's budget
        is used up. `ours`: the client did not send them, so that copies of a message may differ there. `StoreError`:
        the upload is dead, nothing of it remains but a key that expires.
        """
        self._must_be_open()
        size_bytes = len(segment)
        if not size_bytes:
            return
        if self._hasher is not None and not ours:
            self._hasher.update(segment)
        try:
            self._spool.reserve(self, size_bytes)
            if self._key and self._gathered_bytes + size_bytes > SEGMENT_BYTES:
                try:
                    self._flush()
                except BaseException:
                    self._spool.release(size_bytes)
                    raise
            self._gathered.append(segment)
            self._gathered_bytes += size_bytes
            self.size_bytes += size_bytes
            if not self._key and self._gathered_bytes > self._spool.options.inline_max_bytes:
                self._begin_key()
        except BaseException:  # also a gevent.Timeout of the user's hook, which may swallow it: bytes are missing
            self.abort()
            raise

    def commit(self, entry: Entry) -> str:
        """Hand the message over; returns only when it is durable. Sets the entry's id, segments and size_bytes. The id
        under which it is stored: that of its first copy, where the client sends again what it saw no 250 for.

        `StoreError` otherwise, within `timeout_ms`; `StoreUnknown` when it may have been stored all the same.
        """
        self._must_be_open()
        deadline = time.monotonic() + self._spool.timeout_s
        entry.id = self.id
        entry.size_bytes = self.size_bytes
        keys = self._spool.keys[self.shard]
        memory = None
        try:
            if self._key:
                self._flush()
                self._wait_for_answers(deadline)
            entry.segments = self._segments
            envelope = entry.to_json()
            memory = self._memory(entry)
            if self._key:
                call = scripts.hand_over_large(keys, self.id, envelope, self._segments, self._last_bytes, memory)
            else:
                call = scripts.hand_over(keys, self.id, envelope, b"".join(self._gathered), memory)
                deadline = 0.0
            self._state = _State.HANDING_OVER
            reply = self._spool.hand_over(self.shard, call, deadline)
        except BaseException as error:
            # Unknown (also when our greenlet was killed): if it was stored after all, its body must stay; else it
            # expires.
            refused = isinstance(error, StoreError) and error.executed is False
            if memory is not None and self._state is _State.HANDING_OVER and not refused:
                self._spool.records.untold(memory.key, self.id)
            self._end(unlink=refused or self._state is _State.OPEN)
            raise
        refused, again = isinstance(reply, int), isinstance(reply, list)
        self._end(unlink=refused or again)
        if refused:
            if reply == scripts.BODY_GONE:
                raise StoreBodyGone("the body in the store is not what was written")
            raise StoreRefused("the store came to it too late")
        stored = reply[0].decode() if again else self.id
        if memory is not None:
            self.remembered = self._spool.records.told(self.shard, memory.key, self.id)
        return stored

    def _memory(self, entry: Entry) -> scripts.Memory | None:
        if self._hasher is None:
            return None
        return self._spool.records.memory(self.shard, key_of(self._spool.keys[self.shard], entry, self._hasher))

    def abort(self) -> None:
        """Forget the message and free what it took. At any time, also twice or after `commit`; never raises."""
        if self._state is _State.OPEN:
            self._end(unlink=True)

    def _must_be_open(self) -> None:
        if self._fault is not None:
            self.abort()
            raise self._dead()
        if self._state is not _State.OPEN:
            raise StoreRefused("this upload has ended")

    def _end(self, unlink: bool) -> None:
        self._state = _State.ENDED
        self._gathered.clear()
        self._spool.forget(self, self._gathered_bytes)
        self._gathered_bytes = 0
        if self._key and unlink:
            self._spool.unlink(self.shard, self._key)

    # -- the list key ---------------------------------------------------------------------------------------------

    def _begin_key(self) -> None:
        """Move what was gathered into a list key. Does not wait."""
        key = self._spool.keys[self.shard].body(self.id)
        segments = self._cut()
        call = scripts.open_body(key, self._spool.body_expiry_ms, segments, self._on_answer)
        self._spool.links(self.shard).bodies.post(call)
        self._key = key
        self._opening = True
        self._sent(call, len(segments), len(segments[-1]))
        self._gathered.clear()
        self._gathered_bytes = 0

    def _flush(self) -> None:
        """Send what was gathered; waits for room in the window."""
        segments = self._cut()
        gathered_bytes, self._gathered_bytes = self._gathered_bytes, 0
        self._gathered.clear()
        try:
            for segment in segments:
                size_bytes = len(segment)
                while self._opening or self._unanswered_bytes + size_bytes > WINDOW_BYTES:
                    self._wait_for_news(None)
                call = Call(["RPUSHX", self._key, segment], size_bytes=size_bytes, then=self._on_answer)
                self._spool.links(self.shard).bodies.post(call)
                gathered_bytes -= size_bytes
                self._sent(call, 1, size_bytes)
        except BaseException:
            self._spool.release(gathered_bytes)  # of what will not be sent
            raise

    def spill(self) -> None:
        """The worker's budget is used up: move what is gathered here into the store. Does not wait."""
        if self._state is not _State.OPEN or self._fault is not None or not self._gathered:
            return
        if not self._key:
            with contextlib.suppress(StoreError):  # the store is down; its owner will hear of it
                self._begin_key()
        elif not self._opening and self._unanswered_bytes + self._gathered_bytes <= WINDOW_BYTES:
            try:
                self._flush()
            except StoreError as error:
                self._fail(error)

    def _cut(self) -> list[bytes]:
        gathered = self._gathered[0] if len(self._gathered) == 1 else b"".join(self._gathered)
        if len(gathered) <= SEGMENT_BYTES:
            return [gathered] if gathered else []
        return [gathered[start : start + SEGMENT_BYTES] for start in range(0, len(gathered), SEGMENT_BYTES)]

    def _sent(self, call: Call, segments: int, last_bytes: int) -> None:
        self._segments += segments
        self._last_bytes = last_bytes
        self._unanswered_bytes += call.size_bytes

    def _on_answer(self, call: Call) -> None:
        """In the link's publisher: a piece of the body was answered."""
        self._unanswered_bytes -= call.size_bytes
        self._spool.release(call.size_bytes)
        if call.error is not None:
            self._fail(call.error)
        elif self._opening:
            self._opening = False
            self._answered = call.reply
            if call.reply != self._segments:
                self._fail(StoreRefused("the store came to it too late") if call.reply < 0 else _GONE)
        else:
            self._answered += 1
            if call.reply != self._answered:
                self._fail(_GONE)
        if self._news is not None:
            self._news.set()

    def on_renewed(self, call: Call) -> None:
        """In the link's publisher: the expiry of the key was extended, or not."""
        if call.error is None and call.reply == 0 and self._state is _State.OPEN:
            self._fail(_GONE)

    @property
    def key(self) -> str:
        """The list key; "" while there is none."""
        return self._key

    def _fail(self, error: StoreError) -> None:
        self._opening = False
        if self._fault is None:
            self._fault = error
        if self._news is not None:
            self._news.set()

    def _dead(self) -> StoreError:
        """Why this upload failed. What was unknown of a piece is known of the message: it was not stored."""
        assert self._fault is not None
        kind = StoreDown if isinstance(self._fault, StoreUnknown) else type(self._fault)
        return kind(self._fault.reason)

    def _wait_for_answers(self, deadline: float) -> None:
        while self._unanswered_bytes:
            self._wait_for_news(deadline)
        if self._fault is not None:
            raise self._dead()

    def _wait_for_news(self, deadline: float | None) -> None:
        """Until something was answered. Without a deadline the link's own holds, since something is under way."""
        if self._fault is not None:
            raise self._dead()
        if self._news is None:
            self._news = Event()
        self._news.clear()
        if not self._news.wait(None if deadline is None else max(0.0, deadline - time.monotonic())):
            raise StoreDown("the store did not take the body in time")
        if self._fault is not None:
            raise self._dead()


_GONE = StoreBodyGone("the body in the store is gone, or is not what was written")
