"""What the settings say about the store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mta_front.settings.durability import parse_durability

if TYPE_CHECKING:
    from mta_front.config import Settings


@dataclass(slots=True, kw_only=True)
class StoreOptions:
    """How to reach the store and what it must promise. See the `[store]` section of the settings."""

    url: str
    username: str = ""
    password: str = ""
    sentinel_password: str = ""
    ca: str = ""  # paths of PEM files, for TLS
    cert: str = ""
    key: str = ""
    prefix: str = "mta"
    durability: str = "fsync"  # as in the settings; see `fsync` and `replicas`
    durability_unchecked: bool = False
    allow_unbounded_store: bool = False
    shards: int = 1
    inline_max_bytes: int = 65536
    timeout_ms: int = 5000
    duplicate_window_s: float = 0.0  # 0 = off
    duplicate_alive_s: float = 6.0  # sessions count as alive for so long after their worker said so
    high_water: float = 0.0  # of maxmemory, where reception stops; 0 = where the store is full
    queue_max_messages: int = 0  # where reception stops; 0 = no limit
    queue_max_age_s: float = 0.0
    check_interval_s: float = 30.0  # how old the answer to "are you still durable?" may be

    @property
    def fsync(self) -> bool:
        """Whether what is acknowledged must be on the master's disk."""
        return parse_durability(self.durability).fsync

    @property
    def replicas(self) -> int:
        """How many replicas must have what is acknowledged."""
        return parse_durability(self.durability).replicas

    @classmethod
    def of(cls, settings: Settings, store_url: str) -> StoreOptions:
        """The options in `settings.store`, with the URL that the master resolved."""
        store = settings.store
        return cls(
            url=store_url,
            username=store.username,
            password=store.password.get_secret_value(),
            sentinel_password=store.sentinel_password.get_secret_value(),
            ca=str(store.ca or ""),
            cert=str(store.cert or ""),
            key=str(store.key or ""),
            prefix=store.prefix,
            durability=store.durability,
            durability_unchecked=store.durability_unchecked,
            allow_unbounded_store=store.allow_unbounded_store,
            shards=store.shards,
            inline_max_bytes=store.inline_max_bytes,
            timeout_ms=store.timeout_ms,
            duplicate_window_s=store.duplicate_window_s,
            high_water=store.store_high_water,
            queue_max_messages=store.queue_max_messages,
            queue_max_age_s=store.queue_max_age_s,
        )
