"""All that one listener says of its sessions, by the names under which operators and developers know it (DESIGN §6).

The defaults are those of the libraries that this replaces (DECISIONS W4); the settings of `serve` have their own.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import TYPE_CHECKING

from mta_front.hooks import Session
from mta_front.net.reverse import Resolver
from mta_front.smtp import replies
from mta_front.smtp.commands import ConnectionOptions
from mta_front.smtp.extensions import advertised
from mta_front.smtp.replies import Reply
from mta_front.smtp.sasl import MECHANISMS

if TYPE_CHECKING:
    from mta_front.tls.channel import Channel

Network = IPv4Network | IPv6Network


@dataclass(slots=True, kw_only=True)
class SessionOptions:
    """Times in seconds, sizes in octets; 0 = no limit. `disabled_commands` in upper case.

    `listener`: the listener's name in logs and metrics. `name`: of the server, in the greeting ("": the host's).
    `banner`: text after it. `helo_response`: the answer to EHLO, in which the first "%s" is the server's name and the
    second the client's; nothing else in it means anything.

    `use_proxy`: whose PROXY header is taken, and must come within `proxy_timeout_s`: nobody's, everybody's, or that of
    these networks. `proxy_tls_trusted`: a client that came to the proxy over TLS is secure. `use_xclient`,
    `use_xforward`: who may say XCLIENT and XFORWARD; `xclient_trusts_addr`: the address that XCLIENT gives is compared
    with networks in settings.

    `secure`: TLS from the first octet. `tls` makes a new TLS connection with the certificates of the moment; None:
    there are none, and STARTTLS is answered 502. `needs_upgrade`: 530 to AUTH and to all that leads to a message until
    STARTTLS. `auth_methods`: the mechanisms, offered over TLS only but with `allow_insecure_auth`.

    `auth_optional` false: MAIL, RCPT and so on are answered 530 until the client has logged in, unless AUTH is among
    `disabled_commands`; until then it has `max_unauthenticated_commands`. `auth_required_message`: text of that 530.

    `socket_timeout_s`: for one command, one reply, and one silence in a message; `min_data_rate_bytes_s`: a client may
    not fall further behind this rate than that. `session_timeout_s`: for the whole session.

    `errors` are commands answered 5xx since the last accepted message: over `soft_errors` each costs `error_delay_s`,
    at `max_errors` the session ends. `max_junk_commands`: commands without a message (NOOP, RSET, EHLO, VRFY …).
    `greet_delay_s`: whoever speaks before the greeting, which waits so long, hears 554.
    """

    listener: str = "smtp"
    name: str = ""
    banner: str = ""
    helo_response: str = "%s Nice to meet you, %s"
    lmtp: bool = False
    use_proxy: bool | Sequence[Network] = False
    proxy_timeout_s: float = 5.0
    proxy_tls_trusted: bool = False
    use_xclient: bool | Sequence[Network] = False
    use_xforward: bool | Sequence[Network] = False
    xclient_trusts_addr: bool = False
    secure: bool = False
    needs_upgrade: bool = False
    tls: Callable[[], Channel] | None = None
    auth_methods: Sequence[str] = ("PLAIN", "LOGIN")
    allow_insecure_auth: bool = False
    auth_optional: bool = False
    auth_required_message: str = ""
    hide_starttls: bool = False
    hide_size: bool = False
    hide_pipelining: bool = False
    hide_dsn: bool = True
    hide_enhancedstatuscodes: bool = True
    hide_requiretls: bool = True
    hide_8bitmime: bool = False
    hide_smtputf8: bool = False
    disabled_commands: frozenset[str] = frozenset()
    size_bytes: int = 0
    max_text_line_octets: int = 0
    max_recipients: int = 0
    max_messages: int = 0
    max_unauthenticated_commands: int = 10
    socket_timeout_s: float = 60.0
    session_timeout_s: float = 0.0
    min_data_rate_bytes_s: int = 0
    soft_errors: int = 10
    error_delay_s: float = 0.0
    max_errors: int = 20
    max_junk_commands: int = 100
    greet_delay_s: float = 0.0
    reverse_lookup: bool = True
    reverse_lookup_timeout_s: float = 1.5
    resolver: Resolver | None = None
    bare_newline: str = "normalize"
    bare_newline_exempt: Sequence[Network] = ()
    lenient_address_parsing: bool = False

    greeting: Reply = field(init=False)
    binds_channels: bool = field(init=False)
    _login_first: Reply | None = field(init=False)
    connection: ConnectionOptions = field(init=False)
    _exempt: ConnectionOptions = field(init=False)
    _offers: dict[tuple[bool, tuple[str, ...]], tuple[str, ...]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        """Make what every session needs once."""
        self.name = self.name or socket.gethostname()
        self.greeting = replies.banner(self.name, self.banner, "LMTP" if self.lmtp else "ESMTP")
        self.binds_channels = any(MECHANISMS[name].needs_channel_binding for name in self.auth_methods)
        needs_login = not self.auth_optional and "AUTH" not in self.disabled_commands
        self._login_first = replies.auth_required(self.auth_required_message) if needs_login else None
        absent = frozenset() if self.tls is not None else frozenset({"STARTTLS"})
        self.connection = ConnectionOptions(
            lmtp=self.lmtp,
            size_bytes=self.size_bytes,
            max_recipients=self.max_recipients,
            max_text_line_octets=self.max_text_line_octets,
            bare_newline=self.bare_newline,
            lenient_address_parsing=self.lenient_address_parsing,
            disabled_commands=self.disabled_commands | absent,
        )
        self._exempt = replace(self.connection, bare_newline="accept")

    def gate(self, session: Session) -> Reply | None:
        """The reply to all that leads to a message, as long as something must come before."""
        if self.needs_upgrade and not session.secure:
            return replies.STARTTLS_FIRST
        return self._login_first if session.user is None else None

    @property
    def needs_login(self) -> bool:
        """Whether a message can be sent only after AUTH."""
        return self._login_first is not None

    def auth_offer(self, session: Session, channel_binding: bool) -> tuple[str, ...]:
        """The mechanisms that this client could use now."""
        secure = session.secure
        if not (secure or self.allow_insecure_auth) or session.user is not None or "AUTH" in self.disabled_commands:
            return ()
        if self.needs_upgrade and not secure:
            return ()
        certificate = session.peer_certificate
        verified = certificate is not None and certificate.verified
        return tuple(
            name
            for name in self.auth_methods
            if not (
                (MECHANISMS[name].needs_tls and not secure)
                or (MECHANISMS[name].needs_channel_binding and not channel_binding)
                or (MECHANISMS[name].needs_certificate and not verified)
            )
        )

    def extensions(self, session: Session, channel_binding: bool, privileges: tuple[str, ...] = ()) -> tuple[str, ...]:
        """What EHLO lists; `privileges`: lines that are for this client only."""
        key = session.secure, self.auth_offer(session, channel_binding)
        offer = self._offers.get(key)
        if offer is None:
            offer = self._offers[key] = self._advertised(*key)
        return offer + privileges

    def is_among(self, allowed: bool | Sequence[Network], address: str) -> bool:
        """Whether `use_xclient` or `use_xforward` is for a client that came from `address` ("": none is known)."""
        if isinstance(allowed, bool):
            return allowed
        return bool(address) and any(ip_address(address) in network for network in allowed)

    def _advertised(self, secure: bool, auth: tuple[str, ...]) -> tuple[str, ...]:
        return advertised(
            size_bytes=self.size_bytes,
            secure=secure,
            starttls=not secure and "STARTTLS" not in self.connection.disabled_commands and not self.hide_starttls,
            auth=auth,
            max_recipients=self.max_recipients,
            max_messages=self.max_messages,
            hide_pipelining=self.hide_pipelining,
            hide_size=self.hide_size,
            hide_8bitmime=self.hide_8bitmime,
            hide_enhancedstatuscodes=self.hide_enhancedstatuscodes,
            hide_smtputf8=self.hide_smtputf8,
            hide_dsn=self.hide_dsn,
            hide_requiretls=self.hide_requiretls,
            disabled_commands=self.disabled_commands,
        )

    def hello_greeting(self, client: str) -> str:
        """The first line of the answer to EHLO, HELO and LHLO; `client` is the client's name as we know it."""
        first, *rest = self.helo_response.split("%s", 2)
        return first + "".join(value + text for value, text in zip((self.name, client), rest, strict=False))

    def connection_for(self, address: str) -> ConnectionOptions:
        """The core's options for a client at `address` ("": none is known, and it is exempt from nothing)."""
        if self.bare_newline_exempt and address:
            client = ip_address(address)
            if any(client in network for network in self.bare_newline_exempt):
                return self._exempt
        return self.connection
