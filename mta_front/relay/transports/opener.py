"""From an address to a connection that is ready for mail: dial, PROXY header, TLS, hello, login."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

from OpenSSL import SSL

from mta_front.net.dialer import Wire, WireError, dial
from mta_front.net.tlswire import AnyWire, TlsWire
from mta_front.proxybuild import build_v1, build_v2
from mta_front.proxyproto import Endpoints
from mta_front.relay.hop import Fleet, Unreachable
from mta_front.relay.sharedpace import Turns
from mta_front.relay.tlspolicy import NO_TLS, TlsPolicy, Untrusted, judge
from mta_front.settings.values import Bind
from mta_front.smtp.client import ClientConnection
from mta_front.smtp.clientopening import Plan
from mta_front.smtp.saslclient import CLIENT_METHODS, Login
from mta_front.smtp.secret import Secret
from mta_front.store.limits.rules import Rate
from mta_front.tls.outbound import Outbound

CLEAR_S = 600.0
"""With tls = "may": so long no TLS is tried with a next hop where the handshake failed."""


@dataclass(frozen=True, slots=True, repr=False)
class Credentials(Secret):
    """With what to log in. `path`: a file that holds the password or token, read for each connection."""

    username: str
    password: str = ""
    path: Path | None = None
    methods: tuple[str, ...] = CLIENT_METHODS
    insecure: bool = False

    def login(self) -> Login:
        """What is good now; a token in a file may be another one than for the connection before. Raises OSError."""
        password = self.password
        if self.path is not None:
            password = self.path.read_text("utf-8", "surrogateescape").rstrip("\r\n")
        return Login(self.username, password, self.methods, self.insecure)


class Trust:
    """Whom connections trust: made at the first one that needs it, since the system's authorities take 30 ms."""

    def __init__(self, ca_files: Sequence[str] = (), identity: tuple[str, str] | None = None) -> None:
        self._ca_files = ca_files
        self._identity = identity

    @cached_property
    def outbound(self) -> Outbound:
        """Raises OSError or SSL.Error for files that cannot be used."""
        return Outbound(self._ca_files, self._identity)


@dataclass(frozen=True, slots=True)
class SmtpOptions:
    """What a route says of its next hops. `protocol`: "smtp" or "lmtp"; `secure`: TLS from the first octet."""

    protocol: str
    helo_name: str
    max_connections: int
    connect_timeout_s: float
    timeout_s: float
    max_messages: int = 1000
    source_address: str = ""
    secure: bool = False
    send_proxy: Literal["", "v1", "v2"] = ""
    credentials: Credentials | None = None
    trust: Trust = field(default_factory=Trust)
    rate: Rate | None = None
    turns: Turns | None = None
    max_waiting: int = 0
    fleet: Fleet | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """Where a next hop is. `host`: its name, for SNI."""

    address: Bind
    host: str = ""
    policy: TlsPolicy = NO_TLS

    @property
    def name(self) -> str:
        """As logs and reports name it: `127.0.0.1:25`, or `mx.example.net[192.0.2.1]:25` where a name led there."""
        if self.address.kind == "unix" or self.host in ("", self.address.host):
            return str(self.address)
        return f"{self.host}[{self.address.host}]:{self.address.port}"


class Opener:
    """Opens connections to one next hop."""

    def __init__(self, target: Target, options: SmtpOptions) -> None:
        self._target = target
        self._options = options
        self._clear_until = 0.0

    def open(self) -> tuple[AnyWire, ClientConnection]:
        """A connection on which `ready` is true. Raises Unreachable."""
        policy = self._target.policy
        if policy.mode != "may":
            return _Opening(self._target, self._options, policy).run()
        now = time.monotonic()
        if now >= self._clear_until:
            opening = _Opening(self._target, self._options, policy)
            try:
                return opening.run()
            except Unreachable:
                # Better in clear than not at all, is what "may" means; but a host that is down is down
                if not opening.tls_failed or self._options.secure:
                    raise
                self._clear_until = now + CLEAR_S
        return _Opening(self._target, self._options, NO_TLS).run()


class _Opening:
    """One try."""

    def __init__(self, target: Target, options: SmtpOptions, policy: TlsPolicy) -> None:
        self._target = target
        self._options = options
        self._policy = policy
        self.tls_failed = False
        """It came to nothing in the handshake."""
        self._heard_over_tls = False

    def run(self) -> tuple[AnyWire, ClientConnection]:
        name, options = self._target.name, self._options
        client = ClientConnection(options.helo_name, lmtp=options.protocol == "lmtp", plan=self._plan())
        try:
            wire: AnyWire = dial(self._target.address, options.connect_timeout_s, options.source_address)
        except WireError as error:
            raise Unreachable(f"connect to {name}: {error.reason}") from None
        try:
            self._introduce(wire)
            if options.secure:
                wire = self._secure(wire, client)
            while not client.ready and not client.closed:
                data = wire.recv(options.timeout_s)
                if not data and self._in_doubt(wire):
                    raise WireError("the next hop closed the connection")
                self._heard_over_tls = isinstance(wire, TlsWire)
                client.receive(data)
                if client.tls_wanted:
                    wire = self._secure(wire, client)
                if data := client.data_to_send():
                    wire.send(data, options.timeout_s)
        except WireError as error:
            wire.close()
            self.tls_failed = self._in_doubt(wire) and not error.timed_out
            what = "4.7.5 TLS" if self.tls_failed else "connection"
            raise Unreachable(f"{what} with {name}: {error.reason}") from None
        except BaseException:
            wire.close()
            raise
        if client.closed:
            wire.close()
            raise Unreachable(client.reason, client.reason_code)
        return wire, client

    def _in_doubt(self, wire: AnyWire) -> bool:
        """Whether the next hop may not think that the handshake is over: in TLS 1.3 whom it refuses hears of it late,
        by an alert, or by a reset that was quicker.
        """
        return isinstance(wire, TlsWire) and not self._heard_over_tls

    def _plan(self) -> Plan:
        credentials = self._options.credentials
        starttls = "none" if self._options.secure else self._policy.starttls
        if credentials is None:
            return Plan(starttls)
        try:
            login = credentials.login()
        except OSError as error:
            reason = f"4.7.0 Cannot log in at {self._target.name}: {error.filename}: {error.strerror}"
            raise Unreachable(reason) from None
        return Plan(starttls, login, secrets.token_urlsafe(18))

    def _introduce(self, wire: AnyWire) -> None:
        """Say who we are, as HAProxy's send-proxy does: the two ends of this connection."""
        version = self._options.send_proxy
        if not version or not isinstance(wire, Wire):
            return
        endpoints = _endpoints(wire)
        header = build_v1(endpoints) if version == "v1" else build_v2(endpoints, local=endpoints is None)
        wire.send(header, self._options.connect_timeout_s)

    def _secure(self, wire: AnyWire, client: ClientConnection) -> AnyWire:
        assert isinstance(wire, Wire)
        name = self._target.name
        try:
            channel = self._options.trust.outbound.channel(self._target.host)
        except (OSError, SSL.Error) as error:
            raise Unreachable(f"4.7.5 TLS with {name}: our own certificates cannot be read: {error}") from None
        secured = TlsWire(wire, channel)
        try:
            facts = secured.handshake(self._options.connect_timeout_s)
            security = judge(self._policy, facts.peer_certificate, channel.peer_chain())
        except WireError as error:
            self.tls_failed = True
            raise Unreachable(f"4.7.5 TLS with {name}: {error.reason}") from None
        except Untrusted as untrusted:
            secured.close()
            raise Unreachable(f"4.7.5 TLS with {name}: {untrusted}") from None
        client.secured(security, channel.channel_binding())
        return secured


def _endpoints(wire: Wire) -> Endpoints | None:
    """None for a Unix socket, which has no name at this end."""
    own, peer = wire.socket.getsockname(), wire.socket.getpeername()
    if isinstance(own, str) or isinstance(peer, str):
        return None
    return Endpoints(own[0], own[1], peer[0], peer[1])
