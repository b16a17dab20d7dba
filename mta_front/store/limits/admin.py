"""Limits for people: who is banned or locked out, what is counted of whom, bans made and lifted.

An `Inspector` has a connection of its own, for a command or a request; it needs no hub. Whatever it lists comes in
pages: the keys are found by SCAN, which shows what was there all the time at least once, and never stops the store.
"""

from __future__ import annotations

import heapq
import re
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from ipaddress import ip_network
from typing import Any, Literal, get_args

from mta_front.store.errors import StoreDown, StoreRefused, StoreUnknown
from mta_front.store.keys import LimitKeys
from mta_front.store.limits.calls import Script
from mta_front.store.limits.items import Ban, Count, Item, Lockout, Page, used_of
from mta_front.store.limits.rules import Group, LimitOptions, Rules, parsed
from mta_front.store.limits.terms import BAN_PREFIXES, ban_names, client_of, named
from mta_front.store.topology import topology_of
from mta_front.store.wire import Command, Lost, ReplyError, Wire

TIMEOUT_S = 5.0  # for an answer
PAGE_S, TOP_S = 2.0, 8.0  # for all of a page, and of what must look at every key: the admin port gives nobody 10 s
SCANNED = 1000  # keys looked at in one step
SAME_END = 1000  # bans that may end in the same millisecond
BAN_MAX_S = 10 * 365 * 86_400
REASON_MAX_CHARS = 320

_LOOK, _BAN = Script("look"), Script("ban")

Banned = Literal["address", "user"]


class Inspector:
    """Connects at its first question. Every method raises StoreError when the store does not do it, and ValueError, in
    words for people, for what is no address, user, group or cursor.
    """

    def __init__(self, options: LimitOptions) -> None:
        self._options = options
        self._keys = LimitKeys(options.store.prefix)
        self._wire: Wire | None = None

    def close(self) -> None:
        """Close the connection."""
        if self._wire is not None:
            self._wire.close()
            self._wire = None

    # -- bans -----------------------------------------------------------------------------------------------------

    def ban(self, subject: Banned, key: str, reason: str, seconds: float) -> Ban:
        """Refuse an address, a network or a user from now on, for so many seconds."""
        name = self._ban_name(subject, key)
        if not 1 <= seconds <= BAN_MAX_S:
            raise ValueError(f"a ban must be for 1 to {BAN_MAX_S} seconds")
        if not reason.strip() or len(reason) > REASON_MAX_CHARS:
            raise ValueError(f"a ban must have a reason of 1 to {REASON_MAX_CHARS} characters")
        words = reason.encode("utf-8", "backslashreplace")
        command = ("EVAL", _BAN.text, 2, self._keys.bans, self._keys.reasons, name, int(seconds * 1000), words)
        began_ms, ends_ms = self._ask([command])[0]
        return Ban(subject, name.partition(":")[2], words.decode(), began_ms / 1000, ends_ms / 1000)

    def exempts(self, key: str) -> bool:
        """Whether no ban holds for an address, or anywhere in a network, since it is in `exempt`."""
        network = ip_network(key if "/" in key else parsed(key) or key, strict=False)
        return any(
            network.version == exempt.version and network.subnet_of(exempt)  # type: ignore[arg-type]
            for exempt in self._options.exempt
        )

    def unban(self, subject: Banned, key: str) -> bool:
        """Lift a ban; False when there was none."""
        name = self._ban_name(subject, key)
        now, ends_ms = self._ask([("TIME",), ("ZSCORE", self._keys.bans, name)])
        self._ask([("ZREM", self._keys.bans, name), ("HDEL", self._keys.reasons, name)])
        return ends_ms is not None and float(ends_ms) / 1000 > _seconds(now)

    def bans(self, cursor: str = "", count: int = 100) -> Page:
        """The bans there are, those first that end first."""
        since_ms, shown = _read_cursor(cursor)
        span = (since_ms, "+inf", "BYSCORE", "LIMIT", 0, count + SAME_END, "WITHSCORES")
        now, rows = self._ask([("TIME",), ("ZRANGE", self._keys.bans, *span)])
        found = [(int(end_ms), name.decode()) for name, end_ms in zip(rows[::2], rows[1::2], strict=True)]
        found = [each for each in found if each > (since_ms, shown)]
        bans = self._bans_of({name: end_ms for end_ms, name in found[:count]}, _seconds(now))
        return Page(tuple(bans), _cursor(*found[count - 1]) if len(found) > count else "")

    def _bans_of(self, ends_ms: Mapping[str, float], now: float) -> list[Ban]:
        """`ends_ms`: by name. Those that are over are left out."""
        names = [name for name, end_ms in ends_ms.items() if end_ms / 1000 > now]
        reasons = self._ask([("HMGET", self._keys.reasons, *names)])[0] if names else []
        bans = []
        for name, said in zip(names, reasons, strict=True):
            began_ms, _, reason = (said or b"0 ").decode("utf-8", "backslashreplace").partition(" ")
            subject, _, key = name.partition(":")
            bans.append(Ban(subject, key, reason, float(began_ms) / 1000, ends_ms[name] / 1000))
        return bans

    def _ban_name(self, subject: Banned, key: str) -> str:
        if subject == "user":
            if not key:
                raise ValueError("a user must have a name")
            return f"user:{named(key)}"
        if subject != "address":
            raise ValueError('a ban is of an "address" or a "user"')
        if "/" not in key:  # an address stands for its client; as /32 or /128, for itself
            client = client_of(self._options, key)
            if not client:
                raise ValueError(f"{key}: is no address")
            return f"address:{client}"
        try:
            network = ip_network(key)
        except ValueError as error:
            raise ValueError(str(error)) from None
        of_one_client = getattr(self._options, f"ipv{network.version}_prefix")
        allowed = sorted({*BAN_PREFIXES[network.version], of_one_client})
        if network.prefixlen not in allowed:
            raise ValueError(f"{key}: a network must be one of {', '.join(f'/{prefix}' for prefix in allowed)}")
        alone = network.prefixlen == network.max_prefixlen
        return f"address:{network.network_address if alone else network}"

    # -- what is counted ------------------------------------------------------------------------------------------

    def page(self, group: Group | Literal["bans", "lockouts"], cursor: str = "", count: int = 100) -> Page:
        """A page of what a group counts; bans and lock-outs are groups, too."""
        if group == "bans":
            return self.bans(cursor, count)
        pattern, items_of = self._found_by(group)
        at, shown = _read_cursor(cursor)
        items: list[Item] = []
        until = time.monotonic() + PAGE_S
        while True:
            after, keys = self._scan(at, pattern)
            keys = [key for key in keys if key > shown]
            while keys:
                room = count - len(items)
                part, keys = keys[:room], keys[room:]
                items += items_of(part)
                if keys and len(items) == count:
                    return Page(tuple(items), _cursor(at, part[-1]))
            at, shown = after, ""
            if not at or len(items) == count or time.monotonic() > until:
                return Page(tuple(items), _cursor(at) if at else "")

    def top(self, group: Group, count: int = 10) -> Sequence[Count]:
        """Who uses most of what the group counts. Looks at all there is, as far as that takes less than `TOP_S`."""
        if group not in get_args(Group):
            raise ValueError(f"{group}: no such group; there are {', '.join(get_args(Group))}")
        pattern, items_of = self._found_by(group)
        best: list[Any] = []
        at, until = 0, time.monotonic() + TOP_S
        while True:
            at, keys = self._scan(at, pattern)
            seen = {(each.rule, each.key, each.scope, each.limit): each for each in (*best, *items_of(keys))}
            best = heapq.nlargest(count, seen.values(), key=lambda each: each.used)
            if not at or time.monotonic() > until:
                return best

    def show(self, key: str) -> Sequence[Item]:
        """All that is counted of an address, a network that counts as one client or is banned, a user, a domain or a
        listener; bans that hold for it, first.
        """
        if not key:
            raise ValueError("must be an address, a network, a user, a domain or a listener")
        client = _network_text(key) or client_of(self._options, key)
        if parsed(key) is not None:
            names: tuple[str, ...] = ban_names(self._options, key)
        else:
            names = (f"address:{client}",) if client else (f"user:{named(key)}",)
        now, ends = self._ask([("TIME",), ("ZMSCORE", self._keys.bans, *names)])
        held = {name: float(end_ms) for name, end_ms in zip(names, ends, strict=True) if end_ms is not None}
        items: list[Item] = [*self._bans_of(held, _seconds(now))]
        leases, rates, auths = self._keys_of(client, "" if client else key)
        auths |= set(self._pairs_of(client, "" if client else named(key)))
        return [*items, *self._leases(leases), *self._rates(rates), *self._failures(auths), *self._lockouts(auths)]

    def _keys_of(self, client: str, name: str) -> tuple[set[str], set[str], set[str]]:
        """Where the rules that there are would count a client, or a name: leases, rates, failed logins."""
        keys, leases, rates, auths = self._keys, set[str](), set[str](), set[str]()
        subjects = {"address": client} if client else {"user": named(name), "domain": named(name), "listener": name}
        for rules in self._options.all_rules():
            leases |= {
                keys.lease(rule.name, rule.scope) + subjects[rule.subject]
                for rule in rules.at_once
                if rule.subject in subjects
            }
            rates |= {
                keys.rate(rule.name, rule.scope, str(rule.rate)) + subjects[rule.subject]
                for rule in rules.per_time
                if rule.subject in subjects
            }
            for subject in ("address", "user"):
                rate = getattr(rules.auth, f"per_{subject}", None)
                if rules.auth is not None and rate is not None and subject in subjects:
                    auths.add(keys.auth(f"per_{subject}", rules.auth.scope, str(rate)) + subjects[subject])
        return leases, rates, auths

    def _pairs_of(self, client: str, name: str) -> Iterable[str]:
        """Where failed logins are counted of pairs with this client or user: nobody knows with whom else."""
        at, until = 0, time.monotonic() + TOP_S
        while True:
            at, keys = self._scan(at, self._keys.pattern("auth", "per_pair:"))
            for key in keys:
                first, _, second = self._keys.parts(key, 5)[4].partition(" ")
                if client == first if client else name == second:
                    yield key
            if not at or time.monotonic() > until:
                return

    def _found_by(self, group: str) -> tuple[str, Callable[[Iterable[str]], list[Any]]]:
        """The pattern of the group's keys, and what makes items of them."""
        match group:
            case "lockouts":
                return self._keys.pattern("auth"), self._lockouts
            case "auth_failures":
                return self._keys.pattern("auth"), self._failures
            case "connections":
                return self._keys.pattern("lease", "connections."), self._leases
        if group not in get_args(Group):
            raise ValueError(f"{group}: no such group; there are bans, lockouts, {', '.join(get_args(Group))}")
        return self._keys.pattern("rate", f"{group}."), self._rates

    # -- items of keys --------------------------------------------------------------------------------------------

    def _leases(self, keys: Iterable[str]) -> list[Count]:
        names = sorted(keys)
        if not names:
            return []
        fixed = (self._keys.bans, self._keys.workers, self._keys.swept)
        held = self._ask([("EVAL", _LOOK.text, 3 + len(names), *fixed, *names)])[0]
        found = []
        for name, used in zip(names, held, strict=True):
            _, rule, scope, key = self._keys.parts(name, 4)
            if used:
                found.append(Count(rule, _who(rule, key), scope, used, self._lease_limit(rule, scope, key), 0.0))
        return found

    def _lease_limit(self, rule: str, scope: str, key: str) -> str:
        listener = scope or (key if rule.endswith(".per_listener") else "")
        address = key.partition("/")[0] if rule.endswith(".per_address") else ""
        rules = self._options.rules_for(listener, address) or Rules()
        return next((str(each.limit) for each in rules.at_once if each.name == rule), "")

    def _rates(self, keys: Iterable[str]) -> list[Count]:
        names = sorted(keys)
        if not names:
            return []
        now, arrivals = self._ask([("TIME",), ("MGET", *names)])
        found = []
        for name, arrival_us in zip(names, arrivals, strict=True):
            _, rule, scope, rate, key = self._keys.parts(name, 5)
            if arrival_us is not None:
                found += used_of(rule, _who(rule, key), scope, rate, float(arrival_us), _seconds(now))
        return found

    def _failures(self, keys: Iterable[str]) -> list[Count]:
        now, states = self._auth_states(keys)
        found = []
        for name, (arrival_us, _, _) in states.items():
            _, subject, scope, rate, key = self._keys.parts(name, 5)
            found += used_of(f"auth_failures.{subject}", key, scope, rate, arrival_us, now)
        return found

    def _lockouts(self, keys: Iterable[str]) -> list[Lockout]:
        now, states = self._auth_states(keys)
        found = []
        for name, (_, locked_us, stage) in states.items():
            _, subject, _, _, key = self._keys.parts(name, 5)
            if locked_us / 1e6 > now:
                found.append(Lockout(subject.removeprefix("per_"), key, int(stage), locked_us / 1e6))
        return found

    def _auth_states(self, keys: Iterable[str]) -> tuple[float, dict[str, tuple[float, float, float]]]:
        """The time, and of each key: `tat` and `locked` (µs), `stage`."""
        names = sorted(keys)
        if not names:
            return 0.0, {}
        now, *rows = self._ask([("TIME",), *(("HMGET", name, "tat", "locked", "stage") for name in names)])
        states = {}
        for name, row in zip(names, rows, strict=True):
            arrival_us, locked_us, stage = (float(value or 0) for value in row)
            states[name] = arrival_us, locked_us, stage
        return _seconds(now), states

    # -- the connection -------------------------------------------------------------------------------------------

    def _scan(self, at: int, pattern: str) -> tuple[int, list[str]]:
        after, keys = self._ask([("SCAN", at, "MATCH", pattern, "COUNT", SCANNED)])[0]
        return int(after), sorted({key.decode("utf-8", "backslashreplace") for key in keys})

    def _ask(self, commands: Sequence[Command]) -> list[Any]:
        deadline = time.monotonic() + TIMEOUT_S
        if self._wire is None:
            try:
                self._wire = topology_of(self._options.store).connect("limits", deadline)
            except Lost as lost:
                raise StoreDown(lost.reason) from None
        try:
            replies = self._wire.ask(commands, deadline)
        except Lost as lost:
            self.close()
            raise StoreUnknown(lost.reason) from None
        for reply in replies:
            if isinstance(reply, ReplyError):
                raise StoreRefused(reply.text)
        return replies


def _who(rule: str, key: str) -> str:
    """Whom it is counted for; the fleet's has no name."""
    return "" if rule.endswith(".fleet") else key


def _seconds(now: Sequence[bytes]) -> float:
    """A reply to TIME."""
    return int(now[0]) + int(now[1]) / 1e6


def _cursor(at: int, shown: str = "") -> str:
    """Where a listing goes on: SCAN's cursor, or when a ban ends, and the last name of those there that was shown."""
    return f"{at}.{urlsafe_b64encode(shown.encode()).decode()}"


def _read_cursor(text: str) -> tuple[int, str]:
    found = re.fullmatch(r"([0-9]{1,20})\.([A-Za-z0-9_=-]*)", text or "0.")
    try:
        if found is None or int(found[1]) >= 1 << 64:
            raise ValueError
        return int(found[1]), urlsafe_b64decode(found[2]).decode()
    except ValueError:
        raise ValueError("that is no cursor of ours") from None


def _network_text(text: str) -> str:
    """The network that is meant, in its usual form; "" if it is none."""
    if "/" not in text:
        return ""
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        return ""
    return str(network)
