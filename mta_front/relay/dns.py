"""Questions to the DNS, for the relay: answers are kept as long as they say, and each says whether DNSSEC proves it.

dnspython writes and reads the format; the waiting is done here on gevent's own sockets. Nothing is validated here: that
an answer is `secure` is the resolver's word (the AD bit, RFC 4035 §3.2.3), and worth what the resolver and the way to
it are (RFC 6840 §5.7 asks for the bit without asking for signatures).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.resolver
import gevent
from gevent import socket
from gevent.event import Event

TRY_S = 3.0
"""For one name server; then the next one is asked."""
ROUNDS = 2
UDP_BYTES = 1232
"""What the path surely carries in one piece (DNS flag day 2020); more comes by TCP."""

KEPT_ANSWERS = 20_000
KEPT_MAX_S = 3600.0
NONE_MAX_S = 300.0
"""That there is nothing is believed for so long at most."""
UNKNOWN_S = 5.0
"""Nobody answered: so long nobody is asked again."""

Status = Literal["found", "none", "nowhere", "unknown"]


@dataclass(frozen=True, slots=True)
class Answer:
    """`found`: `records`, of `canonical` (the name itself, or what its CNAMEs lead to). `none`: the name exists, such a
    record does not. `nowhere`: there is no such name. `unknown`: nobody says. `secure`: DNSSEC proves it.
    """

    status: Status
    records: tuple[Any, ...] = ()
    secure: bool = False
    canonical: str = ""


_UNKNOWN = Answer("unknown")


class Dns:
    """Asks `servers`, (address, port) pairs, or those of resolv.conf. Who asks the same at once shares one question."""

    def __init__(self, servers: Sequence[tuple[str, int]] = ()) -> None:
        self._servers = list(servers) or _system_servers()
        self._kept: dict[tuple[str, str], tuple[float, Answer]] = {}
        self._asking: dict[tuple[str, str], Event] = {}

    def ask(self, name: str, kind: str) -> Answer:
        """Records of a kind ("MX", "TLSA", …) of a name in A-labels. Never raises: what is no name is `nowhere`."""
        question = name.lower().removesuffix("."), kind
        while True:
            until_at, answer = self._kept.get(question, (0.0, _UNKNOWN))
            if until_at > time.monotonic():
                return answer
            asked = self._asking.get(question)
            if asked is None:
                break
            asked.wait()
        self._asking[question] = Event()
        try:
            answer, kept_s = self._ask(*question)
        finally:
            self._asking.pop(question).set()
        if len(self._kept) >= KEPT_ANSWERS:
            self._kept.clear()
        self._kept[question] = time.monotonic() + kept_s, answer
        return answer

    def _ask(self, name: str, kind: str) -> tuple[Answer, float]:
        try:
            query = dns.message.make_query(name + ".", kind, use_edns=0, payload=UDP_BYTES)
        except (dns.exception.DNSException, UnicodeError):
            return Answer("nowhere"), NONE_MAX_S
        query.flags |= dns.flags.AD
        for server in self._servers * ROUNDS:
            response = gevent.with_timeout(TRY_S, _exchange, query, server, timeout_value=None)
            if response is not None and response.rcode() in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
                return _read(response)
        return _UNKNOWN, UNKNOWN_S


def _read(response: Any) -> tuple[Answer, float]:
    try:
        chain = response.resolve_chaining()
    except dns.exception.DNSException:
        return _UNKNOWN, UNKNOWN_S
    secure = bool(response.flags & dns.flags.AD)
    canonical = chain.canonical_name.to_text(omit_final_dot=True)
    ttl_s = float(max(chain.minimum_ttl, 1))
    if chain.answer is not None:
        return Answer("found", tuple(chain.answer), secure, canonical), min(ttl_s, KEPT_MAX_S)
    status: Status = "nowhere" if response.rcode() == dns.rcode.NXDOMAIN else "none"
    return Answer(status, (), secure, canonical), min(ttl_s, NONE_MAX_S)


def _exchange(query: Any, server: tuple[str, int]) -> Any:
    """The answer; None: this server gives none."""
    wire = query.to_wire()
    family = socket.AF_INET6 if ":" in server[0] else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.connect(server)
            sock.send(wire)
            while True:
                response = _parsed(query, sock.recv(65_535))
                if response is not None:  # anybody can send a datagram
                    break
        if response.flags & dns.flags.TC:
            return _exchange_tcp(query, wire, family, server)
    except OSError:
        return None
    return response


def _exchange_tcp(query: Any, wire: bytes, family: int, server: tuple[str, int]) -> Any:
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        sock.connect(server)
        sock.sendall(len(wire).to_bytes(2, "big") + wire)
        return _parsed(query, _exactly(sock, int.from_bytes(_exactly(sock, 2), "big")))


def _exactly(sock: Any, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = sock.recv(size - len(data))
        if not piece:
            raise OSError("the server closed the connection")
        data += piece
    return data


def _parsed(query: Any, data: bytes) -> Any:
    try:
        response = dns.message.from_wire(data, ignore_trailing=True)
    except dns.exception.DNSException:
        return None
    return response if query.is_response(response) else None


def _system_servers() -> list[tuple[str, int]]:
    try:
        found = dns.resolver.Resolver()
    except dns.resolver.NoResolverConfiguration:
        return [("127.0.0.1", 53)]  # resolv.conf(5)
    return [(str(address), found.port) for address in found.nameservers if isinstance(address, str)]
