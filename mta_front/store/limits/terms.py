"""Which keys and limits a session's question comes to. Pure text, made once for each listener and address."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_network
from typing import Any

from mta_front.store.keys import LimitKeys
from mta_front.store.limits.rules import AtOnce, AuthRules, Group, LimitOptions, PerTime, Rate, Rules, Subject, parsed

BAN_PREFIXES = {4: (8, 16, 24, 32), 6: (32, 48, 56, 64, 128)}  # networks that may be banned
NAME_LENGTH = 100  # of a user or a domain in a key; a longer one is known by its digest
KEPT = 10_000  # kept; then all are made anew

Bound = tuple[AtOnce, str]  # a rule, and the key where it is counted for this session
Spent = tuple[PerTime, str, int]  # and how much of it


def named(name: str) -> str:
    """A user's or a domain's name as part of a key: in one case and form, bounded, printable."""
    text = unicodedata.normalize("NFKC", name).casefold()
    text = text.encode("utf-8", "backslashreplace").decode()
    if len(text) > NAME_LENGTH or not text.isprintable():
        return f"#{hashlib.blake2b(text.encode(), digest_size=16).hexdigest()}"
    return text


def client_of(options: LimitOptions, address: str) -> str:
    """What counts as one client: the address, or the network of `ipv4_prefix` or `ipv6_prefix`; "" = no address."""
    found = parsed(address)
    if found is None:
        return ""
    prefix = options.ipv4_prefix if isinstance(found, IPv4Address) else options.ipv6_prefix
    if prefix == found.max_prefixlen:
        return str(found)
    return str(ip_network((found, prefix), strict=False))


def ban_names(options: LimitOptions, address: str) -> tuple[str, ...]:
    """The names by which a client with this address may be banned."""
    found = parsed(address)
    if found is None:
        return ()
    names = {client_of(options, address)}
    for prefix in BAN_PREFIXES[found.version]:
        names.add(str(found) if prefix == found.max_prefixlen else str(ip_network((found, prefix), strict=False)))
    return tuple(f"address:{name}" for name in sorted(names))


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


class Terms:
    """A listener as one client sees it: its rules, with what is the same for all sessions made once."""

    __slots__ = ("_keys", "auth", "bans", "begin", "client", "questions", "rates", "user_leases")

    def __init__(self, keys: LimitKeys, rules: Rules, listener: str, client: str, bans: tuple[str, ...]) -> None:
        self._keys = keys
        self.auth: AuthRules | None = rules.auth
        self.bans = bans
        self.client = client
        self.questions: dict[bool, Any] = {}  # what a session asks that begins, made once
        own = {"address": client, "listener": listener, "fleet": "all"}
        self.begin: list[Bound] = []  # the leases of a session that begins
        self.user_leases: list[AtOnce] = []
        self.rates: dict[Group, list[tuple[PerTime, str, str]]] = {}  # rule, the key, and what it still lacks
        for lease in rules.at_once:
            if lease.subject == "user":
                self.user_leases.append(lease)
            elif own[lease.subject]:
                self.begin.append((lease, keys.lease(lease.name, lease.scope) + own[lease.subject]))
        for rule in rules.per_time:
            key = keys.rate(rule.name, rule.scope, str(rule.rate))
            if rule.subject in ("user", "domain"):
                self.rates.setdefault(rule.group, []).append((rule, key, rule.subject))
            elif own[rule.subject]:
                self.rates.setdefault(rule.group, []).append((rule, key + own[rule.subject], ""))

    def spent(self, amounts: Mapping[Group, int], user: str, domain: str) -> list[Spent]:
        """The rules for these amounts, each with its key."""
        found = []
        for group, amount in amounts.items():
            for rule, key, lacks in self.rates.get(group, ()):
                if not lacks:
                    found.append((rule, key, amount))
                elif name := user if lacks == "user" else domain:
                    found.append((rule, key + named(name), amount))
        return found

    def user_lease(self, user: str) -> list[Bound]:
        """The rule for connections of a user, if there is one, and its key."""
        return [(rule, self._keys.lease(rule.name, rule.scope) + named(user)) for rule in self.user_leases[:1]]

    def subjects(self, user: str) -> list[AuthSubject]:
        """Whose failures a guess of this user's password counts to: the pair, the address, the user."""
        if self.auth is None:
            return []
        name, client = named(user), self.client
        found = []
        for subject, rate, text in (
            ("pair", self.auth.per_pair, f"{client} {name}" if client else ""),
            ("address", self.auth.per_address, client),
            ("user", self.auth.per_user, name),
        ):
            if rate is not None and text:
                which = f"per_{subject}", self.auth.scope, str(rate)
                found.append(
                    AuthSubject(subject, rate, self._keys.auth(*which) + text, self._keys.tries(*which) + text)  # type: ignore[arg-type]
                )
        return found

    def known(self, user: str) -> str:
        """The key of the addresses where this user logged in."""
        return self._keys.known(named(user))


class AllTerms:
    """Remembers the terms of clients that come again."""

    def __init__(self, options: LimitOptions) -> None:
        self._options = options
        self._keys = LimitKeys(options.store.prefix)
        self._known: dict[tuple[str, str, bool], Terms | None] = {}

    def find(self, listener: str, address: str, trusted: bool) -> Terms | None:
        """None = the client is exempt."""
        asked = (listener, address, trusted)
        try:
            return self._known[asked]
        except KeyError:
            pass
        options = self._options
        rules = options.rules_for(listener, address, trusted=trusted)
        terms = None
        if rules is not None:
            terms = Terms(self._keys, rules, listener, client_of(options, address), ban_names(options, address))
        if len(self._known) >= KEPT:
            self._known.clear()
        self._known[asked] = terms
        return terms
