"""Started limits, closed after the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mta_front.store.limits.rules import AtOnce, AuthRules, PerTime
from mta_front.store.limits.shared import Limits
from tests.store.limits.parts import LimitsRecorder, options_of
from tests.store.parts import until
from tests.stores import Store


@pytest.fixture
def events() -> Iterator[LimitsRecorder]:
    """What was reported; a fault fails the test."""
    recorder = LimitsRecorder()
    yield recorder
    assert recorder.faults == []


@pytest.fixture
def make_limits(events: LimitsRecorder) -> Iterator[Callable[..., Limits]]:
    """`make_limits(store, AtOnce("address", 3), lease_s=1.0)`: started; `up=False`: do not wait for the store."""
    made: list[Limits] = []

    def make(store: Store | str, *rules: AtOnce | PerTime | AuthRules, up: bool = True, **more: Any) -> Limits:
        limits = Limits(options_of(store, *rules, **more), events)
        made.append(limits)
        limits.start()
        if up:
            until(lambda: limits.ready, message="the limits to be up")
        return limits

    yield make
    for limits in made:
        limits.close()
