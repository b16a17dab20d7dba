"""The front's side of the store: a message goes in as it arrives and is handed over in one atomic, durable step."""

from __future__ import annotations

from collections.abc import Sequence

from mta_front.observe.events import NOBODY, Events
from mta_front.store.client import StoreOptions
from mta_front.store.entry import Entry


class Upload:
    """One message on its way in. One greenlet uses it at a time; it ends by `commit` or `abort`."""

    id: str
    shard: int

    def write(self, segment: bytes) -> None:
        """Take the next bytes of the body. Waits only when 1 MiB of this upload is unanswered, or the worker's budget
        is used up. `StoreError`: the upload is dead, nothing of it remains but a key that expires.
        """
        raise NotImplementedError

    def commit(self, entry: Entry) -> None:
        """Hand the message over; returns only when it is durable. Sets `entry.segments` and `entry.size_bytes`.

        `StoreError` otherwise, within `timeout_ms`; `StoreUnknown` when it may have been stored all the same.
        """
        raise NotImplementedError

    def abort(self) -> None:
        """Forget the message and free what it took. At any time, also twice or after `commit`; never raises."""
        raise NotImplementedError


class Spool:
    """All uploads of a worker, over shared connections."""

    def __init__(self, options: StoreOptions, events: Events = NOBODY) -> None:
        raise NotImplementedError

    def start(self) -> None:
        """Connect in the background; returns at once."""

    @property
    def answered(self) -> bool:
        """Whether the store has answered, and was found fit, once since the start."""
        raise NotImplementedError

    @property
    def fault(self) -> Exception | None:
        """Why the store cannot be used now (a `StoreError`); None while it can."""
        raise NotImplementedError

    def open(self, mail_from: str, rcpt_to: Sequence[str]) -> Upload:
        """Begin a message; no I/O. The shard follows from the addresses: a retry of a message meets its first copy."""
        raise NotImplementedError

    def close(self) -> None:
        """Close the connections; calls that wait fail."""
