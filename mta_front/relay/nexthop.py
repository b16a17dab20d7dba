"""Which route a recipient takes: the first that matches its domain, and whose conditions the message meets. Pure.

A pattern is `example.net` (that domain and no other), `*.example.net` (every domain below it, not itself), `*` (all,
also an address without a domain) or an address literal. Case does not matter, nor a dot at the end, nor whether a label
is written in Unicode or as its A-label (`xn--…`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mta_front.domains import canonical_domain

_KNOWN_MAX = 10_000
_CHOICES_MAX = 1000


def domain_of(recipient: str) -> str:
    """What follows the last @; "" for `postmaster`."""
    return recipient.rpartition("@")[2] if "@" in recipient else ""


class Routes:
    """The routes' patterns, in order; a route is known by its index."""

    def __init__(self, patterns: Sequence[Sequence[str]]) -> None:
        self._none = len(patterns)
        self._exact: dict[str, int] = {}
        self._below: dict[str, int] = {}
        self._every = self._none
        for index, alternatives in enumerate(patterns):
            for pattern in alternatives:
                if pattern == "*":
                    self._every = min(self._every, index)
                elif pattern.startswith("*."):
                    self._below.setdefault(canonical_domain(pattern[2:]), index)
                else:
                    self._exact.setdefault(canonical_domain(pattern), index)
        self._known: dict[str, int] = {}  # domains as written, looked up before

    def of(self, recipient: str) -> int | None:
        """The index of the route for this address; None: there is none."""
        domain = domain_of(recipient)
        index = self._known.get(domain)
        if index is None:
            index = self._find(canonical_domain(domain))
            if len(self._known) >= _KNOWN_MAX:
                self._known.clear()
            self._known[domain] = index
        return index if index != self._none else None

    def _find(self, domain: str) -> int:
        found = min(self._every, self._exact.get(domain, self._none))
        if self._below and not domain.startswith("["):
            parent = domain.partition(".")[2]
            while parent:
                found = min(found, self._below.get(parent, self._none))
                parent = parent.partition(".")[2]
        return found

    def group(self, recipients: Sequence[str]) -> dict[int | None, list[str]]:
        """The recipients by route, in their order, each once."""
        if len(recipients) == 1:
            return {self.of(recipients[0]): [recipients[0]]}
        groups: dict[int | None, list[str]] = {}
        for recipient in dict.fromkeys(recipients):
            groups.setdefault(self.of(recipient), []).append(recipient)
        return groups


@dataclass(frozen=True, slots=True)
class Match:
    """What one route takes. Of `senders`, `users` and `listeners`, () is everybody's.

    A sender is "<>", an address (neither part cares for case), or a pattern as of recipients.
    """

    recipients: Sequence[str]
    senders: Sequence[str] = ()
    users: Sequence[str] = ()
    listeners: Sequence[str] = ()


class RouteBook:
    """All routes; finds those for a message, then that of each recipient."""

    def __init__(self, matches: Sequence[Match]) -> None:
        self._patterns = [match.recipients for match in matches]
        self._conditions = [_Condition(match) for match in matches]
        self._unconditional = all(condition.always for condition in self._conditions)
        self._all = Routes(self._patterns)
        self._choices: dict[tuple[int, ...], Routes] = {}

    def group(self, recipients: Sequence[str], mail_from: str, user: str, listener: str) -> dict[int | None, list[str]]:
        """The recipients by route, in their order, each once; None: no route takes these."""
        if self._unconditional:
            return self._all.group(recipients)
        met = tuple(
            index for index, condition in enumerate(self._conditions) if condition.met(mail_from, user, listener)
        )
        routes = self._choices.get(met)
        if routes is None:
            if len(self._choices) >= _CHOICES_MAX:
                self._choices.clear()
            routes = self._choices[met] = Routes([self._patterns[index] for index in met])
        groups = routes.group(recipients).items()
        return {None if index is None else met[index]: group for index, group in groups}


class _Condition:
    """What a route asks of a message, whoever it is for."""

    def __init__(self, match: Match) -> None:
        self.always = not (match.senders or match.users or match.listeners)
        self._users = frozenset(match.users)
        self._listeners = frozenset(match.listeners)
        self._from_all = not match.senders
        self._from_nobody = "<>" in match.senders
        self._addresses = {_canonical(sender) for sender in match.senders if "@" in sender}
        self._domains = Routes([[sender for sender in match.senders if sender != "<>" and "@" not in sender]])

    def met(self, mail_from: str, user: str, listener: str) -> bool:
        if (self._users and user not in self._users) or (self._listeners and listener not in self._listeners):
            return False
        if self._from_all:
            return True
        if not mail_from:
            return self._from_nobody
        return self._domains.of(mail_from) is not None or _canonical(mail_from) in self._addresses


def _canonical(address: str) -> str:
    local, at, domain = address.rpartition("@")
    return local.lower() + at + canonical_domain(domain)
