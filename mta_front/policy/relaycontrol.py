"""Never an open relay: which recipients a client without authentication may name (DECISIONS W2).

A recipient is taken when its domain is one of the listener's `relay_domains`, or when the client is in
`trusted_networks`. Everything else is refused. No domains set means none.
"""

from __future__ import annotations

import ipaddress
import unicodedata
from collections.abc import Iterable

from mta_front.domains import canonical_domain
from mta_front.smtp.address import Address

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class DomainSet:
    """`example.net` is itself only, `*.example.net` what lies below it and not itself, `*` every domain name.

    An address literal (`[192.0.2.1]`) is no domain name and matches nothing.
    """

    __slots__ = ("_all", "_below", "_exact")

    def __init__(self, patterns: Iterable[str]) -> None:
        exact: set[str] = set()
        below: set[str] = set()
        self._all = False
        for pattern in patterns:
            if pattern == "*":
                self._all = True
            elif pattern.startswith("*."):
                below.add(canonical_domain(pattern[2:]))
            else:
                exact.add(canonical_domain(pattern))
        self._exact = frozenset(exact)
        self._below = frozenset(below)

    def __contains__(self, domain: str) -> bool:
        if not domain or domain.startswith("["):
            return False
        if self._all:
            return True
        domain = canonical_domain(domain)
        if domain in self._exact:
            return True
        if self._below:
            rest = domain.partition(".")[2]
            while rest:
                if rest in self._below:
                    return True
                rest = rest.partition(".")[2]
        return False


class Networks:
    """CIDR networks. A session without an address ("": a Unix socket, LOCAL) is in none of them."""

    __slots__ = ("_networks",)

    def __init__(self, networks: Iterable[Network]) -> None:
        self._networks = tuple(networks)

    def __contains__(self, address: str) -> bool:
        if not self._networks or not address:
            return False
        ip = ipaddress.ip_address(address.partition("%")[0])
        # A dual-stack peer may show itself as ::ffff:192.0.2.1
        ip = getattr(ip, "ipv4_mapped", None) or ip
        return any(ip in network for network in self._networks)


def routes_by_itself(local_part: str) -> bool:
    """The local part names another host: `user%other`, `other!user`, `"user@other"`.

    A next hop may act on it (Postfix' allow_percent_hack and swap_bangpath do), so that "ours" would relay for anyone.
    """
    if not local_part.isascii():
        local_part = unicodedata.normalize("NFKC", local_part)  # in full width, too: a next hop may fold them
    return any(sign in local_part for sign in "%!@")


class RelayControl:
    """One listener's rule."""

    __slots__ = ("_domains", "_trusted")

    def __init__(self, relay_domains: Iterable[str], trusted_networks: Iterable[Network]) -> None:
        self._domains = DomainSet(relay_domains)
        self._trusted = Networks(trusted_networks)

    def allows(self, recipient: Address, client_address: str) -> bool:
        """May a client at `client_address` ("" = unknown), not authenticated, send to `recipient`?"""
        if not recipient.domain:
            return True  # <postmaster>: RFC 5321 §4.5.1, whoever asks
        if recipient.domain in self._domains and not routes_by_itself(recipient.local_part):
            return True
        return client_address in self._trusted
