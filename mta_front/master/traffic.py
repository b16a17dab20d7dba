"""New connections, directed: to the slots whose workers can take them, and away from all others (see `spread`)."""

from __future__ import annotations

from mta_front.master.children import Children
from mta_front.master.slots import Slots
from mta_front.master.spread import Fit, chosen, covered


class Traffic:
    """What was last ordered, and what is to be."""

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._covered: dict[int, int] = {}

    def direct(self, children: Children, now: float) -> None:
        """Steer, and tell workers whom to accept for, as things stand now. To be called whenever they may be others."""
        workers = [place for place in children.places if place.kind == "worker"]
        fit = [Fit(place.index, place.child.sessions) for place in workers if place.child and place.child.is_fit(now)]
        # When nobody is fit, connections wait where somebody is expected.
        self._slots.steer(chosen(fit) or [place.index for place in workers])
        self._covered = covered(self._slots.count, fit, self._covered)
        for place in workers:
            mine = tuple(slot for slot, cover in self._covered.items() if cover == place.index)
            if place.child and place.child.covers != mine and place.child.is_fit(now):
                place.child.covers = mine
                place.child.control.order(do="cover", slots=list(mine))
