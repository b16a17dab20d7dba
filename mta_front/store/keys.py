"""Every key name in the store is made here; scripts get theirs as KEYS. docs/queue.md says what the keys hold.

A shard's keys carry its number as their hash tag, so that in a Redis Cluster they live on one node.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

LAYOUT = 1  # the version of what is written; a reader takes this one and the one before
GROUP = "relay"  # the consumer group of every queue


class ShardKeys:
    """The keys of one shard."""

    __slots__ = ("_base", "dead", "later", "layout", "lease", "queue")

    def __init__(self, prefix: str, shard: int) -> None:
        self._base = f"{prefix}:{{{shard}}}:"
        self.queue = self._base + "queue"  # stream: id, envelope, body
        self.later = self._base + "later"  # zset: stream entry -> due, ms
        self.lease = self._base + "lease"  # zset: stream entry -> expiry, ms
        self.dead = self._base + "dead"  # stream: dead letters
        self.layout = self._base + "layout"  # string: the layout version

    def body(self, message_id: str) -> str:
        """List: the body of a large message, in segments."""
        return f"{self._base}body:{message_id}"

    def message(self, message_id: str) -> str:
        """Hash: what is known of a message beyond its envelope, from its first deferral on."""
        return f"{self._base}msg:{message_id}"


def shard_of(mail_from: str, rcpt_to: Sequence[str], shards: int) -> int:
    """The shard of a message: the same for the same reverse-path and recipients, in every process and release."""
    if shards <= 1:
        return 0
    named = "\n".join([mail_from, *sorted(rcpt_to)])
    digest = hashlib.blake2b(named.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "big") % shards


def user(prefix: str, name: str) -> str:
    """Hash: a user who may log in, `password` and `addresses` (docs: the backend `redis`)."""
    return f"{prefix}:user:{name}"


def fleet_secret(prefix: str) -> str:
    """String: random, made once; what all fronts derive from it is the same in each."""
    return f"{prefix}:secret"
