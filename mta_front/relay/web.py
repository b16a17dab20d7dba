"""HTTP/1.1 as a client, over our own wires: every wait has a deadline, a request's body is sent while it is made.

No redirects, no proxies, no cookies: what we send is for the one server that the operator, or a standard, names.
"""

from __future__ import annotations

import http.client
import io
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from OpenSSL import SSL

from mta_front.net.dialer import TIMED_OUT, WireError, dial
from mta_front.net.tlswire import AnyWire, TlsWire
from mta_front.relay.tlspolicy import TlsPolicy, Untrusted, judge
from mta_front.settings.values import Bind
from mta_front.tls.outbound import Outbound


class WebError(Exception):
    """No answer that can be used. `sent`: all of the request was, so it may have been carried out."""

    def __init__(self, reason: str, *, sent: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.sent = sent


@dataclass(frozen=True, slots=True)
class WebAnswer:
    """`kept`: the connection can be used for another request. `body`: its first octets, up to the limit."""

    status: int
    content_type: str
    body: bytes
    whole: bool
    kept: bool


@dataclass(frozen=True, slots=True)
class Site:
    """Where a URL leads. `target`: path and query; `authority`: for the header Host."""

    secure: bool
    host: str
    port: int
    target: str
    authority: str

    @classmethod
    def of(cls, url: str) -> Site:
        """Of an http or https URL, as settings take it."""
        parts = urlsplit(url)
        secure = parts.scheme == "https"
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return cls(secure, parts.hostname or "", parts.port or (443 if secure else 80), target, parts.netloc)


class WebConnection:
    """One connection to a site, for one request after the other. Raises WebError when it cannot be had."""

    def __init__(self, site: Site, outbound: Outbound | None, timeout_s: float, addresses: Sequence[str] = ()) -> None:
        """`outbound`: whom to trust; needed for https. `timeout_s`: for connection and handshake. `addresses`: of the
        host, tried in turn; none = those that the system finds.
        """
        self._site = site
        deadline_at = time.monotonic() + timeout_s
        reason = ""
        for address in addresses or (site.host,):
            try:
                self._wire: AnyWire = self._connect(address, outbound, deadline_at)
                return
            except WireError as error:
                reason = f"connect to {site.authority}: {error.reason}"
        raise WebError(reason)

    def _connect(self, address: str, outbound: Outbound | None, deadline_at: float) -> AnyWire:
        site = self._site
        wire = dial(Bind("tcp", address, site.port), max(deadline_at - time.monotonic(), 0.001))
        if not site.secure:
            return wire
        assert outbound is not None
        try:
            secured = TlsWire(wire, outbound.channel(site.host))
            facts = secured.handshake(max(deadline_at - time.monotonic(), 0.001))
            judge(TlsPolicy("verify", (site.host,)), facts.peer_certificate, ())
        except (WireError, Untrusted, SSL.Error, UnicodeError) as error:
            wire.close()
            raise WebError(f"TLS with {site.authority}: {error}") from None
        except BaseException:  # somebody's gevent.Timeout, too
            wire.close()
            raise
        return secured

    def request(
        self, method: str, headers: Mapping[str, str], body: Iterable[bytes] | None, timeout_s: float, max_bytes: int
    ) -> WebAnswer:
        """Send it and wait for the answer; `timeout_s` for each piece that is sent, and for all of the answer.

        What `body` raises passes through, and the connection is of no more use. Raises WebError. A body goes in chunks,
        so that one that breaks off is not taken for a whole one; who gives its length in `headers` vouches for it.
        """
        site = self._site
        lines = [f"{method} {site.target} HTTP/1.1", f"Host: {site.authority}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        chunked = body is not None and "Content-Length" not in headers
        if chunked:
            lines.append("Transfer-Encoding: chunked")
        head = "\r\n".join(lines).encode("ascii") + b"\r\n\r\n"
        sent = False
        try:
            if body is None:
                self._wire.send(head, timeout_s)
            else:
                for piece in body:
                    if piece:
                        self._wire.send(head + (b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece), timeout_s)
                        head = b""
                if last := head + (b"0\r\n\r\n" if chunked else b""):
                    self._wire.send(last, timeout_s)
            sent = True
            return self._answer(method, time.monotonic() + timeout_s, max_bytes)
        except WireError as error:
            raise WebError(f"{site.authority}: {error.reason}", sent=sent) from None
        except (http.client.HTTPException, ValueError) as error:
            raise WebError(f"{site.authority}: no HTTP ({type(error).__name__})", sent=sent) from None

    def stale(self) -> bool:
        """Whether the server has ended an idle connection, or speaks without being asked."""
        try:
            return self._wire.recv_now() is not None
        except WireError:
            return True

    def close(self) -> None:
        """Close it."""
        self._wire.close()

    def _answer(self, method: str, deadline_at: float, max_bytes: int) -> WebAnswer:
        response: Any = http.client.HTTPResponse(_Readable(self._wire, deadline_at), method=method)  # type: ignore[arg-type]
        response.begin()
        body = response.read(max_bytes)
        whole = response.isclosed() or not response.read(1)
        content_type = (response.headers.get_content_type() or "").lower()
        return WebAnswer(response.status, content_type, body, whole, whole and not response.will_close)


class _Readable(io.RawIOBase):
    """A wire as http.client wants it: what has a `makefile`."""

    def __init__(self, wire: AnyWire, deadline_at: float) -> None:
        super().__init__()
        self._wire = wire
        self._deadline_at = deadline_at
        self._rest = b""

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._rest:
            left_s = self._deadline_at - time.monotonic()
            if left_s <= 0:
                raise WireError(TIMED_OUT)
            self._rest = self._wire.recv(left_s)
        size = min(len(buffer), len(self._rest))
        buffer[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size
