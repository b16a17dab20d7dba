"""The name of a client's address: a PTR query (RFC 1035 §3.5, RFC 3596 §2.5) that waits in gevent's hub.

dnspython reads resolv.conf and speaks the format; the waiting is done here on gevent's own sockets, so it needs no
monkey patching (dnspython's own would stop the whole hub, and gevent's resolver of that name breaks with dnspython 2).

Trust: whoever holds the address space says what the name is, and nothing here checks that the name points back. It is
good for logs and greetings, not for a decision. What is no host name is not taken.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path
from time import monotonic
from typing import Any, Protocol

import gevent
from gevent import socket

KEPT_ANSWERS = 10_000
KEPT_S = 300.0
"""An answer, also that there is none, is used again for so long: a client that comes back pays no query."""

TRY_S = 0.7
"""For one name server; then the next one is asked."""

MAX_NAME_OCTETS = 253

_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?")
_UDP_BYTES = 4096


class Resolver(Protocol):
    """Who finds names: the option `resolver`. May raise anything; that means no name."""

    def reverse(self, address: str) -> Sequence[str]:
        """The names of an IPv4 or IPv6 address, the best first."""


class SystemResolver:
    """/etc/hosts, then the name servers of /etc/resolv.conf. One for all sessions of a process.

    `nameservers`: (address, port) pairs in the place of those of resolv.conf.
    """

    def __init__(self, nameservers: Sequence[tuple[str, int]] | None = None) -> None:
        self._hosts = _hosts()
        self._nameservers = list(_nameservers() if nameservers is None else nameservers)
        self._kept: dict[str, tuple[float, Sequence[str]]] = {}

    def reverse(self, address: str) -> Sequence[str]:
        """The names, [] when there is none or nobody says. Raises OSError or a dnspython error."""
        if address in self._hosts:
            return [self._hosts[address]]
        if ip_address(address).is_loopback:  # never asked of the world (RFC 6761 §6.3)
            return ["localhost"]
        until_at, names = self._kept.get(address, (0.0, ()))
        if until_at > monotonic():
            return names
        names = self._ask(address)
        if len(self._kept) >= KEPT_ANSWERS:
            self._kept.clear()
        self._kept[address] = monotonic() + KEPT_S, names
        return names

    def _ask(self, address: str) -> Sequence[str]:
        import dns.message
        import dns.rcode
        import dns.rdatatype
        import dns.reversename

        query = dns.message.make_query(dns.reversename.from_address(address), dns.rdatatype.PTR)
        for nameserver in self._nameservers:
            answer = gevent.with_timeout(TRY_S, _exchange, query, nameserver, timeout_value=None)
            if answer is not None and answer.rcode() in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
                return [
                    record.target.to_text(omit_final_dot=True)
                    for rrset in answer.answer
                    if rrset.rdtype == dns.rdatatype.PTR
                    for record in rrset
                ]
        return ()


def client_hostname(resolver: Resolver | None, address: str, timeout_s: float) -> str:
    """The name of the client at `address`, or "[address]"; "localhost" for a Unix socket, which has none.

    Waits at most `timeout_s`. Never raises: who cannot be named is served all the same.
    """
    if not address:
        return "localhost"
    name: object = ""
    if resolver is not None:
        # A foreign object, and a wire format: whatever it raises, and however long it takes
        with contextlib.suppress(Exception, gevent.Timeout, SystemExit), gevent.Timeout(timeout_s):
            names = resolver.reverse(address)
            name = names if isinstance(names, str) else next(iter(names), "")
    if isinstance(name, str):
        name = name.removesuffix(".")
        if len(name) <= MAX_NAME_OCTETS and _NAME.fullmatch(name):
            return name
    return f"[{address}]"


def _exchange(query: Any, nameserver: tuple[str, int]) -> Any:
    """The answer to `query`; None: nobody listens there. Other datagrams are passed over: anybody can send one."""
    import dns.exception
    import dns.message

    wire = query.to_wire()
    family = socket.AF_INET6 if ":" in nameserver[0] else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.connect(nameserver)
        sock.send(wire)
        while True:
            try:
                answer = dns.message.from_wire(sock.recv(_UDP_BYTES), ignore_trailing=True)
            except dns.exception.DNSException:
                continue
            except ConnectionError:
                return None
            if query.is_response(answer):
                return answer


def _nameservers() -> list[tuple[str, int]]:
    import dns.resolver

    try:
        found = dns.resolver.Resolver()
    except dns.resolver.NoResolverConfiguration:
        return []
    return [(str(address), found.port) for address in found.nameservers if isinstance(address, str)]


def _hosts() -> dict[str, str]:
    """Address -> first name of /etc/hosts (hosts(5))."""
    try:
        text = Path("/etc/hosts").read_text("utf-8", "replace")
    except OSError:
        return {}
    entries = [line.partition("#")[0].split() for line in text.splitlines()]
    found: dict[str, str] = {}
    for address, *names in filter(None, entries):
        if names:
            found.setdefault(address, names[0])
    return found
