"""The limits as a worker has them: one object in a process, asked by every session."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import gevent

from mta_front.observe.events import NOBODY, Events
from mta_front.store.client import Call, Link
from mta_front.store.errors import StoreError
from mta_front.store.keys import LimitKeys
from mta_front.store.limits import calls
from mta_front.store.limits.alone import Alone
from mta_front.store.limits.breaker import Breaker
from mta_front.store.limits.calls import Guess, Question
from mta_front.store.limits.life import Life
from mta_front.store.limits.local import Holds
from mta_front.store.limits.rules import AuthRules, Group, LimitOptions
from mta_front.store.limits.terms import AllTerms, AuthSubject, Terms, named
from mta_front.store.limits.verdict import AuthVerdict, Verdict, Who

TURN_FIRST_S, TURN_LAST_S, TURN_MAX_S = 0.02, 0.5, 10.0  # how a guess waits for those before it
BUSY_RETRY_S = 1.0
BUSY_AGE_S = 0.005  # reading how busy this thread was costs a system call, so one reading serves so long

_chance = random.Random().random  # noqa: S311  # no secret

_CONNECTION: tuple[dict[Group, int], dict[Group, int]] = (
    {"connection_rate": 1},
    {"connection_rate": 1, "handshakes": 1},
)


class Limits:
    """Asks the store, in one round trip for each question, shared by all greenlets that ask in one turn of the loop.

    No method raises a store's error, and none waits longer than `timeout_ms` for it: while the store is away, each rule
    does what its `store_down` says. A greenlet may be killed while it waits in here; `closed` then gives back what it
    held.
    """

    def __init__(self, options: LimitOptions, events: Events = NOBODY) -> None:
        self._events = events
        self._all_terms = AllTerms(options)
        self._keys = keys = LimitKeys(options.store.prefix)
        self._holds = Holds()
        self._alone = Alone(self._holds)
        self._slow_s = options.slow_ms / 1000
        self._breaker = Breaker(self._slow_s)
        self._busy_at = self._busy_s = 0.0  # when this thread's CPU time was read last, and what it was
        self._nothing = Question(keys, (), (), ())
        self._guesses: dict[str, Guess] = {}  # of sessions that wait for their backend
        self._lone_guesses: dict[str, Sequence[AuthSubject]] = {}  # those of which the store knows nothing: who counts
        self._users: dict[str, tuple[str, ...]] = {}  # session -> the lease of its user
        store = replace(options.store, timeout_ms=options.timeout_ms)
        self._link = Link(store, "limits", _Ear(self), tag="limits", scripts=calls.TEXTS)
        self._life = Life(self._link, keys, options.lease_s, self._breaker, self._holds, self._alone, events)
        self.active: frozenset[Group] = frozenset().union(*(rules.groups for rules in options.all_rules()))

    @property
    def mode(self) -> str:
        """`shared`, or `degraded`: each limit does what its `store_down` says."""
        return self._life.mode

    @property
    def ready(self) -> bool:
        """The store has answered, and knows of this worker."""
        return self._life.begun

    def start(self) -> None:
        """Connect in the background."""
        self._link.start()
        self._life.start()

    def close(self) -> None:
        """Give everything back that this worker holds, and close the connection."""
        self._life.close()
        self._link.close()

    # -- connections ----------------------------------------------------------------------------------------------

    def connected(self, who: Who, handshake: bool = False) -> Verdict:
        """A session begins: bans, connections at once, their rate; with `handshake` also one of these. Refused: nothing
        is held.
        """
        terms = self._all_terms.find(who.listener, who.address, who.trusted)
        if terms is None:
            return Verdict(True)
        question = terms.questions.get(handshake)
        if question is None:
            rates = terms.spent(_CONNECTION[handshake], "", "")
            question = terms.questions[handshake] = Question(self._keys, terms.bans, terms.begin(), rates)
        self._holds.add(who.session, question.lease_keys)
        return self._decide(question, who.session, ("connections",))

    def closed(self, who: Who) -> None:
        """A session ended: what it holds is given back. Does not wait; may be called more than once, or in vain."""
        session = who.session
        leases = self._holds.remove(session)
        if leases:
            self._life.free(session, leases)
        if self._users:
            self._users.pop(session, None)
        if session in self._guesses:
            self.authenticated(who, "", None)

    # -- per time -------------------------------------------------------------------------------------------------

    def spend(self, who: Who, group: Group, amount: int = 1, domain: str = "") -> Verdict:
        """So many of the group for the address, the user, the domain, the listener and the fleet: all, or none."""
        return self.spend_all(who, {group: amount}, domain)

    def spend_all(self, who: Who, amounts: Mapping[Group, int], domain: str = "") -> Verdict:
        """As `spend`, for several groups in one question: all of all groups, or nothing."""
        question = self._spent(who, amounts, domain)
        if question is None:
            return Verdict(True)
        return self._decide(question, who.session, tuple(amounts))

    def charge(self, who: Who, group: Group, amount: int, domain: str = "", ago_s: float = 0.0) -> None:
        """Count what happened already: refuses nobody, does not wait. Less than 0: given back, of what was spent so
        long ago. What has come back by itself since is not given back twice: else whoever declares much and waits
        would save up more than a burst.
        """
        question = self._spent(who, {group: amount}, domain, charged=True, ago_s=ago_s)
        if question is None or not amount:
            return
        if self._breaker.open:
            self._alone.charge(question, time.monotonic())
        else:
            self._post(question.call(self._life.number, who.session))

    def _spent(
        self, who: Who, amounts: Mapping[Group, int], domain: str, *, charged: bool = False, ago_s: float = 0.0
    ) -> Question | None:
        terms = self._all_terms.find(who.listener, who.address, who.trusted)
        if terms is None:
            return None
        rates = terms.spent(amounts, who.user, domain)
        if not rates:
            return None
        if ago_s:
            rates = [(rule, key, min(amount + rule.rate.within(ago_s), max(0, amount))) for rule, key, amount in rates]
        bans = (*terms.bans, f"user:{named(who.user)}") if who.user else terms.bans
        return Question(self._keys, () if charged else bans, (), rates, charged=charged)

    # -- logins ---------------------------------------------------------------------------------------------------

    def authenticating(self, who: Who, name: str) -> AuthVerdict:
        """Before the backend is asked about `name`. May wait its turn behind other guesses. Allowed: `authenticated`
        must follow, within a minute.
        """
        terms = self._all_terms.find(who.listener, who.address, who.trusted)
        if terms is None:
            return AuthVerdict(True)
        guess = Guess(self._keys, terms, name, f"user:{named(name)}", f"{self._life.number}/{who.session}")
        self._guesses[who.session] = guess
        verdict = self._may_guess(terms, guess, who.session)
        if not verdict.allowed:
            self._guesses.pop(who.session, None)
            self._lone_guesses.pop(who.session, None)
        decision = "refused" if not verdict.allowed else "delayed" if verdict.delay_s else "allowed"
        self._events.limit_decided(verdict.rule or "auth_failures", decision, verdict.mode)
        return verdict

    def _may_guess(self, terms: Terms, guess: Guess, session: str) -> AuthVerdict:
        until = time.monotonic() + TURN_MAX_S
        pause_s = TURN_FIRST_S
        while True:
            reply = self._ask(guess.ask(time.time()))
            if reply is None:
                now = time.monotonic()
                judged = self._lone_guesses[session] = self._alone.judged_by(guess.subjects)
                if self._alone.banned((*terms.bans, guess.user_ban), now):
                    return AuthVerdict(False, "ban", BUSY_RETRY_S, "local")
                return self._alone.may_guess(terms.auth or AuthRules(), judged, now)
            number, wait_ms = reply
            if number == 0:
                if not wait_ms:
                    return AuthVerdict(True)
                delay_s = terms.auth.tarpit_s[1] if terms.auth is not None else 0.0
                return AuthVerdict(True, "auth_failures.per_user", delay_s=delay_s)
            if number == -1:
                return AuthVerdict(False, "ban")
            rule = guess.subjects[number - 1].rule
            if wait_ms >= 0:
                return AuthVerdict(False, rule, wait_ms / 1000)
            if time.monotonic() > until:
                return AuthVerdict(False, rule, BUSY_RETRY_S)
            gevent.sleep(pause_s * (0.5 + _chance()))
            pause_s = min(TURN_LAST_S, pause_s * 1.5)

    def authenticated(self, who: Who, name: str, good: bool | None) -> AuthVerdict:
        """What the backend said; None: nothing, and nothing is counted. `name`: who it is, in the backend's words.

        Good: the session holds a connection of that user from now on, in place of the one of a login before, and may
        be refused for want of one. Bad: never allowed, and `delay_s` says how late to answer.
        """
        session = who.session
        terms = self._all_terms.find(who.listener, who.address, who.trusted)
        guess = self._guesses.pop(session, None)
        if terms is None:
            return AuthVerdict(bool(good))
        alone = self._lone_guesses.pop(session, None)
        if guess is None:  # nobody asked whether he may (a login by certificate or XCLIENT): he takes his connection
            guess = Guess(self._keys, terms, name, "", f"{self._life.number}/{session}")
        if good is None:
            if alone is not None:
                rules = terms.auth or AuthRules()
                self._alone.guessed(rules, alone, None, time.monotonic(), asked_here=True)
            elif not self._breaker.open:
                self._post(guess.told(time.time(), None, self._nothing, self._life.number, session))
            return AuthVerdict(False)
        return self._told(terms, guess, who, name, good, alone)

    def _told(
        self, terms: Terms, guess: Guess, who: Who, name: str, good: bool, alone: Sequence[AuthSubject] | None
    ) -> AuthVerdict:
        session, life = who.session, self._life.number
        rules = terms.auth or AuthRules()
        wanted = Question(self._keys, (), *terms.login(name)) if good else self._nothing
        keys = wanted.lease_keys
        if good:
            self._leave_user(session)
            self._holds.add(session, keys)
            self._users[session] = keys
        reply = self._ask(guess.told(time.time(), good, wanted, life, session))
        now = time.monotonic()
        if reply is None or alone is not None:
            judged = self._alone.judged_by(guess.subjects) if alone is None else alone
            verdict = self._alone.guessed(rules, judged, good, now, asked_here=alone is not None)
        if good:
            self._alone.logged_in(guess.subjects)
        if reply is None:
            if good:
                had = self._alone.decide(wanted, now)
                verdict = AuthVerdict(had.allowed, had.rule, had.retry_after_s, had.mode)
        elif not good:
            first_s, last_s = rules.tarpit_s
            failures = int(reply[1])
            delay_s = min(last_s, first_s * 2.0 ** min(30, max(0, failures - 1)))
            verdict = AuthVerdict(False, delay_s=delay_s)
        else:
            number, wait_ms = reply
            rule = "" if not number else wanted.leases[0][0].name if number == 1 else wanted.rates[0][0].name
            verdict = AuthVerdict(not number, rule, wait_ms / 1000 if number else 0.0)
        if good:
            self._settle(session, keys, verdict, life, in_store=reply is not None)
            if not verdict.allowed:
                self._users.pop(session, None)
                self._events.limit_decided(verdict.rule, "refused", verdict.mode)
        return verdict

    def _leave_user(self, session: str) -> None:
        """The login before this one is forgotten (STARTTLS, XCLIENT): its connection too."""
        before = self._users.pop(session, ())
        if before:
            self._life.free(session, self._holds.remove(session, before))

    # -- asking ---------------------------------------------------------------------------------------------------

    def _decide(self, question: Question, session: str, groups: tuple[Group, ...]) -> Verdict:
        life = self._life.number
        reply = self._ask(question.call(life, session))
        if reply == 0:
            verdict = Verdict(True)
        elif reply is None:
            verdict = self._alone.decide(question, time.monotonic())
        else:
            verdict = Verdict(False, question.rule(reply[0]), reply[1] / 1000)
        if question.lease_keys:
            self._settle(session, question.lease_keys, verdict, life, in_store=reply is not None)
        if verdict.allowed:
            for group in groups:
                self._events.limit_decided(group, "allowed", verdict.mode)
        else:
            self._events.limit_decided(verdict.rule, "refused", verdict.mode)
        return verdict

    def _settle(self, session: str, leases: tuple[str, ...], verdict: Verdict, life: str, *, in_store: bool) -> None:
        """What was held in advance is held, or not."""
        if verdict.allowed:
            if not in_store:
                self._life.remember(session)
            return
        self._holds.remove(session, leases)
        if life != self._life.number:  # the new life may have been told of it meanwhile
            self._life.free(session, leases)

    def _ask(self, call: Call) -> Any:
        """The reply; None: the store is away, or was asked in vain."""
        breaker, life, link = self._breaker, self._life, self._link
        began = time.monotonic()
        if not breaker.closed and not breaker.admits(began, _chance()):
            return None
        life.flush()
        if began - self._busy_at > BUSY_AGE_S:
            self._busy_at, self._busy_s = began, time.thread_time()
        busy_s = self._busy_s
        try:
            link.post(call)
            reply = link.wait(call)
        except StoreError as error:
            life.failed(error.reason)
            return None
        now = time.monotonic()
        took_s = now - began
        if took_s > self._slow_s:  # what this worker did itself meanwhile does not make the store slow
            took_s -= time.thread_time() - busy_s
        if breaker.heard(now, took_s, id(call.gate)):
            life.degraded("slow")
        if reply == calls.TOO_LATE:
            link.distrust_clock()
            return None
        return reply

    def _post(self, call: Call) -> None:
        """Send it; nobody waits for it."""
        try:
            self._link.post(call)
        except StoreError as error:
            self._life.failed(error.reason)

    def _heard_of_link(self, up: bool, reason: str) -> None:
        """A connection that was lost may have led to another store, or to one that has forgotten."""
        if not up:
            self._life.failed(reason)


class _Ear(Events):
    """Hears of the connection, and passes it on."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits

    def store_state(self, purpose: str, up: bool, reason: str) -> None:
        """Pass it on."""
        self._limits._events.store_state(purpose, up, reason)
        self._limits._heard_of_link(up, reason)

    def fault(self, error: BaseException, where: str) -> None:
        """Pass it on."""
        self._limits._events.fault(error, where)
