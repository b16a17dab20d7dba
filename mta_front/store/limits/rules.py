"""What is limited, for whom, by how much, and what a limit does while the store is away. Pure; settings become this."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Literal

from mta_front.store.options import StoreOptions

Mode = Literal["open", "closed", "local"]
"""What a limit does while the store is away: allow, refuse, or count in this worker alone, its share of the limit."""

Subject = Literal["address", "user", "pair", "domain", "listener", "fleet"]
Group = Literal[
    "connections",
    "connection_rate",
    "messages",
    "recipients",
    "bytes",
    "failed_commands",
    "handshakes",
    "auth_failures",
]
Network = IPv4Network | IPv6Network

UNITS_S = {"d": 86400, "h": 3600, "m": 60, "s": 1}
LONGEST_S = 31 * 86400  # of a period, and of what a burst is worth: in µs they stay exact in a double
EXACT_US = 1000  # an interval so long may be rounded up to a µs; shorter ones (octets) are not
MOST = 10**15  # of a count or a burst
_RATE = re.compile(r"([0-9]{1,16})/([0-9]{1,7})([smhd])(?: +burst +([0-9]{1,16}))?")


@dataclass(frozen=True, slots=True)
class Rate:
    """`count` in each `period_s` s, and up to `burst` at once: at most count + burst in any window of a period."""

    count: int
    period_s: float
    burst: int

    @classmethod
    def parse(cls, text: str) -> Rate:
        """`60/1m`, or `60/1m burst 10`; without `burst` it is the count. `ValueError` says what is allowed."""
        found = _RATE.fullmatch(text.strip())
        if found is None:
            raise ValueError('must be COUNT/PERIOD as in "60/1m" or "60/1m burst 10"; units are s, m, h, d')
        count, burst = int(found[1]), int(found[4] or found[1])
        period_s = int(found[2]) * UNITS_S[found[3]]
        if not 1 <= count <= MOST or not 1 <= burst <= MOST:
            raise ValueError(f"must have a count and a burst from 1 to {MOST}")
        if not 1 <= period_s <= LONGEST_S:
            raise ValueError("must have a period from 1s to 31d")
        if burst * period_s > LONGEST_S * count:
            raise ValueError("must have a burst that comes back within 31d")
        return cls(count, float(period_s), burst)

    def __str__(self) -> str:
        period_s = int(self.period_s)
        unit = next(unit for unit, size in UNITS_S.items() if period_s % size == 0)
        text = f"{self.count}/{period_s // UNITS_S[unit]}{unit}"
        return text if self.burst == self.count else f"{text} burst {self.burst}"

    def cost_us(self, amount: int = 1) -> int:
        """How long it takes until so many may come again, whole µs: never less than the rate says."""
        period_us = int(self.period_s * 1_000_000)
        interval_us = -(-period_us // self.count)
        if interval_us >= EXACT_US:  # so many single ones cost what they cost together, and a burst is a whole one
            return amount * interval_us
        return -(-amount * period_us // self.count)

    @property
    def room_us(self) -> int:
        """What a whole burst costs, µs."""
        return self.cost_us(self.burst)

    def within(self, seconds: float) -> int:
        """How many come back in so long."""
        return int(seconds * self.count / self.period_s)

    def share(self, workers: int) -> Rate:
        """The part of one of so many workers, rounded up."""
        return Rate(-(-self.count // workers), self.period_s, -(-self.burst // workers))


@dataclass(frozen=True, slots=True)
class AtOnce:
    """How many connections at the same time. Its name: `connections.per_address`, `connections.fleet`, …"""

    subject: Subject  # address, user, listener or fleet
    limit: int
    store_down: Mode = "local"
    scope: str = ""  # a listener: what is counted is counted there alone

    @property
    def name(self) -> str:
        """For metrics and logs, never for clients."""
        return rule_name("connections", self.subject)


@dataclass(frozen=True, slots=True)
class PerTime:
    """How many of a group in a time. Its name: `messages.per_user`, `connection_rate.fleet`, …"""

    group: Group  # any but connections and auth_failures
    subject: Subject  # any but pair; user: only where one is logged in; domain: only where `spend` is given one
    rate: Rate
    store_down: Mode = "local"
    scope: str = ""  # a listener: what is counted is counted there alone

    @property
    def name(self) -> str:
        """For metrics and logs, never for clients."""
        return rule_name(self.group, self.subject)


@dataclass(frozen=True, slots=True)
class AuthRules:
    """Failed logins. Who runs out of a rate is locked out for the first of `lockout_s`, next time for the second, …;
    a day of the longest without a lock-out takes one step back.
    """

    per_address: Rate | None = None
    per_user: Rate | None = None
    per_pair: Rate | None = None
    known_address_days: int = 30  # an address where the user logged in so lately is judged by `per_pair` only; 0 = none
    lockout_s: tuple[float, ...] = (60.0, 300.0, 3600.0)
    tarpit_s: tuple[float, float] = (0.5, 8.0)  # how late the first failure is answered; doubles up to the second
    store_down: Mode = "local"
    scope: str = ""  # a listener: what is counted is counted there alone


@dataclass(frozen=True, slots=True)
class Rules:
    """All limits of a listener or a network. None at all: only bans count."""

    at_once: tuple[AtOnce, ...] = ()
    per_time: tuple[PerTime, ...] = ()
    auth: AuthRules | None = None

    @property
    def groups(self) -> frozenset[Group]:
        """The groups with any rule."""
        found: set[Group] = {rule.group for rule in self.per_time}
        if self.at_once:
            found.add("connections")
        if self.auth is not None:
            found.add("auth_failures")
        return frozenset(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitOptions:
    """What the settings say of limits."""

    store: StoreOptions  # where the counts are; its timeout_ms is not used, `timeout_ms` here is
    rules: Rules = Rules()  # of listeners that are not named below
    listeners: Mapping[str, Rules] = field(default_factory=dict)
    networks: tuple[tuple[Network, Mapping[str, Rules]], ...] = ()  # clients with rules of their own, by listener; the
    # first match wins
    exempt: tuple[Network, ...] = ()
    ipv4_prefix: int = 32  # clients whose first so many bits are equal are one client
    ipv6_prefix: int = 64
    timeout_ms: int = 250  # no session waits longer for the store, whatever it asks
    slow_ms: int = 100  # a store that takes longer, in the median, counts as away
    lease_s: float = 30.0  # after so long what a dead worker held is free

    def rules_for(self, listener: str, address: str, *, trusted: bool = True) -> Rules | None:
        """The rules for a client; None = exempt. Not `trusted`: in no network that we know (W10, W12)."""
        return self.rules_of(listener, parsed(address), trusted)

    def rules_of(self, listener: str, found: IPv4Address | IPv6Address | None, trusted: bool) -> Rules | None:
        """As `rules_for`, of a `parsed` address."""
        if found is not None and trusted:
            if any(found in network for network in self.exempt):
                return None
            for network, by_listener in self.networks:
                if found in network:
                    return by_listener.get(listener, self.rules)
        return self.listeners.get(listener, self.rules)

    def all_rules(self) -> list[Rules]:
        """Every set of rules there is."""
        found = [self.rules, *self.listeners.values()]
        for _, by_listener in self.networks:
            found += by_listener.values()
        return found


def rule_name(group: Group, subject: Subject) -> str:
    """`messages.per_user`, `connections.fleet`."""
    return f"{group}.fleet" if subject == "fleet" else f"{group}.per_{subject}"


def parsed(address: str) -> IPv4Address | IPv6Address | None:
    """The address, an IPv4 one also where it is written as IPv6 (::ffff:1.2.3.4), without a zone; None: it is none."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return None
    return (found.ipv4_mapped or found) if isinstance(found, IPv6Address) else found
