"""Which keys and limits a session's question comes to. Pure text, made once for each listener and address."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from mta_front.store.keys import LimitKeys
from mta_front.store.limits.rules import AtOnce, AuthRules, Group, LimitOptions, PerTime, Rate, Rules, Subject, parsed

BAN_PREFIXES = {4: (8, 16, 24, 32), 6: (32, 48, 56, 64, 128)}  # networks that may be banned
NAME_LENGTH = 100  # of a user or a domain in a key; a longer one is known by its digest
NAMES = 10_000  # of users and domains, remembered as they are in keys
KEPT = 10_000  # kept; then all are made anew

Address = IPv4Address | IPv6Address
Bound = tuple[AtOnce, str]  # a rule, and the key where it is counted for this session
Spent = tuple[PerTime, str, int]  # and how much of it


@lru_cache(maxsize=NAMES)
def named(name: str) -> str:
    """A user's or a domain's name as part of a key: in one case and form, bounded, printable."""
    text = unicodedata.normalize("NFKC", name).casefold()
    text = text.encode("utf-8", "backslashreplace").decode()
    if len(text) > NAME_LENGTH or not text.isprintable():
        return f"#{hashlib.blake2b(text.encode(), digest_size=16).hexdigest()}"
    return text


def client_of(options: LimitOptions, address: str) -> str:
    """What counts as one client: the address, or the network of `ipv4_prefix` or `ipv6_prefix`; "" = no address."""
    return _client(options, parsed(address))


def _client(options: LimitOptions, found: Address | None) -> str:
    if found is None:
        return ""
    prefix = options.ipv4_prefix if isinstance(found, IPv4Address) else options.ipv6_prefix
    return _network_of(found, prefix)


def _network_of(address: Address, prefix: int) -> str:
    """Its network of this prefix, as text. `ip_network` takes ten times as long."""
    host_bits = address.max_prefixlen - prefix
    if not host_bits:
        return str(address)
    return f"{type(address)(int(address) >> host_bits << host_bits)}/{prefix}"


def ban_names(options: LimitOptions, address: str) -> tuple[str, ...]:
    """The names by which a client with this address may be banned."""
    return _ban_names(options, parsed(address))


def _ban_names(options: LimitOptions, found: Address | None) -> tuple[str, ...]:
    if found is None:
        return ()
    own = options.ipv4_prefix if found.version == 4 else options.ipv6_prefix
    prefixes = BAN_PREFIXES[found.version]
    if own not in prefixes:
        prefixes = (*prefixes, own)
    return tuple([f"address:{_network_of(found, prefix)}" for prefix in prefixes])


@dataclass(slots=True)
class AuthSubject:
    """One of those whose failed logins are counted."""

    subject: Subject
    rate: Rate
    key: str
    tries: str

    @property
    def rule(self) -> str:
        """Its name for metrics and logs."""
        return f"auth_failures.per_{self.subject}"


class Plan:
    """Rules, with what is the same for all clients made once: the keys, up to whom they are for."""

    __slots__ = ("auth", "begin", "keys", "rates", "user_leases")

    def __init__(self, keys: LimitKeys, rules: Rules) -> None:
        self.keys = keys
        self.auth = rules.auth
        leases = [(rule, keys.lease(rule.name, rule.scope)) for rule in rules.at_once]
        self.begin = [each for each in leases if each[0].subject != "user"]
        self.user_leases = [each for each in leases if each[0].subject == "user"]
        self.rates: dict[Group, list[tuple[PerTime, str]]] = {}
        for rule in rules.per_time:
            key = keys.rate(rule.name, rule.scope, str(rule.rate))
            self.rates.setdefault(rule.group, []).append((rule, key))


class Terms:
    """A listener as one client sees it."""

    __slots__ = ("_own", "_plan", "auth", "bans", "client", "questions")

    def __init__(self, plan: Plan, listener: str, client: str, bans: tuple[str, ...]) -> None:
        self._plan = plan
        self._own: dict[str, str] = {"address": client, "listener": listener, "fleet": "all"}
        self.auth: AuthRules | None = plan.auth
        self.bans = bans
        self.client = client
        self.questions: dict[bool, Any] = {}  # what a session asks that begins, made once

    def begin(self) -> list[Bound]:
        """The leases of a session that begins."""
        own = self._own
        return [(rule, key + own[rule.subject]) for rule, key in self._plan.begin if own[rule.subject]]

    def spent(self, amounts: Mapping[Group, int], user: str, domain: str) -> list[Spent]:
        """The rules for these amounts, each with its key."""
        own, found = self._own, []
        for group, amount in amounts.items():
            for rule, key in self._plan.rates.get(group, ()):
                subject = rule.subject
                if subject in ("user", "domain"):
                    name = user if subject == "user" else domain
                    whose = named(name) if name else ""
                else:
                    whose = own[subject]
                if whose:
                    found.append((rule, key + whose, amount))
        return found

    def login(self, user: str) -> tuple[list[Bound], list[Spent]]:
        """What a user's login takes: one of his connections, and of their rate. Nothing, if he has no name."""
        if not user:
            return [], []
        name = named(user)
        rates = [each for each in self._plan.rates.get("connection_rate", ()) if each[0].subject == "user"]
        return (
            [(rule, key + name) for rule, key in self._plan.user_leases[:1]],
            [(rule, key + name, 1) for rule, key in rates[:1]],
        )

    def subjects(self, user: str) -> list[AuthSubject]:
        """Whose failures a guess of this user's password counts to: the pair, the address, the user."""
        if self.auth is None:
            return []
        name, client = named(user), self.client
        found = []
        counted: tuple[tuple[Subject, Rate | None, str], ...] = (
            ("pair", self.auth.per_pair, f"{client} {name}" if client else ""),
            ("address", self.auth.per_address, client),
            ("user", self.auth.per_user, name),
        )
        for subject, rate, text in counted:
            if rate is not None and text:
                keys, which = self._plan.keys, (f"per_{subject}", self.auth.scope, str(rate))
                found.append(AuthSubject(subject, rate, keys.auth(*which) + text, keys.tries(*which) + text))
        return found

    def known(self, user: str) -> str:
        """The key of the addresses where this user logged in."""
        return self._plan.keys.known(named(user))


class AllTerms:
    """Remembers the terms of clients that come again."""

    def __init__(self, options: LimitOptions) -> None:
        self._options = options
        self._keys = LimitKeys(options.store.prefix)
        self._plans: dict[int, Plan] = {}  # by the id of rules, which live as long as the options
        self._known: dict[tuple[str, str, bool], Terms | None] = {}

    def find(self, listener: str, address: str, trusted: bool) -> Terms | None:
        """None = the client is exempt."""
        asked = (listener, address, trusted)
        try:
            return self._known[asked]
        except KeyError:
            pass
        options = self._options
        found = parsed(address)
        rules = options.rules_of(listener, found, trusted)
        terms = None
        if rules is not None:
            plan = self._plans.get(id(rules))
            if plan is None:
                plan = self._plans[id(rules)] = Plan(self._keys, rules)
            terms = Terms(plan, listener, _client(options, found), _ban_names(options, found))
        if len(self._known) >= KEPT:
            self._known.clear()
        self._known[asked] = terms
        return terms
