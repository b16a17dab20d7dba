"""The children, handed over from one program to the next in the same process (see `handover`)."""

from __future__ import annotations

import time
from typing import Any

from mta_front.master.children import Children
from mta_front.master.places import Child


def state_of(children: Children) -> dict[str, Any]:
    """All that the next program needs to know of them. Not while a successor boots."""
    now = time.monotonic()
    places = [
        {
            "kind": place.kind,
            "index": place.index,
            "restarts": place.restarts,
            "counted": place.counted,
            "wanted": place in children.places,
            "in_service": place.child.pid if place.child else 0,
            "living": [child.handed_over(now) for child in place.living if not child.control.closed],
        }
        for place in children.all_places()
    ]
    return {"places": places, "store_answered": children.store_answered}


def adopt(children: Children, state: dict[str, Any]) -> None:
    """Take them over."""
    now = time.monotonic()
    children.store_answered = state["store_answered"]
    for row in state["places"]:
        place = children.add(row["kind"], row["index"], counted=row["counted"])
        place.restarts = row["restarts"]
        for each in row["living"]:
            child = Child.taken_over(each, children.generation, now)
            children.watch(place, child)
            if child.pid == row["in_service"]:
                place.child = child
            if each["ready"]:
                children.found_ready(row["kind"])
        if not row["wanted"]:
            children.remove(place)
