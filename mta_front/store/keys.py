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

    __slots__ = ("_base", "dead", "deaths", "housekeeper", "later", "layout", "lease", "queue")

    def __init__(self, prefix: str, shard: int) -> None:
        self._base = f"{prefix}:{{{shard}}}:"
        self.queue = self._base + "queue"  # stream: id, envelope, body
        self.later = self._base + "later"  # zset: stream entry -> due, ms
        self.lease = self._base + "lease"  # zset: stream entry -> expiry, ms
        self.dead = self._base + "dead"  # stream: dead letters
        self.deaths = self._base + "deaths"  # hash: stream entry -> relays that died holding it
        self.housekeeper = self._base + "housekeeper"  # string: the consumer that reports on the shard
        self.layout = self._base + "layout"  # string: the layout version

    def body(self, message_id: str) -> str:
        """List: the body of a large message, in segments."""
        return f"{self._base}body:{message_id}"

    def duplicate(self, digest: str) -> str:
        """String: a message whose 250 its client may not have seen, see hand_over.lua."""
        return f"{self._base}dup:{digest}"

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


def confirmation(prefix: str, tag: str) -> str:
    """String: written by a new connection, to see how many replicas confirm it; expires."""
    return f"{prefix}:{{{tag}}}:confirm"


def user(prefix: str, name: str) -> str:
    """Hash: a user who may log in, `password` and `addresses` (docs: the backend `redis`)."""
    return f"{prefix}:user:{name}"


def turns(prefix: str, next_hop: str) -> str:
    """String: when all turns at this next hop that were given to relays have come, µs; beside the keys of limits."""
    return f"{prefix}:{{limits}}:turns:{next_hop}"


def connections(prefix: str, next_hop: str) -> str:
    """Zset: connections of all relays to this next hop -> until when they count, ms; beside the keys of limits."""
    return f"{prefix}:{{limits}}:conns:{next_hop}"


def policy(prefix: str, domain: str) -> str:
    """String: the domain's MTA-STS policy, as JSON; expires with it."""
    return f"{prefix}:{{limits}}:sts:{domain}"


def fleet_secret(prefix: str) -> str:
    """String: random, made once; what all fronts derive from it is the same in each."""
    return f"{prefix}:secret"


class LimitKeys:
    """The keys of limits: one tag, so that a script may look at any of them. Only the last part may hold a `:`."""

    __slots__ = ("_base", "bans", "reasons", "swept", "workers")

    def __init__(self, prefix: str) -> None:
        self._base = f"{prefix}:{{limits}}:"
        self.bans = self._base + "bans"  # zset: who -> until when, ms
        self.reasons = self._base + "reasons"  # hash: who -> when it began, ms, and why
        self.workers = self._base + "workers"  # zset: a worker's life, a number -> until when it counts as alive, ms
        self.swept = self._base + "swept"  # zset: a lease -> the death up to which it was swept; '' -> the last death

    def lease(self, rule: str, scope: str) -> str:
        """Zset: LIFE/SESSION -> LIFE, who holds one. Ends in what it is counted for, which the caller appends."""
        return f"{self._base}lease:{rule}:{scope}:"

    def rate(self, rule: str, scope: str, rate: str) -> str:
        """String: GCRA's arrival time, µs. Ends in what it is counted for, which the caller appends."""
        return f"{self._base}rate:{rule}:{scope}:{rate}:"

    def auth(self, rule: str, scope: str, rate: str) -> str:
        """Hash: failed logins. Ends in what it is counted for, which the caller appends."""
        return f"{self._base}auth:{rule}:{scope}:{rate}:"

    def tries(self, rule: str, scope: str, rate: str) -> str:
        """Zset: guesses in hand. Ends in what it is counted for, which the caller appends."""
        return f"{self._base}try:{rule}:{scope}:{rate}:"

    def known(self, user: str) -> str:
        """Zset: addresses from which this user logged in -> when, ms."""
        return f"{self._base}known:{user}"

    def pattern(self, kind: str, rule: str = "") -> str:
        """What SCAN finds the keys of a kind by: lease, rate, auth."""
        base = "".join(f"\\{letter}" if letter in "\\*?[]" else letter for letter in self._base)
        return f"{base}{kind}:{rule}*"

    def parts(self, key: str, count: int) -> list[str]:
        """The name after the tag, cut into so many parts at most."""
        return key.removeprefix(self._base).split(":", count - 1)
