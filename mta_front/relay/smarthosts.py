"""In which order the next hops of a route are tried. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence


def in_order(weights: Sequence[int], dice: Callable[[], float]) -> list[int]:
    """The indices of next hops, for one message. Those with a weight share the load by it, and are each other's
    fail-over; those without (0) stand by, in the order in which they were named.

    `dice` gives a number from 0 to 1. Each is drawn with a chance of its weight among those that are left (the method
    of Efraimidis and Spirakis: the largest dice ** (1 / weight) comes first).
    """
    standing_by = [index for index, weight in enumerate(weights) if not weight]
    if len(standing_by) == len(weights):
        return standing_by
    drawn = [(dice() ** (1 / weight), index) for index, weight in enumerate(weights) if weight]
    return [index for _, index in sorted(drawn, reverse=True)] + standing_by
