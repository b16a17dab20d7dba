"""The scripts of limits as typed calls. Each file in ../lua begins with its keys, its arguments and its replies."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mta_front.store.batch import Call
from mta_front.store.keys import LimitKeys
from mta_front.store.limits.rules import AuthRules
from mta_front.store.limits.terms import AuthSubject, Bound, Spent, Terms

TOO_LATE = -1
LEASE_KEY_MS = 3 * 3_600_000  # how long a lease's key stays when nobody writes to it; what is held is written each hour
TRY_MS = 60_000  # a guess whose end nobody told counts so long
DAY_MS = 86_400_000
CLEAN_LOCKOUTS = 24  # an address that failed is not clean for so many of the longest lock-out: a day by default
_LUA = Path(__file__).parent.parent / "lua"
_SWEEP = (_LUA / "limits_sweep.lua").read_text("utf-8")


class Script:
    """One Lua file, with the part that some of them share."""

    __slots__ = ("sha", "text")

    def __init__(self, name: str) -> None:
        self.text = (_LUA / f"limits_{name}.lua").read_text("utf-8").replace("--<limits_sweep>\n", _SWEEP)
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()

    def head(self, keys: Sequence[str]) -> list[Any]:
        """The words of the call up to its arguments."""
        return ["EVALSHA", self.sha, len(keys), *keys]


_CHECK, _LIVE, _LEAVE, _HOLD, _FREE = (Script(name) for name in ("check", "live", "leave", "hold", "free"))
_AUTH_ASK, _AUTH_TOLD = Script("auth_ask"), Script("auth_told")
TEXTS = [script.text for script in (_CHECK, _LIVE, _LEAVE, _HOLD, _FREE, _AUTH_ASK, _AUTH_TOLD)]


class Question:
    """What one step of a session needs: leases and rates, all of them or nothing."""

    __slots__ = ("_head", "_tail", "bans", "lease_keys", "leases", "rates")

    def __init__(
        self,
        keys: LimitKeys,
        bans: Sequence[str],
        leases: Sequence[Bound],
        rates: Sequence[Spent],
        *,
        charged: bool = False,
    ) -> None:
        """`charged`: counted, whatever there is, and never refused."""
        self.bans = bans
        self.leases = leases
        self.lease_keys = tuple(key for _, key in leases)
        self.rates = rates
        named = [keys.bans, keys.workers, keys.swept, *self.lease_keys, *(key for _, key, _ in rates)]
        self._head = _CHECK.head(named)
        self._tail: list[Any] = [LEASE_KEY_MS, len(bans), len(leases), *bans, *(rule.limit for rule, _ in leases)]
        for rule, _, amount in rates:
            self._tail += (rule.rate.cost_us(amount), -1 if charged else rule.rate.room_us)

    def call(self, life: str, session: str) -> Call:
        """Reply: 0 taken, TOO_LATE, [0, 0] a ban, or [n, ms]: the n-th rule, leases first, and when to come again."""
        head = self._head
        return Call([*head, 0, life, f"{life}/{session}", *self._tail], late=len(head))

    def rule(self, number: int) -> str:
        """The name of the n-th rule."""
        if number == 0:
            return "ban"
        if number <= len(self.leases):
            return self.leases[number - 1][0].name
        return self.rates[number - len(self.leases) - 1][0].name


def live(keys: LimitKeys, life: str, lease_ms: int, ends: str = "") -> Call:
    """Reply: [was known, how many live, now in ms, the bans' names and ends in ms…], or TOO_LATE."""
    head = _LIVE.head([keys.workers, keys.swept, keys.bans, keys.reasons])
    return Call([*head, 0, life, lease_ms, ends], late=len(head))


def leave(keys: LimitKeys, life: str) -> Call:
    """Reply: 1, or 0 when nobody knew of it."""
    return Call([*_LEAVE.head([keys.workers, keys.swept]), life])


def hold(life: str, held: Sequence[tuple[str, str]]) -> Call:
    """`held`: leases and sessions. Reply: how many were new, or TOO_LATE."""
    head = _HOLD.head([lease for lease, _ in held])
    return Call([*head, 0, life, LEASE_KEY_MS, *(session for _, session in held)], late=len(head))


def free(members: Mapping[str, Sequence[str]], then: Callable[[Call], None]) -> Call:
    """`members`: of each lease, LIFE/SESSION. Reply: how many were held."""
    args = _FREE.head(list(members))
    for each in members.values():
        args += (len(each), *each)
    return Call(args, then=then)


class Guess:
    """An attempt to log in: what is asked before the backend is, and what is told after."""

    __slots__ = ("_keys", "_known", "_known_days", "_terms", "id", "lockout_s", "subjects", "user_ban")

    def __init__(self, keys: LimitKeys, terms: Terms, name: str, user_ban: str, guess: str) -> None:
        self._keys = keys
        self._terms = terms
        self._known = terms.known(name)
        rules = terms.auth or AuthRules()
        self._known_days = rules.known_address_days if terms.auth is not None and terms.client else 0
        self.lockout_s = rules.lockout_s
        self.subjects: list[AuthSubject] = terms.subjects(name)
        self.user_ban = user_ban
        self.id = guess

    def ask(self, now_s: float) -> Call:
        """`now_s`: Unix time. Reply: as in limits_auth_ask.lua."""
        head = _AUTH_ASK.head([self._keys.bans, self._known, *self._subject_keys()])
        bans = [*self._terms.bans, self.user_ban]
        since = self._known_since_ms(now_s)
        tail = [self.id, TRY_MS, since, self._terms.client, len(bans), *bans, *self._subject_words()]
        return Call([*head, 0, *tail], late=len(head))

    def told(self, now_s: float, good: bool | None, wanted: Question, life: str, session: str) -> Call:
        """`wanted`: of the user, one lease and one rate at most. Reply: [0, failures so far], [1, 0] when no connection
        of his is left, [2, ms] when there were too many in a time, or TOO_LATE.
        """
        leases, rates = wanted.leases, wanted.rates
        named = [self._known, self._keys.workers, self._keys.swept, *wanted.lease_keys, *(key for _, key, _ in rates)]
        head = _AUTH_TOLD.head([*named, *self._subject_keys()])
        lockouts_us = [int(length_s * 1_000_000) for length_s in self.lockout_s]
        tail = [
            self.id,
            -1 if good is None else int(good),
            self._terms.client,
            self._known_since_ms(now_s),
            self._known_days * DAY_MS,
            len(leases),
            leases[0][0].limit if leases else 0,
            life,
            f"{life}/{session}",
            LEASE_KEY_MS,
            len(rates),
            *((rates[0][0].rate.cost_us(), rates[0][0].rate.room_us) if rates else (0, 0)),
            lockouts_us[-1] * CLEAN_LOCKOUTS if lockouts_us else DAY_MS * 1000,
            len(lockouts_us),
            *lockouts_us,
            *self._subject_words(),
        ]
        return Call([*head, 0, *tail], late=len(head))

    def _known_since_ms(self, now_s: float) -> int:
        """A day more or less does not matter, so this is our own clock. Without known addresses: never."""
        now_ms = int(now_s * 1000)
        return now_ms - self._known_days * DAY_MS if self._known_days else 1 << 52

    def _subject_keys(self) -> list[str]:
        return [key for subject in self.subjects for key in (subject.key, subject.tries)]

    def _subject_words(self) -> list[Any]:
        words: list[Any] = []
        for subject in self.subjects:
            words += (subject.subject[0], subject.rate.cost_us(), subject.rate.room_us)
        return words
