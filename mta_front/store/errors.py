"""What can go wrong between us and the store: one class for each thing a caller may have to do differently.

A hand-over has three outcomes: stored, refused, unknown. `executed` of an error tells the last two apart. False:
certainly nothing happened. None: nobody knows; it may have happened, or happen yet, or have happened without being
durable.
"""

from __future__ import annotations

from typing import ClassVar


class StoreError(Exception):
    """The store did not do what it was asked. `reason`: short plain text for logs, without addresses or secrets."""

    executed: ClassVar[bool | None] = False

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class StoreDown(StoreError):
    """Nothing was sent: there is no connection, or our turn did not come in time."""


class StoreRefused(StoreError):
    """The store executed the request and said no (past its deadline, an error reply), and nothing was changed."""


class StoreBodyGone(StoreRefused):
    """The list key of a large body is missing, or is not what was written. It will not come back."""


class StoreFull(StoreError):
    """The store is over its `maxmemory`; nothing was written."""


class StoreNotDurable(StoreError):
    """The store is up but unfit: not append-only, not fsyncing, evicting, or nobody can tell. Nothing was sent."""


class StoreLayoutUnknown(StoreNotDurable):
    """The keys in the store are of a newer layout than this version understands: exit code 78."""


class StoreUnknown(StoreError):
    """Sent, but no answer came (time-out, lost connection), or the answer fell short: it may happen yet."""

    executed = None
