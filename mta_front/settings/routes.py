"""The settings of `[[relay.routes]]`: which mail a route takes, and where that goes. Names and units as in `model`."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr

from mta_front.settings.auth import WebUrl
from mta_front.settings.limits import RateText, parse_rate
from mta_front.settings.section import Section
from mta_front.settings.values import (
    Bind,
    Domain,
    HostName,
    ListenerName,
    OptionalPath,
    PemFile,
    PemFiles,
    Seconds,
    parse_bind,
    parse_domain,
)
from mta_front.store.limits.rules import Rate

MAX_WEIGHT = 1000
DIALLING = ("smtp", "lmtp", "mx")
"""Transports that speak SMTP or LMTP."""

ClientMethod = Literal["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "XOAUTH2", "PLAIN", "LOGIN"]
"""`smtp.saslclient.CLIENT_METHODS`."""

_WEIGHT = re.compile(r"(\S+) +weight=([0-9]{1,4})")


@dataclass(frozen=True, slots=True)
class NextHop:
    """One of `next_hops`. `weight` 0: it stands by."""

    bind: Bind
    weight: int = 0


def parse_next_hop(text: str) -> NextHop:
    """`ADDRESS` or `ADDRESS weight=N`, with an address as in `bind`."""
    weighted = _WEIGHT.fullmatch(text)
    if weighted is None:
        if " " in text and not text.startswith("unix:"):
            raise ValueError('must be an address, or an address with a weight: "HOST:PORT weight=3"')
        return NextHop(parse_bind(text))
    weight = int(weighted[2])
    if not 1 <= weight <= MAX_WEIGHT:
        raise ValueError(f"must have a weight from 1 to {MAX_WEIGHT}")
    return NextHop(parse_bind(weighted[1]), weight)


def parse_sender(text: str) -> str:
    """Whose mail: `<>` (reports), a whole address, or a domain pattern as in `recipients`."""
    if text == "<>":
        return text
    local, at, domain = text.rpartition("@")
    if at and not local:
        raise ValueError('must be "<>", an address, or a domain like "example.net", "*.example.net" or "*"')
    if at and "*" in domain:
        raise ValueError("must have no star after its @; a domain pattern stands alone")
    parse_domain(domain)
    return text


def parse_dns_server(text: str) -> tuple[str, int]:
    """`ADDRESS`, `IPV4:PORT` or `[IPV6]:PORT` of a name server; the port is 53 where none is given."""
    try:
        return str(ipaddress.ip_address(text)), 53
    except ValueError:
        pass
    try:
        bind = parse_bind(text)
        ipaddress.ip_address(bind.host)
    except ValueError:
        raise ValueError('must be the address of a name server: "192.0.2.53", "127.0.0.1:5353" or "[::1]:53"') from None
    return bind.host, bind.port


def _parse_source(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text)) if text else ""
    except ValueError:
        raise ValueError("must be an IP address of this host") from None


def _parse_user(text: str) -> str:
    if not text or not text.isprintable():
        raise ValueError("must be the name of a user")
    return text


def _checked(parse: object) -> AfterValidator:
    def validate(text: str) -> str:
        assert callable(parse)
        parse(text)
        return text

    return AfterValidator(validate)


NextHopText = Annotated[str, _checked(parse_next_hop)]
Sender = Annotated[str, _checked(parse_sender)]
UserName = Annotated[str, _checked(_parse_user)]
DnsServer = Annotated[str, _checked(parse_dns_server)]
SourceAddress = Annotated[str, AfterValidator(_parse_source)]


class Route(Section):
    """Where some mail goes. The first route that takes a recipient gets it: all four conditions must hold."""

    recipients: list[Domain] = Field(
        default=["*"], min_length=1, description='domains of recipients: "example.net", "*.example.net", "*"'
    )
    senders: list[Sender] = Field(
        default=[], description='whose mail: "<>", addresses, or domains as in recipients; [] = everybody\'s'
    )
    users: list[UserName] = Field(default=[], description="mail of who logged in as one of these; [] = everybody's")
    listeners: list[ListenerName] = Field(default=[], description="mail that came in by these; [] = by any")
    transport: Literal["smtp", "lmtp", "mx", "maildir", "http", "discard"] = Field(
        default="smtp", description="how to deliver; mx: to the mail exchangers of the recipient's domain"
    )
    next_hops: list[NextHopText] = Field(
        default=[],
        description='for smtp and lmtp: "HOST:PORT", "[IPV6]:PORT" or "unix:PATH", tried in turn; '
        'those with "… weight=3" share the load',
    )
    path: OptionalPath = Field(
        default="", validate_default=True, description="for maildir: the directory that holds tmp, new and cur"
    )
    url: WebUrl = Field(default="", description="for http: where messages are posted to")
    max_connections: int = Field(default=20, ge=1, le=10_000, description="connections at once to one next hop")
    fleet_connections: int = Field(
        default=0, ge=0, description="connections at once to one next hop, of all relays of the fleet; 0 = no limit"
    )
    max_messages: int = Field(
        default=1000, ge=1, le=1_000_000, description="messages over one connection; then another one"
    )
    max_waiting: int = Field(
        default=0,
        ge=0,
        description="messages in hand that may wait for one next hop; others are put off; 0 = no limit",
    )
    rate: RateText = Field(
        default="", description='messages to one next hop per time, as in "60/1m" or "60/1m burst 10"; "" = no limit'
    )
    connect_timeout_s: Seconds = Field(
        default=30.0, description="for the connection to a next hop, and for TLS with it"
    )
    timeout_s: Seconds = Field(default=300.0, description="for each answer of a next hop")
    source_address: SourceAddress = Field(default="", description='our IP address to come from; "" = any')
    helo_name: HostName = Field(default="", description='name in EHLO; "" = [server] name')
    send_proxy: Literal["", "v1", "v2"] = Field(
        default="", description='begin with a PROXY header that names the ends of this connection; "" = none'
    )
    secure: bool = Field(default=False, description="true = TLS from the first octet, without STARTTLS")
    tls: Literal["none", "may", "encrypt", "verify"] = Field(
        default="may",
        description="may: where it works; encrypt: with anybody, or not at all; verify: with whom we meant",
    )
    tls_names: list[HostName] = Field(
        default=[], description="names that the certificate may be for; [] = the next hop's own"
    )
    tls_ca: PemFiles = Field(
        default="", validate_default=True, description='PEM files of authorities to trust; "" = those of the system'
    )
    tls_cert: PemFile = Field(
        default="", description="PEM file of our own certificate with its chain, if it is asked for"
    )
    tls_key: PemFile = Field(default="", description="PEM file of its private key")
    dane: bool = Field(
        default=False,
        description="for mx: true = what DNSSEC says of certificates counts; needs a validating resolver, and one "
        "that nobody can come between",
    )
    mta_sts: bool = Field(default=True, description="for mx: keep to the policies that domains publish by MTA-STS")
    dns_servers: list[DnsServer] = Field(
        default=[], description='for mx: resolvers, "ADDRESS" or "ADDRESS:PORT"; [] = those of resolv.conf'
    )
    port: int = Field(default=25, ge=1, le=65_535, description="for mx: the port of mail exchangers")
    families: Literal["any", "ipv4", "ipv6"] = Field(default="any", description="for mx: which addresses to connect to")
    username: str = Field(default="", description='log in as this user; "" = do not, or, for http, with a token')
    password: SecretStr = Field(default=SecretStr(""), description="its password; for XOAUTH2 the access token")
    password_file: OptionalPath = Field(
        default="", validate_default=True, description="file that holds it, read anew for each connection"
    )
    auth_methods: list[ClientMethod] = Field(
        default=[], description="how to log in; [] = by the best that both sides know"
    )
    allow_insecure_auth: bool = Field(default=False, description="true = log in without TLS too, passwords in clear")

    @property
    def hops(self) -> list[NextHop]:
        """`next_hops`, parsed."""
        return [parse_next_hop(text) for text in self.next_hops]

    @property
    def resolvers(self) -> list[tuple[str, int]]:
        """`dns_servers`, parsed."""
        return [parse_dns_server(text) for text in self.dns_servers]

    @property
    def pace(self) -> Rate | None:
        """`rate`, parsed."""
        return parse_rate(self.rate)

    @property
    def is_for_all(self) -> bool:
        """Whether the recipient alone decides."""
        return not (self.senders or self.users or self.listeners)
