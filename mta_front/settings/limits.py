"""The settings of limits: `[limits]` for the fleet, `[listeners.limits]` over it for one listener, and over both
`[[limits.networks]]` for clients from certain networks. A key that is not set in the narrower table is as in the wider.

A count of 0 and a rate of "" are no limit. What is made of these tables is in `mta_front.settings.limitoptions`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, SecretStr, model_validator

from mta_front.settings.section import Section
from mta_front.settings.storeurl import split_credentials
from mta_front.settings.values import Network, OptionalPath, Seconds, StoreUrl
from mta_front.store.limits.rules import Rate


def parse_rate(text: str) -> Rate | None:
    """`COUNT/PERIOD` or `COUNT/PERIOD burst COUNT`, as `Rate.parse` takes it; None for "", which is no limit."""
    return Rate.parse(text) if text else None


def _checked(text: str) -> str:
    parse_rate(text)
    return text


Count = Annotated[int, Field(ge=0, le=10_000_000)]
RateText = Annotated[str, AfterValidator(_checked)]
StoreDown = Literal["open", "closed", "local"]
GroupStoreDown = Literal["", "open", "closed", "local"]

_COUNT_ADDRESS = Field(description="of one address; 0 = no limit")
_COUNT_USER = Field(description="of one user; 0 = no limit")
_COUNT_LISTENER = Field(description="of one listener, over the whole fleet; 0 = no limit")
_COUNT_FLEET = Field(description="of all clients of the whole fleet; 0 = no limit")
_ADDRESS = Field(description='of one address, as in "60/1m" or "60/1m burst 10"; "" = no limit')
_USER = Field(description='of one user; "" = no limit')
_DOMAIN = Field(description='from one sender domain; "" = no limit')
_LISTENER = Field(description='of one listener, over the whole fleet; "" = no limit')
_FLEET = Field(description='of all clients of the whole fleet; "" = no limit')
_STORE_DOWN = Field(description='without that Redis: "open", "closed" or "local"; "" = as in [limits]')
_PAIR = Field(description='of one address as one user; "" = no limit')
_KNOWN = Field(ge=0, le=3650, description="an address that logged in as a user within this is judged by per_pair only")
_LOCKOUT = Field(
    min_length=1, description="no login for so long after the first, second, … excess; the last one repeats"
)
_TARPIT = Field(
    ge=0, le=60, allow_inf_nan=False, description="how late the first failure is answered; doubles with each"
)
_TARPIT_MAX = Field(ge=0, le=60, allow_inf_nan=False, description="how late a failure is answered at most")


# -- what a network may have of its own; what is None is as in the wider table -----------------------------------------


class _Own(Section):
    store_down: Annotated[GroupStoreDown | None, _STORE_DOWN] = None


class NetworkConnections(_Own):
    """Sessions at once."""

    per_address: Annotated[Count | None, _COUNT_ADDRESS] = None
    per_user: Annotated[Count | None, _COUNT_USER] = None


class NetworkConnectionRate(_Own):
    """Sessions that begin, per time; of a user: logins."""

    per_address: Annotated[RateText | None, _ADDRESS] = None
    per_user: Annotated[RateText | None, _USER] = None


class OwnMessages(_Own):
    """Messages per time, each counted at MAIL."""

    per_address: Annotated[RateText | None, _ADDRESS] = None
    per_user: Annotated[RateText | None, _USER] = None
    per_domain: Annotated[RateText | None, _DOMAIN] = None


class OwnRecipients(OwnMessages):
    """Recipients per time, each counted at RCPT."""


class OwnBytes(OwnMessages):
    """Octets of messages per time."""


class OwnFailedCommands(_Own):
    """Commands answered 5xx, per time; then 421."""

    per_address: Annotated[RateText | None, _ADDRESS] = None


class OwnHandshakes(_Own):
    """TLS handshakes per time."""

    per_address: Annotated[RateText | None, _ADDRESS] = None


class OwnAuthFailures(_Own):
    """Failed logins, and only these; whoever passes a rate is locked out."""

    per_address: Annotated[RateText | None, _ADDRESS] = None
    per_user: Annotated[RateText | None, _USER] = None
    per_pair: Annotated[RateText | None, _PAIR] = None
    known_address_days: Annotated[int | None, _KNOWN] = None
    lockout_s: Annotated[list[Seconds] | None, _LOCKOUT] = None
    tarpit_s: Annotated[float | None, _TARPIT] = None
    tarpit_max_s: Annotated[float | None, _TARPIT_MAX] = None


class NetworkLimits(Section):
    """Limits for clients from these networks, the first that matches; what is not set is as for all others."""

    networks: list[Network] = Field(default=[], description='addresses, such as ["192.0.2.0/24", "2001:db8::/32"]')
    connections: NetworkConnections = Field(default_factory=NetworkConnections)
    connection_rate: NetworkConnectionRate = Field(default_factory=NetworkConnectionRate)
    messages: OwnMessages = Field(default_factory=OwnMessages)
    recipients: OwnRecipients = Field(default_factory=OwnRecipients)
    bytes: OwnBytes = Field(default_factory=OwnBytes)
    failed_commands: OwnFailedCommands = Field(default_factory=OwnFailedCommands)
    handshakes: OwnHandshakes = Field(default_factory=OwnHandshakes)
    auth_failures: OwnAuthFailures = Field(default_factory=OwnAuthFailures)


# -- what a listener may have of its own -------------------------------------------------------------------------------


class ListenerConnections(NetworkConnections):
    """Sessions at once."""

    per_listener: Annotated[Count | None, _COUNT_LISTENER] = None


class ListenerConnectionRate(NetworkConnectionRate):
    """Sessions that begin, per time; of a user: logins."""

    per_listener: Annotated[RateText | None, _LISTENER] = None


class ListenerLimits(Section):
    """Limits for this listener, counted for it alone, but for failed logins; what is not set is as in [limits]."""

    connections: ListenerConnections = Field(default_factory=ListenerConnections)
    connection_rate: ListenerConnectionRate = Field(default_factory=ListenerConnectionRate)
    messages: OwnMessages = Field(default_factory=OwnMessages)
    recipients: OwnRecipients = Field(default_factory=OwnRecipients)
    bytes: OwnBytes = Field(default_factory=OwnBytes)
    failed_commands: OwnFailedCommands = Field(default_factory=OwnFailedCommands)
    handshakes: OwnHandshakes = Field(default_factory=OwnHandshakes)
    auth_failures: OwnAuthFailures = Field(default_factory=OwnAuthFailures)


# -- what holds for all ------------------------------------------------------------------------------------------------


class Connections(ListenerConnections):
    """Sessions at once; then 421."""

    store_down: Annotated[GroupStoreDown, _STORE_DOWN] = ""
    per_address: Annotated[Count, _COUNT_ADDRESS] = 50
    per_user: Annotated[Count, _COUNT_USER] = 20
    per_listener: Annotated[Count, _COUNT_LISTENER] = 0
    fleet: Annotated[Count, _COUNT_FLEET] = 0


class ConnectionRate(ListenerConnectionRate):
    """Sessions that begin, per time, then 421; of a user: logins, then 454."""

    store_down: Annotated[GroupStoreDown, _STORE_DOWN] = ""
    per_address: Annotated[RateText, _ADDRESS] = "60/1m"
    per_user: Annotated[RateText, _USER] = ""
    per_listener: Annotated[RateText, _LISTENER] = ""
    fleet: Annotated[RateText, _FLEET] = ""


class Messages(OwnMessages):
    """Messages per time, each counted at MAIL; then 450."""

    store_down: Annotated[GroupStoreDown, _STORE_DOWN] = ""
    per_address: Annotated[RateText, _ADDRESS] = ""
    per_user: Annotated[RateText, _USER] = "500/1h"
    per_domain: Annotated[RateText, _DOMAIN] = ""


class Recipients(OwnRecipients):
    """Recipients per time, each counted at RCPT; then 450."""

    store_down: Annotated[GroupStoreDown, _STORE_DOWN] = ""
    per_address: Annotated[RateText, _ADDRESS] = ""
    per_user: Annotated[RateText, _USER] = "2000/1h"
    per_domain: Annotated[RateText, _DOMAIN] = ""


class Bytes(OwnBytes):
    """Octets of messages per time; then 450."""

    store_down: Annotated[GroupStoreDown, _STORE_DOWN] = ""
    per_address: Annotated[RateText, _ADDRESS] = ""
    per_user: Annotated[RateText, _USER] = ""
    per_domain: Annotated[RateText, _DOMAIN] = ""


class FailedCommands(OwnFailedCommands):
    """Commands answered 5xx, per time; then 421."""

    store_down: Annotated[GroupStoreDown, _STORE_DOWN] = ""
    per_address: Annotated[RateText, _ADDRESS] = "600/10m"


class Handshakes(OwnHandshakes):
    """TLS handshakes per time; then 454 to STARTTLS, and an implicit port closes."""

    store_down: Annotated[GroupStoreDown, _STORE_DOWN] = ""
    per_address: Annotated[RateText, _ADDRESS] = ""


class AuthFailures(OwnAuthFailures):
    """Failed logins, and only these; whoever passes a rate is locked out: 454."""

    store_down: Annotated[GroupStoreDown, _STORE_DOWN] = ""
    per_address: Annotated[RateText, _ADDRESS] = "10/10m"
    per_user: Annotated[RateText, _USER] = "20/10m"
    per_pair: Annotated[RateText, _PAIR] = "5/10m"
    known_address_days: Annotated[int, _KNOWN] = 30
    lockout_s: Annotated[list[Seconds], _LOCKOUT] = Field(default=[60.0, 300.0, 3600.0])
    tarpit_s: Annotated[float, _TARPIT] = 0.5
    tarpit_max_s: Annotated[float, _TARPIT_MAX] = 8.0


class Limits(Section):
    """What a client may do, counted over the whole fleet, in Redis."""

    url: StoreUrl = Field(default="", description='another Redis for limits, like url of [store]; "" = the store')
    username: str = Field(default="", description="user of that Redis; overrides the one in url")
    password: SecretStr = Field(default=SecretStr(""), description="password of that Redis; overrides the one in url")
    password_file: OptionalPath = Field(
        default="", validate_default=True, description='file that holds the password; "" = none'
    )
    store_down: StoreDown = Field(
        default="local",
        description='without that Redis: "open" = no limit, "closed" = nobody, "local" = each worker its share',
    )
    timeout_ms: int = Field(default=250, ge=10, le=10_000, description="longest wait for that Redis in a session")
    slow_ms: int = Field(default=100, ge=1, le=10_000, description="answers that are slower count as no answer")
    lease_s: float = Field(
        default=30.0, ge=2, le=3600, allow_inf_nan=False, description="sessions of a dead worker count for so long"
    )
    exempt: list[Network] = Field(
        default=["127.0.0.0/8", "::1/128"], validate_default=True, description="clients from there have no limits"
    )
    ipv4_prefix: int = Field(default=32, ge=8, le=32, description="bits of an IPv4 address that are one client")
    ipv6_prefix: int = Field(default=64, ge=16, le=128, description="bits of an IPv6 address that are one client")
    connections: Connections = Field(default_factory=Connections)
    connection_rate: ConnectionRate = Field(default_factory=ConnectionRate)
    messages: Messages = Field(default_factory=Messages)
    recipients: Recipients = Field(default_factory=Recipients)
    bytes: Bytes = Field(default_factory=Bytes)
    failed_commands: FailedCommands = Field(default_factory=FailedCommands)
    handshakes: Handshakes = Field(default_factory=Handshakes)
    auth_failures: AuthFailures = Field(default_factory=AuthFailures)
    networks: list[NetworkLimits] = Field(default=[], description="networks with limits of their own")

    @model_validator(mode="before")
    @classmethod
    def _split_credentials(cls, values: Any) -> Any:
        return split_credentials(values)
