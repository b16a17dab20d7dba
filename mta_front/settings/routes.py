"""The settings of `[[relay.routes]]`: which mail a route takes, and where that goes. Names and units as in `model`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mta_front.settings.section import Section
from mta_front.settings.values import Bind, BindText, Domain, OptionalPath, Seconds, parse_bind


class Route(Section):
    """Where mail for some recipients goes. The first route that matches a recipient takes it."""

    recipients: list[Domain] = Field(
        default=["*"], min_length=1, description='domains of recipients: "example.net", "*.example.net", "*"'
    )
    transport: Literal["smtp", "lmtp", "maildir", "discard"] = Field(default="smtp", description="how to deliver")
    next_hops: list[BindText] = Field(
        default=[], description='for smtp and lmtp: "HOST:PORT", "[IPV6]:PORT" or "unix:PATH", tried in turn'
    )
    path: OptionalPath = Field(
        default="", validate_default=True, description="for maildir: the directory that holds tmp, new and cur"
    )
    max_connections: int = Field(default=20, ge=1, le=10_000, description="connections at once to these next hops")
    connect_timeout_s: Seconds = Field(default=30.0, description="for the connection to a next hop")
    timeout_s: Seconds = Field(default=300.0, description="for each answer of a next hop")

    @property
    def addresses(self) -> list[Bind]:
        """`next_hops`, parsed."""
        return [parse_bind(text) for text in self.next_hops]
