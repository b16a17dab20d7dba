"""The circuit breaker, on a clock of the test's."""

from __future__ import annotations

from mta_front.policy.auth.breaker import Breaker


def test_it_opens_probes_and_closes() -> None:
    now = 100.0
    breaker = Breaker(3, 10.0, lambda: now)
    assert [breaker.admits() and breaker.failed() for _ in range(3)] == [False, False, True]
    assert breaker.is_open
    assert not breaker.admits()
    now += 10
    assert breaker.admits(), "the probe"
    assert not breaker.admits(), "one at a time"
    assert not breaker.failed(), "no news"
    assert not breaker.admits(), "open again, at once"
    now += 10
    assert breaker.admits()
    assert breaker.succeeded(), "news"
    assert breaker.admits()
    assert not breaker.succeeded()
    assert not breaker.is_open


def test_only_failures_in_a_row_count() -> None:
    breaker = Breaker(2, 10.0, lambda: 0.0)
    for _ in range(5):
        assert not breaker.failed()
        assert not breaker.succeeded()
    assert breaker.admits()


def test_a_probe_that_never_ends_does_not_keep_it_open() -> None:
    """Its greenlet may have been killed with its session."""
    now = 0.0
    breaker = Breaker(1, 10.0, lambda: now)
    breaker.failed()
    now = 10.0
    assert breaker.admits()
    now = 19.9
    assert not breaker.admits()
    now = 20.0
    assert breaker.admits()
