"""What `[store] durability` promises, from its text. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

_FORM = re.compile(r"(fsync)?(\+)?(?:replicated:([1-9]))?")


@dataclass(frozen=True, slots=True)
class Durability:
    """What must be so before a message is acknowledged."""

    fsync: bool = False  # it is on the disk of the master
    replicas: int = 0  # so many of its replicas have it


def parse_durability(text: str) -> Durability:
    """`fsync`, `fsync+replicated:N`, `replicated:N` or `memory`; ValueError says so."""
    if text == "memory":
        return Durability()
    found = _FORM.fullmatch(text)
    if not found or bool(found[2]) != bool(found[1] and found[3]) or not text:
        raise ValueError('must be "fsync", "fsync+replicated:N", "replicated:N" or "memory", N from 1 to 9')
    return Durability(bool(found[1]), int(found[3] or 0))
