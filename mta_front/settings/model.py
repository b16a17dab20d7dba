"""The settings model: every section and key with its default, its bounds and one line that says what it is for.

The only list of keys there is: `config schema`, `config defaults` and the documents are generated from it.
Names carry their units: `_s` seconds, `_ms` milliseconds, `_bytes` octets. Objects are frozen; nothing here does I/O.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mta_front.settings.admin import Admin
from mta_front.settings.auth import Auth
from mta_front.settings.limits import Limits, ListenerLimits
from mta_front.settings.routes import Route
from mta_front.settings.section import Section
from mta_front.settings.server import Server
from mta_front.settings.store import Store
from mta_front.settings.tls import ListenerTls, Tls
from mta_front.settings.values import (
    AuthMethod,
    Bind,
    BindText,
    ClassName,
    Command,
    Domain,
    HostName,
    ListenerName,
    Mode,
    Network,
    Peers,
    Printable,
    Seconds,
    parse_bind,
)


class Listener(Section):
    """One front door: its addresses, what it offers and whose mail it takes."""

    name: ListenerName = Field(default="mx", description="its name in logs and metrics; unlike all others")
    bind: list[BindText] = Field(
        default=["127.0.0.1:2525"], min_length=1, description='addresses: "HOST:PORT", "[IPV6]:PORT" or "unix:PATH"'
    )
    protocol: Literal["smtp", "lmtp"] = Field(default="smtp", description="what is spoken here")
    server_name: HostName = Field(default="", description='name in its greeting and in Received:; "" = [server] name')
    use_proxy: Peers = Field(
        default=False,
        description="whose PROXY header is taken: false = nobody's, networks = theirs, true = everybody's",
    )
    proxy_timeout_s: Seconds = Field(default=5.0, description="for the PROXY header; then the connection ends")
    proxy_tls_trusted: bool = Field(
        default=False, description="true = a client that came to the proxy over TLS counts as secure"
    )
    use_xclient: Peers = Field(default=False, description="who may say XCLIENT, as with use_proxy")
    use_xforward: Peers = Field(default=False, description="who may say XFORWARD, as with use_proxy")
    xclient_trusts_addr: bool = Field(
        default=False, description="true = the address that XCLIENT gives may be in trusted_networks"
    )
    banner: Printable = Field(default="", description="text after the name in the 220 greeting")
    helo_response: Printable = Field(
        default="%s Nice to meet you, %s",
        description="answer to EHLO; the first %s is the server's name, the second the client's",
    )
    secure: bool = Field(default=False, description="true = TLS from the first octet, without STARTTLS")
    needs_upgrade: bool = Field(default=False, description="true = nothing is taken before STARTTLS; until then 530")
    hide_starttls: bool = Field(default=False, description="do not announce STARTTLS")
    auth_methods: list[AuthMethod] = Field(
        default=["PLAIN", "LOGIN"], description="how to log in; what no backend of [auth] can verify is not offered"
    )
    allow_insecure_auth: bool = Field(default=False, description="true = log in without TLS too, passwords in clear")
    auth_optional: bool = Field(default=False, description="true = mail is taken without a login")
    auth_required_message: Printable = Field(
        default="", description="text of the 530 to a client that has not logged in"
    )
    max_unauthenticated_commands: int = Field(
        default=10, ge=0, description="commands before a login that is required; then 421; 0 = no limit"
    )
    hide_size: bool = Field(default=False, description="do not announce SIZE")
    hide_pipelining: bool = Field(default=False, description="do not announce PIPELINING")
    hide_8bitmime: bool = Field(default=False, description="do not announce 8BITMIME")
    hide_enhancedstatuscodes: bool = Field(default=False, description="do not announce ENHANCEDSTATUSCODES")
    hide_smtputf8: bool = Field(default=False, description="do not announce SMTPUTF8")
    hide_dsn: bool = Field(default=False, description="do not announce DSN")
    hide_requiretls: bool = Field(default=False, description="do not announce REQUIRETLS")
    disabled_commands: list[Command] = Field(default=[], description='commands that are answered 502, such as "VRFY"')
    lenient_address_parsing: bool = Field(
        default=False, description="take addresses without angle brackets, with stray spaces or dots"
    )
    size_bytes: int = Field(default=52_428_800, ge=0, description="largest message; 0 = no limit")
    max_text_line_octets: int = Field(
        default=0,
        ge=0,
        le=32_768,
        description="longest line of a message with its CRLF; then 500 to the message; 0 = no limit",
    )
    max_recipients: int = Field(default=1000, ge=1, description="recipients of one message; then 452")
    max_messages: int = Field(default=1000, ge=0, description="messages of one session; then 421; 0 = no limit")
    max_clients: int = Field(default=0, ge=0, description="sessions at once over all workers; then 421; 0 = no limit")
    socket_timeout_s: Seconds = Field(
        default=300.0, description="one command, one reply, or one silence in a message; then 421"
    )
    session_timeout_s: Seconds = Field(default=3600.0, description="a whole session; then 421")
    min_data_rate_bytes_s: int = Field(
        default=500,
        ge=0,
        description="a message that falls socket_timeout_s behind this rate ends with 421; 0 = no limit",
    )
    soft_errors: int = Field(
        default=10, ge=0, description="commands answered 5xx before each further one costs error_delay_s"
    )
    error_delay_s: float = Field(
        default=1.0, ge=0, le=60, allow_inf_nan=False, description="how late the answer to such an error is"
    )
    max_errors: int = Field(
        default=20, ge=0, description="commands answered 5xx in one session; then 421; 0 = no limit"
    )
    max_junk_commands: int = Field(
        default=100, ge=0, description="NOOP, RSET, VRFY, EHLO … without a message; then 421; 0 = no limit"
    )
    greet_delay_s: float = Field(
        default=0.0,
        ge=0,
        le=60,
        allow_inf_nan=False,
        description="wait before the greeting; a client that speaks in it gets 554",
    )
    reverse_lookup: bool = Field(default=True, description="ask the DNS for the client's name")
    reverse_lookup_timeout_s: Seconds = Field(default=1.5, description="then the client is its [address]")
    bare_newline: Literal["normalize", "reject", "accept"] = Field(
        default="normalize", description="what happens to a CR or LF in a message that is no line end"
    )
    bare_newline_exempt: list[Network] = Field(
        default=[], description="clients from these addresses may send any newline, as with accept"
    )
    relay_domains: list[Domain] = Field(
        default=[], description='domains whose mail is taken from anybody: "example.net", "*.example.net", "*"'
    )
    open_relay: bool = Field(
        default=False, description='true = "*" in relay_domains may stand on a public address, with any route'
    )
    trusted_networks: list[Network] = Field(
        default=[], description="clients from these addresses may send to any domain"
    )
    unix_mode: Mode = Field(default="0660", validate_default=True, description="permissions of a Unix socket, in octal")

    tls: ListenerTls = Field(default_factory=ListenerTls)
    limits: ListenerLimits = Field(default_factory=ListenerLimits)

    @property
    def addresses(self) -> list[Bind]:
        """`bind`, parsed."""
        return [parse_bind(text) for text in self.bind]


class Hooks(Section):
    """The operator's own policy."""

    class_: ClassName = Field(
        default="",
        alias="class",
        description='"package.module:Class", a subclass of mta_front.Hooks; our policy wraps it',
    )
    blocking: bool = Field(
        default=False, description="true = hooks run in threads: for what would stop a worker, such as time.sleep"
    )


class Relay(Section):
    """The way out: when and where accepted messages are delivered."""

    workers: int = Field(default=1, ge=0, le=64, description="relay workers; 0 = another process relays")
    schedule_s: list[Seconds] = Field(
        default=[60.0, 300.0, 900.0, 1800.0, 3600.0, 7200.0, 14_400.0],
        min_length=1,
        description="waits after the first, second, … failed attempt; the last one repeats",
    )
    expire_s: Seconds = Field(default=432_000.0, description="a message this old is no longer tried")
    lease_s: Seconds = Field(default=60.0, description="a relay silent for so long loses its messages to another")
    concurrency: int = Field(default=100, ge=1, le=10_000, description="messages in hand at once in one relay worker")
    delay_warning_s: float = Field(
        default=14_400.0,
        ge=0,
        allow_inf_nan=False,
        description="age at which a sender hears that a message is delayed; 0 = never",
    )
    return_max_bytes: int = Field(
        default=50_000, ge=0, le=1_048_576, description="of a larger message that failed only the header goes back"
    )
    dead_letters: Literal["unreported", "all"] = Field(
        default="unreported",
        description="what is kept of mail that failed: what its sender cannot be told of, or all",
    )
    routes: list[Route] = Field(default=[], description="where mail goes; the first match wins")


class Log(Section):
    """What is written to standard error."""

    format: Literal["json", "console"] = Field(default="json", description="one JSON object a line, or text for people")
    level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="the least that is written")


class Settings(Section):
    """All settings. `mta_front.config` loads them."""

    server: Server = Field(default_factory=Server)
    store: Store = Field(default_factory=Store)
    listeners: list[Listener] = Field(default=[], description="the front doors")
    tls: Tls = Field(default_factory=Tls)
    auth: Auth = Field(default_factory=Auth)
    limits: Limits = Field(default_factory=Limits)
    hooks: Hooks = Field(default_factory=Hooks)
    relay: Relay = Field(default_factory=Relay)
    admin: Admin = Field(default_factory=Admin)
    log: Log = Field(default_factory=Log)
