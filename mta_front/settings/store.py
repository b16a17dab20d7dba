"""The settings of the store: `[store]`. Names and units as in `model`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import Field, SecretStr, model_validator

from mta_front.settings.auth import Auth
from mta_front.settings.durability import parse_durability
from mta_front.settings.lines import KeyPath
from mta_front.settings.section import RuleFault, Section
from mta_front.settings.storeurl import read_store_url, split_credentials
from mta_front.settings.values import DurabilityText, KeyPrefix, OptionalPath, StoreUrl


class Store(Section):
    """Where accepted messages are kept until they are delivered."""

    url: StoreUrl = Field(
        default="",
        description="redis://HOST:PORT/DB, unix:///PATH, redis+sentinel://HOST,HOST/NAME, redis+cluster://HOST,HOST, "
        'rediss… for TLS; "" = an embedded Valkey in data_dir',
    )
    username: str = Field(default="", description="user of the store; overrides the one in url")
    password: SecretStr = Field(default=SecretStr(""), description="password of the store; overrides the one in url")
    password_file: OptionalPath = Field(
        default="", validate_default=True, description='file that holds the password; "" = none'
    )
    sentinel_password: SecretStr = Field(default=SecretStr(""), description="password of the Sentinels in url")
    sentinel_password_file: OptionalPath = Field(
        default="", validate_default=True, description='file that holds it; "" = none'
    )
    ca: OptionalPath = Field(
        default="",
        validate_default=True,
        description='who may sign its certificate; "" = whom the host trusts',
    )
    cert: OptionalPath = Field(
        default="", validate_default=True, description='our certificate for the store, with its chain; "" = none'
    )
    key: OptionalPath = Field(default="", validate_default=True, description='its key; "" = in the same file')
    prefix: KeyPrefix = Field(default="mta", description="first part of every key in the store")
    durability: DurabilityText = Field(
        default="fsync",
        description='before 250: "fsync" on disk, "replicated:N" in N replicas, "fsync+replicated:N" both; '
        '"memory": a power cut loses accepted messages',
    )
    durability_unchecked: bool = Field(
        default=False, description="true = trust a store that hides its CONFIG to be durable and never to evict"
    )
    accept_failover_loss: bool = Field(
        default=False,
        description='true = take "fsync" alone with Sentinel or Cluster, and lose mail in a fail-over',
    )
    allow_unbounded_store: bool = Field(default=False, description="true = accept a store without maxmemory")
    shards: int = Field(default=1, ge=1, le=256, description="queues that messages are spread over")
    inline_max_bytes: int = Field(
        default=65_536,
        ge=0,
        le=1_048_576,
        description="a larger body is a key of its own, written while it arrives",
    )
    duplicate_window_s: float = Field(
        default=3600.0,
        ge=0,
        le=86_400,
        allow_inf_nan=False,
        description="a message sent again within this because its 250 was lost is stored once; 0 = off",
    )
    store_high_water: float = Field(
        default=0.75, gt=0, le=1, description="share of the store's maxmemory at which mail is refused; then 452"
    )
    queue_max_messages: int = Field(default=0, ge=0, description="messages in the queue; then 452; 0 = no limit")
    queue_max_age_s: float = Field(
        default=0.0, ge=0, allow_inf_nan=False, description="age of the oldest one; then 452; 0 = no limit"
    )
    timeout_ms: int = Field(default=5000, ge=10, le=300_000, description="longest wait for the store; then 451")

    @model_validator(mode="before")
    @classmethod
    def _split_credentials(cls, values: Any) -> Any:
        return split_credentials(values)


def faults_of(store: Store, auth: Auth) -> Iterator[RuleFault]:
    """Every rule about stores that the settings break."""
    url = read_store_url(store.url) if store.url else None
    promised = parse_durability(store.durability)
    if url and url.fails_over and promised.fsync and not promised.replicas and not store.accept_failover_loss:
        paths: list[KeyPath] = [("store", "durability"), ("store", "url"), ("store", "accept_failover_loss")]
        remedy = 'must be "fsync+replicated:N", or set accept_failover_loss = true if you mean it'
        yield paths, f"loses in a fail-over what replicas do not have yet; {remedy}"
    if promised.replicas and not url:
        yield [("store", "durability"), ("store", "url")], "needs replicas; the embedded store has none"
    for name in ("ca", "cert", "key"):
        if getattr(store, name) is not None and not (url and url.tls):
            yield [("store", name), ("store", "url")], "has no use without TLS to the store, rediss:// and the like"
    if store.key is not None and store.cert is None:
        yield [("store", "key"), ("store", "cert")], "needs cert"
    if store.sentinel_password.get_secret_value() and not (url and url.kind == "sentinel"):
        paths = [("store", "sentinel_password"), ("store", "sentinel_password_file"), ("store", "url")]
        yield paths, "has no use without redis+sentinel://"
    users_url = auth.redis.url or store.url
    if "redis" in auth.backends and users_url and read_store_url(users_url).kind == "cluster":
        paths = [("auth", "redis", "url"), ("auth", "backends"), ("store", "url")]
        yield paths, "must not be a Cluster, which would spread its users over all nodes"
