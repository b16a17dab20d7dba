"""What a worker decides by itself while the store is away: each rule does what its `store_down` says."""

from __future__ import annotations

from collections.abc import Sequence

from mta_front.store.limits.calls import Question
from mta_front.store.limits.local import Holds, LocalCounts
from mta_front.store.limits.rules import AuthRules, Mode
from mta_front.store.limits.terms import AuthSubject
from mta_front.store.limits.verdict import AuthVerdict, Verdict

CLOSED_RETRY_S = 30.0  # nobody knows when the store is back
KNOWN = 10_000  # pairs of a user and an address that logged in at this worker, which it remembers


class Alone:
    """Of one worker. `now`: seconds of one clock that never goes back."""

    __slots__ = ("_counts", "_holds", "_known", "bans", "fleet")

    def __init__(self, holds: Holds) -> None:
        self._holds = holds
        self._counts = LocalCounts()
        self._known: dict[str, None] = {}
        self.fleet = 1  # workers, as last seen
        self.bans: dict[str, float] = {}  # who is banned -> until when, as last seen

    def decide(self, question: Question, now: float) -> Verdict:
        """All of what is asked, or nothing. The session that asks already holds its leases (`Holds`)."""
        if self.banned(question.bans, now):
            return Verdict(False, "ban", CLOSED_RETRY_S, "local")
        mode: Mode = "open"
        for lease, key in question.leases:
            if lease.store_down == "closed":
                return Verdict(False, lease.name, CLOSED_RETRY_S, "closed")
            if lease.store_down == "local":
                mode = "local"
                if self._holds.count(key) > -(-lease.limit // self.fleet):
                    return Verdict(False, lease.name, 0.0, "local")
        spent = []
        for rule, key, amount in question.rates:
            if rule.store_down == "closed":
                return Verdict(False, rule.name, CLOSED_RETRY_S, "closed")
            if rule.store_down == "local":
                mode = "local"
                share = rule.rate.share(self.fleet)
                wait_s = self._counts.wait_s(key, share, amount, now)
                if wait_s:
                    return Verdict(False, rule.name, wait_s, "local")
                spent.append((key, share, amount))
        self._counts.take(spent, now)
        return Verdict(True, mode=mode)

    def charge(self, question: Question, now: float) -> None:
        """Count, whatever there is."""
        shares = [(key, rule.rate.share(self.fleet), amount) for rule, key, amount in question.rates]
        self._counts.take(shares, now)

    def judged_by(self, subjects: Sequence[AuthSubject]) -> Sequence[AuthSubject]:
        """Those of a guess that count: at an address where the user logged in before, the pair alone."""
        return subjects[:1] if subjects and subjects[0].key in self._known else subjects

    def may_guess(self, rules: AuthRules, subjects: Sequence[AuthSubject], now: float) -> AuthVerdict:
        """A worker alone counts a guess when it is asked, and takes it back when it was good."""
        if rules.store_down == "closed":
            return AuthVerdict(False, "auth_failures", CLOSED_RETRY_S, "closed")
        if rules.store_down == "open":
            return AuthVerdict(True, mode="open")
        shares = [(each, each.rate.share(self.fleet)) for each in subjects]
        for each, share in shares:
            wait_s = self._counts.wait_s(each.key, share, 1, now)
            if wait_s:
                return AuthVerdict(False, each.rule, wait_s, "local")
        self._counts.take([(each.key, share, 1) for each, share in shares], now)
        return AuthVerdict(True, mode="local")

    def guessed(
        self, rules: AuthRules, subjects: Sequence[AuthSubject], good: bool | None, now: float, *, asked_here: bool
    ) -> AuthVerdict:
        """What the backend said of a guess. `asked_here`: `may_guess` counted it for these subjects, as a failure."""
        if rules.store_down != "local":
            return AuthVerdict(bool(good), mode=rules.store_down, delay_s=0.0 if good else rules.tarpit_s[0])
        failed = good is False
        if failed != asked_here:
            amount = 1 if failed else -1
            self._counts.take([(each.key, each.rate.share(self.fleet), amount) for each in subjects], now)
        return AuthVerdict(bool(good), mode="local", delay_s=rules.tarpit_s[0] if failed else 0.0)

    def logged_in(self, subjects: Sequence[AuthSubject]) -> None:
        """The user is known at his address from now on, also when the store is away."""
        if subjects and subjects[0].subject == "pair":
            self._known.pop(subjects[0].key, None)
            self._known[subjects[0].key] = None
            self._counts.clear(subjects[0].key)
            if len(self._known) > KNOWN:
                del self._known[next(iter(self._known))]

    def banned(self, names: Sequence[str], now: float) -> bool:
        """Whether one of them is."""
        return bool(self.bans) and any(self.bans.get(name, 0.0) > now for name in names)
