"""Message ids: unique across the fleet, in the order of their making, 16 characters of 0-9A-Za-z.

Eight characters are the unix time in ms, two count within it, six are drawn once per process (62^6 = 5.7e10): two ids
are equal only if two processes drew the same six and counted alike in the same millisecond. In base 62 with ASCII's
order, comparing ids as bytes compares their times.
"""

from __future__ import annotations

import secrets
import time
from hashlib import blake2b

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_PER_MS = 62**2
LENGTH = 16


def _base62(number: int, width: int) -> str:
    digits = []
    for _ in range(width):
        number, digit = divmod(number, 62)
        digits.append(_DIGITS[digit])
    return "".join(reversed(digits))


def derived_id(message_id: str, *what: str | int) -> str:
    """An id for what comes of a message, such as a report on it: the same for the same arguments. It sorts with its
    message.
    """
    named = "\n".join([message_id, *map(str, what)])
    digest = blake2b(named.encode("utf-8", "surrogatepass"), digest_size=16).digest()
    ours = len(message_id) == LENGTH and message_id.isascii() and message_id.isalnum()  # others may write to the queue
    begun = message_id[:8] if ours else _base62(int.from_bytes(digest[8:], "big"), 8)
    return begun + _base62(int.from_bytes(digest[:8], "big"), 8)


_PAIRS = [_base62(number, 2) for number in range(_PER_MS)]


class MessageIds:
    """Make one per process, after the fork."""

    __slots__ = ("_count", "_ms", "_prefix", "_process")

    def __init__(self) -> None:
        self._process = _base62(secrets.randbelow(62**6), 6)
        self._ms = 0
        self._count = 0
        self._prefix = ""

    def next(self) -> str:
        """A new id. Its time never goes back, even if the clock does."""
        now_ms = time.time_ns() // 1_000_000
        self._count += 1
        if now_ms > self._ms or self._count >= _PER_MS:
            self._ms = max(now_ms, self._ms + 1)
            self._count = 0
            self._prefix = _base62(self._ms, 8)
        return self._prefix + _PAIRS[self._count] + self._process
