"""The settings of the operator's ports: `[admin]`. Names and units as in `model`."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr

from mta_front.settings.section import Section
from mta_front.settings.values import Bind, BindText, HostName, OptionalBindText, OptionalPath, parse_bind

TOKEN_MIN_CHARS = 16


def _check_token(token: SecretStr) -> SecretStr:
    text = token.get_secret_value()
    if text and not re.fullmatch(rf"[!-~]{{{TOKEN_MIN_CHARS},512}}", text):
        raise ValueError(f"must have {TOKEN_MIN_CHARS} to 512 characters, ASCII without spaces")
    return token


Token = Annotated[SecretStr, AfterValidator(_check_token)]


class Admin(Section):
    """The operator's HTTP port: /livez, /readyz, /metrics, with a token also operations; and HAProxy's agent port."""

    bind: BindText = Field(default="127.0.0.1:9580", description="its address")
    token: Token = Field(
        default=SecretStr(""), description='who has it may see addresses and ban them; "" = nobody may, over HTTP'
    )
    token_file: OptionalPath = Field(
        default="", validate_default=True, description='file that holds the token; "" = none'
    )
    hosts: list[HostName] = Field(
        default=[], description="names that it may be called by, beside addresses and localhost"
    )
    agent_check: OptionalBindText = Field(
        default="",
        description='for HAProxy\'s agent-check, such as "0.0.0.0:9581"; drain_grace_s must outlast its agent-inter',
    )

    @property
    def address(self) -> Bind:
        """`bind`, parsed."""
        return parse_bind(self.bind)

    @property
    def agent_address(self) -> Bind | None:
        """`agent_check`, parsed; None when there is no such port."""
        return parse_bind(self.agent_check) if self.agent_check else None
