"""All that one listener says of its sessions, by the names under which operators and developers know it (DESIGN §6).

The defaults are those of the libraries that this replaces (DECISIONS W4); the settings of `serve` have their own.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Network, IPv6Network, ip_address

from mta_front.net.reverse import Resolver
from mta_front.smtp import replies
from mta_front.smtp.commands import ConnectionOptions
from mta_front.smtp.extensions import advertised
from mta_front.smtp.replies import Reply

Network = IPv4Network | IPv6Network


@dataclass(slots=True, kw_only=True)
class SessionOptions:
    """Times in seconds, sizes in octets; 0 = no limit. `disabled_commands` in upper case.

    `listener`: the listener's name in logs and metrics. `name`: of the server, in the greeting ("": the host's).
    `banner`: text after it. `helo_response`: the answer to EHLO, in which the first "%s" is the server's name and the
    second the client's; nothing else in it means anything.

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
    auth_optional: bool = False
    auth_required_message: str = ""
    hide_size: bool = False
    hide_pipelining: bool = False
    hide_dsn: bool = True
    hide_enhancedstatuscodes: bool = True
    hide_requiretls: bool = True
    hide_8bitmime: bool = False
    hide_smtputf8: bool = False
    disabled_commands: frozenset[str] = frozenset()
    size_bytes: int = 0
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
    gate: Reply | None = field(init=False)
    connection: ConnectionOptions = field(init=False)
    _exempt: ConnectionOptions = field(init=False)
    _extensions: tuple[tuple[str, ...], tuple[str, ...]] = field(init=False)

    def __post_init__(self) -> None:
        """Make what every session needs once."""
        self.name = self.name or socket.gethostname()
        self.greeting = replies.banner(self.name, self.banner, "LMTP" if self.lmtp else "ESMTP")
        needs_login = not self.auth_optional and "AUTH" not in self.disabled_commands
        self.gate = replies.auth_required(self.auth_required_message) if needs_login else None
        self.connection = ConnectionOptions(
            lmtp=self.lmtp,
            size_bytes=self.size_bytes,
            max_recipients=self.max_recipients,
            bare_newline=self.bare_newline,
            lenient_address_parsing=self.lenient_address_parsing,
            disabled_commands=self.disabled_commands,
        )
        self._exempt = replace(self.connection, bare_newline="accept")
        self._extensions = self._advertised(secure=False), self._advertised(secure=True)

    def _advertised(self, *, secure: bool) -> tuple[str, ...]:
        return advertised(
            size_bytes=self.size_bytes,
            secure=secure,
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

    def extensions(self, *, secure: bool) -> tuple[str, ...]:
        """What EHLO lists."""
        return self._extensions[secure]

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
