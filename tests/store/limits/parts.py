"""What the tests of limits share: options in few words, what was reported, and many who ask at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gevent

from mta_front.store.limits.rules import AtOnce, AuthRules, LimitOptions, PerTime, Rate, Rules
from mta_front.store.limits.verdict import Who
from mta_front.store.options import StoreOptions
from tests.store.parts import Recorder
from tests.stores import Store

ADDRESS = "192.0.2.1"


class LimitsRecorder(Recorder):
    """Keeps what limits report, too."""

    def __init__(self) -> None:
        super().__init__()
        self.decided: list[tuple[str, str, str]] = []
        self.modes: list[tuple[str, str]] = []

    def limit_decided(self, rule: str, decision: str, mode: str) -> None:
        """Keep it."""
        self.decided.append((rule, decision, mode))

    def limits_mode(self, mode: str, reason: str) -> None:
        """Keep it."""
        self.modes.append((mode, reason))


def options_of(store: Store | str, *rules: AtOnce | PerTime | AuthRules, **more: Any) -> LimitOptions:
    """`options_of(store, AtOnce("address", 3), lease_s=1.0)`."""
    url = store if isinstance(store, str) else store.url
    return LimitOptions(
        store=StoreOptions(url=url),
        rules=Rules(
            at_once=tuple(rule for rule in rules if isinstance(rule, AtOnce)),
            per_time=tuple(rule for rule in rules if isinstance(rule, PerTime)),
            auth=next((rule for rule in rules if isinstance(rule, AuthRules)), None),
        ),
        **more,
    )


def a_rate(group: Any, subject: Any, text: str, **more: Any) -> PerTime:
    """`a_rate("messages", "user", "5/1m")`."""
    return PerTime(group, subject, Rate.parse(text), **more)


def who(number: int | str = 1, address: str = ADDRESS, user: str = "", listener: str = "mx", **more: Any) -> Who:
    """The session of this number."""
    return Who(f"s{number}", listener, address, user, **more)


def at_once(asks: Sequence[Callable[[], Any]], timeout_s: float = 30.0) -> list[Any]:
    """Each in a greenlet of its own, all in one turn of the loop."""
    greenlets = [gevent.spawn(ask) for ask in asks]
    gevent.joinall(greenlets, timeout=timeout_s, raise_error=True)
    assert all(greenlet.ready() for greenlet in greenlets), "not in time"
    return [greenlet.value for greenlet in greenlets]


def names_in(store: Store) -> set[str]:
    """Of all keys."""
    return store.keys()
