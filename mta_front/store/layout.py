"""The version of the keys, asked at each new connection: what a newer release wrote is not touched."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mta_front.store.client import Greeting
from mta_front.store.errors import StoreDown, StoreLayoutUnknown
from mta_front.store.keys import LAYOUT, ShardKeys
from mta_front.store.wire import ReplyError


def layout_greetings(shards: Sequence[ShardKeys], writes: bool) -> list[Greeting]:
    """What a new connection asks; one that writes messages also says what it writes, where nobody has yet."""
    greetings: list[Greeting] = []
    for keys in shards:
        if writes:
            greetings.append((("SET", keys.layout, LAYOUT, "NX"), _ignore))  # a full store says OOM: said again later
        greetings.append((("GET", keys.layout), _judge))
    return greetings


def _ignore(_: Any) -> None:
    pass


def _judge(reply: Any) -> None:
    if isinstance(reply, ReplyError):
        raise StoreDown(f"cannot read the layout version: {reply.text}")
    if reply is None:
        return
    try:
        version = int(reply)
    except ValueError:
        version = LAYOUT + 1
    if version > LAYOUT:
        raise StoreLayoutUnknown(f"the keys in the store are of layout {reply[:16]!r}, this version knows {LAYOUT}")
