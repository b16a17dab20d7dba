"""Which route a recipient takes: by its domain, the first that matches. Pure.

A pattern is `example.net` (that domain and no other), `*.example.net` (every domain below it, not itself), `*` (all,
also an address without a domain) or an address literal. Case does not matter, nor a dot at the end, nor whether a label
is written in Unicode or as its A-label (`xn--…`).
"""

from __future__ import annotations

from collections.abc import Sequence

from mta_front.domains import canonical_domain

_KNOWN_MAX = 10_000


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
