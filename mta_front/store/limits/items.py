"""What people are shown of limits. Times are Unix seconds on the store's clock."""

from __future__ import annotations

from dataclasses import dataclass

from mta_front.store.limits.rules import Rate


@dataclass(frozen=True, slots=True)
class Ban:
    """Of an address, a network or a user."""

    subject: str
    key: str
    reason: str
    begun_at: float
    ends_at: float


@dataclass(frozen=True, slots=True)
class Lockout:
    """No login for an address, a user, or a pair: `ADDRESS USER`. `stage`: the first, the second, …"""

    subject: str
    key: str
    stage: int
    ends_at: float


@dataclass(frozen=True, slots=True)
class Count:
    """What is used of a limit now. `scope`: the listener that it is counted for alone, or "".

    `limit` as the settings say it, "" where they say nothing of it. `ends_at`: when it is used no more, if nothing is
    added; 0.0 when that depends on who holds it.
    """

    rule: str
    key: str
    scope: str
    used: float
    limit: str
    ends_at: float


Item = Ban | Lockout | Count


@dataclass(frozen=True, slots=True)
class Page:
    """`cursor`: for the next one; "" after the last. A page may be empty and not the last."""

    items: tuple[Item, ...]
    cursor: str


def used_of(rule: str, key: str, scope: str, rate: str, arrival_us: float, now: float) -> list[Count]:
    """What is used of a rate; nothing when that is nothing."""
    try:
        cost_s = Rate.parse(rate).cost_us() / 1e6
    except ValueError:
        return []  # of another release
    left_s = arrival_us / 1e6 - now
    return [Count(rule, key, scope, round(left_s / cost_s, 2), rate, arrival_us / 1e6)] if left_s > 0 else []
