"""The limits as a worker has them: one object in a process, asked by every session."""

from __future__ import annotations

from collections.abc import Mapping

from mta_front.observe.events import NOBODY, Events
from mta_front.store.limits.rules import Group, LimitOptions
from mta_front.store.limits.verdict import AuthVerdict, Verdict, Who


class Limits:
    """Asks the store, in one round trip for each question, shared by all greenlets that ask in one turn of the loop.

    No method raises a store's error, and none waits longer than `timeout_ms` for it: while the store is away, each rule
    does what its `store_down` says. A greenlet may be killed while it waits in here.
    """

    def __init__(self, options: LimitOptions, process: str, events: Events = NOBODY) -> None:
        """`process`: names the worker to people, e.g. `HOST/PID`."""
        self.active: frozenset[Group] = frozenset().union(*(rules.groups for rules in options.all_rules()))
        self.mode = "shared"

    def start(self) -> None:
        """Connect in the background."""

    def close(self) -> None:
        """Give everything back that this worker holds, and close the connection."""

    def connected(self, who: Who, handshake: bool = False) -> Verdict:
        """A session begins: bans, connections at once, their rate; with `handshake` also one of these. Refused: nothing
        is held.
        """
        return Verdict(True)

    def closed(self, who: Who) -> None:
        """A session ended: what it holds is given back. Does not wait; may be called more than once, or in vain."""

    def authenticating(self, who: Who, name: str) -> AuthVerdict:
        """Before the backend is asked about `name`. May wait its turn behind other guesses. Allowed: `authenticated`
        must follow, within a minute.
        """
        return AuthVerdict(True)

    def authenticated(self, who: Who, name: str, good: bool | None) -> AuthVerdict:
        """What the backend said; None: nothing, and nothing is counted.

        Good: the session holds a connection of the user `name` from now on, in place of the one of a login before, and
        may be refused for want of one. Bad: never allowed, and `delay_s` says how late to answer.
        """
        return AuthVerdict(bool(good))

    def spend(self, who: Who, group: Group, amount: int = 1, domain: str = "") -> Verdict:
        """So many of the group for the address, the user, the domain, the listener and the fleet: all, or none."""
        return self.spend_all(who, {group: amount}, domain)

    def spend_all(self, who: Who, amounts: Mapping[Group, int], domain: str = "") -> Verdict:
        """As `spend`, for several groups in one question: all of all groups, or nothing."""
        return Verdict(True)

    def charge(self, who: Who, group: Group, amount: int, domain: str = "") -> None:
        """Count what happened already: refuses nobody, does not wait. Less than 0: given back."""
