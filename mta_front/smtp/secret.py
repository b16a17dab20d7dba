"""What holds a secret must not leak it: not by repr, not by pickle, not by how long a comparison takes."""

from __future__ import annotations

import hashlib
import hmac
from typing import NoReturn, SupportsIndex


class Secret:
    """Base of what holds a password, a token or a key: prints as its type alone, cannot be pickled or copied.

    Raises TypeError where one tries.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError(f"{type(self).__name__} holds secrets: it is not pickled or copied")


def same(one: str | bytes, other: str | bytes) -> bool:
    """Equal; the time that this takes says nothing about where they differ, nor, by hashing both, about lengths."""
    return hmac.compare_digest(_digest(one), _digest(other))


def octets(text: str) -> bytes:
    """The text in UTF-8. A lone surrogate, which only a developer's own string can hold, raises nothing: the error
    would carry the text.
    """
    return text.encode("utf-8", "surrogatepass")


def _digest(value: str | bytes) -> bytes:
    return hashlib.sha256(octets(value) if isinstance(value, str) else value).digest()
