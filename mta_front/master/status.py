"""What the master tells of its children: to the admin, each second and at each change."""

from __future__ import annotations

from typing import Any

from mta_front.master.children import Children
from mta_front.master.places import NAMES


def in_service(children: Children, now: float) -> list[dict[str, Any]]:
    """The places that are counted on, and who is in them."""
    return [place.row(now) for place in children.places if place.counted]


def leaving(children: Children, now: float) -> list[dict[str, Any]]:
    """Who drains while others go on."""
    return [
        {"kind": place.kind, "index": place.index} | child.row(now)
        for place in children.all_places()
        for child in place.living
        if child.ending and child is not place.child
    ]


def restarts(children: Children) -> dict[str, int]:
    """How many processes of each kind were replaced because they died."""
    counts: dict[str, int] = {kind: children.gone_restarts[kind] for kind in NAMES}
    for place in children.places:
        counts[place.kind] += place.restarts
    return counts
