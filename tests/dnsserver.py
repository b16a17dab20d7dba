"""A name server for tests, on loopback: UDP and TCP, in a thread. It is authority and validating resolver at once.

`records` maps a name to texts as in a zone file: {"y.example": ["MX 10 mx.y.example."]}.
What is below a name that is there exists too; all else is NXDOMAIN.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Self

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

from tests.ports import free_port

TTL_S = 300


class DnsServer:
    """`secure`: names whose answers DNSSEC proves (with "*", all). `failing`: names answered SERVFAIL; `silent`: not at
    all. `truncating`: over UDP it says only that there is more. `asked` counts questions, as "MX y.example".
    """

    def __init__(self, records: Mapping[str, Sequence[str]] = {}, secure: Sequence[str] = ()) -> None:
        self.records: dict[str, Sequence[str]] = dict(records)
        self.secure = set(secure)
        self.failing: set[str] = set()
        self.silent: set[str] = set()
        self.truncating = False
        self.ttl_s = TTL_S
        self.asked: Counter[str] = Counter()
        self.by_tcp = 0
        self.address = "127.0.0.1", free_port()
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.bind(self.address)
        self._tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._tcp.bind(self.address)
        self._tcp.listen(10)
        self._threads = [threading.Thread(target=run, daemon=True) for run in (self._serve_udp, self._serve_tcp)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._tcp.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", self.address)
        for thread in self._threads:
            thread.join(5.0)
        self._udp.close()
        self._tcp.close()

    def _serve_udp(self) -> None:
        while True:
            data, client = self._udp.recvfrom(65_535)
            if not data:
                return
            answer = self._answer(data, tcp=False)
            if answer is not None:
                with contextlib.suppress(OSError):
                    self._udp.sendto(answer, client)

    def _serve_tcp(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                stream, _ = self._tcp.accept()
                with stream, contextlib.suppress(OSError):
                    size = int.from_bytes(stream.recv(2, socket.MSG_WAITALL), "big")
                    answer = self._answer(stream.recv(size, socket.MSG_WAITALL), tcp=True)
                    if answer is not None:
                        self.by_tcp += 1
                        stream.sendall(len(answer).to_bytes(2, "big") + answer)

    def _answer(self, data: bytes, *, tcp: bool) -> bytes | None:
        query = dns.message.from_wire(data)
        (question,) = query.question
        name = question.name.to_text(omit_final_dot=True).lower()
        kind = dns.rdatatype.to_text(question.rdtype)
        self.asked[f"{kind} {name}"] += 1
        if name in self.silent:
            return None
        response: Any = dns.message.make_response(query, recursion_available=True)
        if name in self.failing:
            response.set_rcode(dns.rcode.SERVFAIL)
            return bytes(response.to_wire())
        if self.truncating and not tcp:
            response.flags |= dns.flags.TC
            return bytes(response.to_wire())
        proved = self._fill(response, name, kind)
        if proved and query.flags & dns.flags.AD:
            response.flags |= dns.flags.AD
        return bytes(response.to_wire())

    def _fill(self, response: Any, name: str, kind: str) -> bool:
        """Whether all that went into it is proved."""
        proved = True
        for _ in range(8):
            proved = proved and bool({name, "*"} & self.secure)
            texts = self.records.get(name, ())
            found = [text.split(" ", 1)[1] for text in texts if text.split(" ", 1)[0] == kind]
            alias = [text.split(" ", 1)[1] for text in texts if text.startswith("CNAME ")]
            if found or not alias:
                break
            response.answer.append(dns.rrset.from_text(name + ".", self.ttl_s, "IN", "CNAME", alias[0] + "."))
            name = alias[0]
        if found:
            response.answer.append(dns.rrset.from_text(name + ".", self.ttl_s, "IN", kind, *found))
            return proved
        if not texts and not any(known.endswith(f".{name}") for known in self.records):
            response.set_rcode(dns.rcode.NXDOMAIN)
        response.authority.append(dns.rrset.from_text(".", 60, "IN", "SOA", "ns. host. 1 1 1 1 60"))
        return proved
