"""What became of one recipient in one attempt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["delivered", "deferred", "failed"]


@dataclass(slots=True)
class Outcome:
    """`kind`: delivered (the next hop has it), deferred (to be tried again), failed (for good).

    `code` is the next hop's reply code, or the one that describes our own reason best; 0 where no reply came.
    `text` is printable and short. `uncertain`: the connection broke after the last byte of the message and before the
    reply to it, so the next attempt may be a second delivery (RFC 5321 §4.5.4.2, RFC 1047).
    """

    kind: Kind
    code: int
    text: str
    uncertain: bool = False

    def __str__(self) -> str:
        return f"{self.code} {self.text}" if self.code else self.text
