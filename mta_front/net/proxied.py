"""The PROXY protocol before a session: a header is read, and the session becomes that of the client behind the proxy.

It fails closed (haproxy's proxy-protocol.txt, §5): a trusted peer that sends no valid header in time is cut without a
word, for whoever may invent the client's address may be anybody. What an untrusted peer sends is never parsed.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address
from time import monotonic

from mta_front.hooks import Proxy, Session, TlsFacts
from mta_front.net.options import SessionOptions
from mta_front.net.roster import Roster
from mta_front.net.stream import ResumedStream, Stream
from mta_front.proxyproto import DEFAULT_MAX_BYTES, Endpoints, Header, Want, parse
from mta_front.proxyrefusal import BadHeader


class ProxyRefused(Exception):
    """The connection ends without a banner. `reason`: of `proxyrefusal.Reason`, or "timeout", "lost", "drain"."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def sends_header(options: SessionOptions, address: str) -> bool:
    """Whether the peer at `address` ("": a Unix socket) is a proxy that we trust."""
    trusted = options.use_proxy
    if isinstance(trusted, bool):
        return trusted
    return bool(address) and any(ip_address(address) in network for network in trusted)


class Prelude:
    """The wait for one header, as the roster sees it."""

    __slots__ = ("_ended", "_stream", "deadline")

    def __init__(self, stream: Stream, timeout_s: float) -> None:
        self._stream = stream
        self._ended = ""
        self.deadline = monotonic() + timeout_s

    def expire(self) -> None:
        """The proxy was silent for too long."""
        self._end("timeout")

    def wind_up(self) -> None:
        """Drain: nothing was begun."""
        self._end("drain")

    def stop(self) -> None:
        """End."""
        self._end("drain")

    def _end(self, reason: str) -> None:
        self._ended = self._ended or reason
        self._stream.cut()

    def read(self) -> tuple[Header, bytes]:
        """The header, and what came behind it. Raises ProxyRefused."""
        data = b""
        while True:
            try:
                found = parse(data)
            except BadHeader as error:
                raise ProxyRefused(error.reason.value) from None
            if not isinstance(found, Want):
                return found, data[found.size_bytes :]
            try:
                more = self._stream.recv(DEFAULT_MAX_BYTES)
            except OSError:
                more = b""
            if not more:
                raise ProxyRefused(self._ended or "lost")
            data += more


def read_header(
    stream: Stream, session: Session, options: SessionOptions, roster: Roster, refused: Callable[[str], object]
) -> Stream | None:
    """Read the header and make `session` the client's. None: the connection is over, and `refused` was told why."""
    prelude = Prelude(stream, options.proxy_timeout_s)
    roster.join(prelude)
    if roster.draining:
        prelude.wind_up()  # what has come already is still read
    try:
        header, rest = prelude.read()
    except ProxyRefused as error:
        refused(error.reason)
        stream.close()
        return None
    finally:
        roster.leave(prelude)
    _adopt(session, header, options)
    return ResumedStream(stream, rest) if rest else stream


def _is_own_end(session: Session, endpoints: Endpoints) -> bool:
    """Whether the client that the header names is the very end of the connection that the proxy holds: version 1 has no
    LOCAL, and HAProxy's checks say so instead.
    """
    client = endpoints.source_address, endpoints.source_port
    return bool(session.remote_address) and client == (session.remote_address, session.remote_port)


def _adopt(session: Session, header: Header, options: SessionOptions) -> None:
    tlvs, endpoints = header.tlvs, header.endpoints
    if endpoints is not None and _is_own_end(session, endpoints):
        endpoints = None
    session.proxy = Proxy(
        address=session.remote_address,
        port=session.remote_port,
        version=header.version,
        local=endpoints is None,
        alpn=tlvs.alpn,
        authority=tlvs.authority,
        unique_id=tlvs.unique_id_text,
        ssl=tlvs.ssl,
        netns=tlvs.netns,
        aws_vpce_id=tlvs.aws_vpce_id,
        azure_link_id=tlvs.azure_link_id,
        others=tlvs.others,
    )
    if endpoints is None or endpoints.unix:
        session.remote_address, session.remote_port = "", 0
    else:
        session.remote_address, session.remote_port = endpoints.source_address, endpoints.source_port
        session.local_address, session.local_port = endpoints.destination_address, endpoints.destination_port
    session.trust_address = session.remote_address
    ssl = tlvs.ssl
    if options.proxy_tls_trusted and ssl is not None and ssl.secure:
        session.secure = True
        session.servername = tlvs.authority or ""
        cipher = ssl.cipher or ""
        session.tls_options = TlsFacts(cipher, cipher, ssl.version or "")
