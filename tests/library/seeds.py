"""What the libraries that this replaces promise, as tables: smtp-server (Node.js) and bun-smtp, by their own names.

A test is marked with each row (`@pytest.mark.seed("configuration: hideSize")`). `default` is theirs, in their units.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

NONE = object()
"""They have no default."""


@dataclass(frozen=True, slots=True)
class Row:
    """`ours`: our name."""

    table: str
    theirs: str
    ours: str
    default: Any = NONE

    @property
    def key(self) -> str:
        """How tests name it."""
        return f"{self.table}: {self.theirs}"


HOST = "system hostname"

CONFIGURATION = [
    Row("configuration", "secure", "secure", False),
    Row("configuration", "needsUpgrade", "needs_upgrade", False),
    Row("configuration", "name", "name", HOST),
    Row("configuration", "banner", "banner", ""),
    Row("configuration", "lmtp", "lmtp", False),
    Row("configuration", "heloResponse", "helo_response", "%s Nice to meet you, %s"),
    Row("configuration", "authMethods", "auth_methods", ["PLAIN", "LOGIN"]),
    Row("configuration", "authOptional", "auth_optional", False),
    Row("configuration", "allowInsecureAuth", "allow_insecure_auth", False),
    Row("configuration", "authRequiredMessage", "auth_required_message"),
    Row("configuration", "hideSTARTTLS", "hide_starttls", False),
    Row("configuration", "hideSize", "hide_size", False),
    Row("configuration", "hidePIPELINING", "hide_pipelining", False),
    Row("configuration", "hideDSN", "hide_dsn", True),
    Row("configuration", "hideENHANCEDSTATUSCODES", "hide_enhancedstatuscodes", True),
    Row("configuration", "hideREQUIRETLS", "hide_requiretls", True),
    Row("configuration", "hide8BITMIME", "hide_8bitmime", False),
    Row("configuration", "hideSMTPUTF8", "hide_smtputf8", False),
    Row("configuration", "disabledCommands", "disabled_commands", []),
    Row("configuration", "size", "size_bytes"),
    Row("configuration", "maxClients", "max_clients"),
    Row("configuration", "socketTimeout", "socket_timeout_s", 60_000),
    Row("configuration", "closeTimeout", "close_timeout_s", 30_000),
    Row("configuration", "maxAllowedUnauthenticatedCommands", "max_unauthenticated_commands", 10),
    Row("configuration", "useXClient", "use_xclient", False),
    Row("configuration", "useXForward", "use_xforward", False),
    Row("configuration", "useProxy", "use_proxy", False),
    Row("configuration", "disableReverseLookup", "reverse_lookup", False),
    Row("configuration", "resolver", "resolver"),
    Row("configuration", "key", "key"),
    Row("configuration", "cert", "cert"),
    Row("configuration", "ca", "ca"),
    Row("configuration", "requestCert", "request_cert"),
    Row("configuration", "rejectUnauthorized", "reject_unauthorized"),
    Row("configuration", "minVersion", "min_version"),
    Row("configuration", "maxVersion", "max_version"),
    Row("configuration", "sniOptions", "sni"),
]

METHODS = [
    Row("method", "listen", "listen"),
    Row("method", "close", "close"),
    Row("method", "updateSecureContext", "update_secure_context"),
]

CALLBACKS = [
    Row("callback", "onConnect", "on_connect"),
    Row("callback", "onSecure", "on_secure"),
    Row("callback", "onAuth", "on_auth"),
    Row("callback", "onMailFrom", "on_mail_from"),
    Row("callback", "onRcptTo", "on_rcpt_to"),
    Row("callback", "onData", "on_data"),
    Row("callback", "onClose", "on_close"),
    Row("callback", "error event", "on_error"),
    Row("callback", "responseCode", "Reject"),
]

STREAM = [
    Row("stream", "for await", "__iter__"),
    Row("stream", "byteLength", "byte_length"),
    Row("stream", "sizeExceeded", "size_exceeded"),
]

SESSION = [
    Row("session", "id", "id"),
    Row("session", "secure", "secure"),
    Row("session", "servername", "servername"),
    Row("session", "localAddress", "local_address"),
    Row("session", "localPort", "local_port"),
    Row("session", "remoteAddress", "remote_address"),
    Row("session", "remotePort", "remote_port"),
    Row("session", "clientHostname", "client_hostname"),
    Row("session", "hostNameAppearsAs", "host_name_appears_as"),
    Row("session", "openingCommand", "opening_command"),
    Row("session", "transmissionType", "transmission_type"),
    Row("session", "tlsOptions", "tls_options"),
    Row("session", "user", "user"),
    Row("session", "transaction", "transaction"),
    Row("session", "envelope", "envelope"),
    Row("session", "xClient", "x_client"),
    Row("session", "xForward", "x_forward"),
]

ENVELOPE = [
    Row("envelope", "mailFrom", "mail_from"),
    Row("envelope", "rcptTo", "rcpt_to"),
    Row("envelope", "bodyType", "body_type"),
    Row("envelope", "smtpUtf8", "smtp_utf8"),
    Row("envelope", "requireTLS", "require_tls"),
    Row("envelope", "dsn.ret", "dsn"),
    Row("envelope", "dsn.envid", "dsn"),
]

ADDRESS = [
    Row("address", "address", "address"),
    Row("address", "args", "args"),
    Row("address", "dsn.notify", "dsn"),
    Row("address", "dsn.orcpt", "dsn"),
]

CREDENTIALS = [
    Row("auth", name, ours)
    for name, ours in [
        ("method", "method"),
        ("username", "username"),
        ("password", "password"),
        ("accessToken", "access_token"),
        ("challenge", "challenge"),
        ("challengeResponse", "challenge_response"),
        ("validatePassword", "validate_password"),
    ]
]

ROWS = [*CONFIGURATION, *METHODS, *CALLBACKS, *STREAM, *SESSION, *ENVELOPE, *ADDRESS, *CREDENTIALS]
