"""The settings of the store: `[store]`. Names and units as in `model`."""

from __future__ import annotations

from typing import Any, Literal
from urllib.parse import unquote, urlsplit

from pydantic import Field, SecretStr, model_validator

from mta_front.settings.section import Section
from mta_front.settings.values import KeyPrefix, OptionalPath, StoreUrl


class Store(Section):
    """Where accepted messages are kept until they are delivered."""

    url: StoreUrl = Field(
        default="", description='redis://, rediss:// or unix:// URL; "" = an embedded Valkey in data_dir'
    )
    username: str = Field(default="", description="user of the store; overrides the one in url")
    password: SecretStr = Field(default=SecretStr(""), description="password of the store; overrides the one in url")
    password_file: OptionalPath = Field(
        default="", validate_default=True, description='file that holds the password; "" = none'
    )
    prefix: KeyPrefix = Field(default="mta", description="first part of every key in the store")
    durability: Literal["fsync", "memory"] = Field(
        default="fsync", description='"fsync": on disk before 250; "memory": a power cut loses accepted messages'
    )
    durability_unchecked: bool = Field(
        default=False, description="true = trust a store that hides its CONFIG to be durable and never to evict"
    )
    allow_unbounded_store: bool = Field(default=False, description="true = accept a store without maxmemory")
    shards: int = Field(default=1, ge=1, le=256, description="queues that messages are spread over")
    inline_max_bytes: int = Field(
        default=65_536,
        ge=0,
        le=1_048_576,
        description="a larger body is a key of its own, written while it arrives",
    )
    timeout_ms: int = Field(default=5000, ge=10, le=300_000, description="longest wait for the store; then 451")

    @model_validator(mode="before")
    @classmethod
    def _split_credentials(cls, values: Any) -> Any:
        """Move user and password out of the URL, so that the URL can be shown and logged."""
        if not isinstance(values, dict) or not isinstance(values.get("url"), str) or "@" not in values["url"]:
            return values
        url = values["url"]
        try:
            netloc = urlsplit(url).netloc
        except ValueError:
            return values  # no URL, as its own check says
        userinfo, at, host = netloc.rpartition("@")
        if not at:
            return values
        username, _, password = userinfo.partition(":")
        split = {"username": unquote(username), "password": unquote(password)}
        given = {key: value for key, value in values.items() if key not in split or _plain(value)}
        return split | given | {"url": url.replace(f"//{netloc}", f"//{host}", 1)}


def _plain(value: object) -> object:
    return value.get_secret_value() if isinstance(value, SecretStr) else value
