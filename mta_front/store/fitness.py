"""Whether a store may be trusted with mail: asked at each new connection and again every `check_interval_s`.

`durability = "fsync"` means `appendonly yes`, `appendfsync always` and `no-appendfsync-on-rewrite no`, read back from
the store itself. WAITAOF alone is never trusted: with `appendfsync everysec` it answers before any fdatasync
(redis#13793), and at once on a connection that wrote nothing. The store must never evict, since an evicted key is a
lost message, and must know its limit, since a store that is killed for its memory answers nobody.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mta_front.store.errors import StoreDown, StoreNotDurable
from mta_front.store.wire import Command, ReplyError

if TYPE_CHECKING:
    from mta_front.store.client import StoreOptions

_DURABLE = {"appendonly": "yes", "appendfsync": "always", "no-appendfsync-on-rewrite": "no"}
_NEVER_EVICTS = {"maxmemory-policy": "noeviction"}

QUESTIONS: tuple[Command, ...] = (
    ("PING",),  # CONFIG and ROLE answer while the store still loads its data, PING does not
    ("ROLE",),
    ("CONFIG", "GET", *_DURABLE, *_NEVER_EVICTS, "maxmemory"),
)


def judge(options: StoreOptions, whole: bool, replies: list[Any]) -> None:
    """Take the replies to `QUESTIONS`; `StoreError` unless the store is fit. Not `whole`: only that it serves."""
    alive, role, config = replies
    if isinstance(alive, ReplyError):
        raise StoreDown(f"not ready: {alive.code}")
    if isinstance(role, list) and role and role[0] != b"master":  # hidden: READONLY will tell
        raise StoreDown(f"not the master: {role[0].decode('ascii', 'replace')}")
    if whole:
        _judge_config(options, config)


def replicas_in(replies: list[Any]) -> int | None:
    """How many replicas follow the master, by the replies to `QUESTIONS`; None when it hides them."""
    role = replies[1]
    return len(role[2]) if isinstance(role, list) and role and role[0] == b"master" else None


def _judge_config(options: StoreOptions, config: Any) -> None:
    shown: dict[str, str] = {}
    if isinstance(config, list):
        words = [word.decode("utf-8", "replace") for word in config]
        shown = dict(zip(words[::2], words[1::2], strict=True))
    wanted = dict(_NEVER_EVICTS)
    if options.fsync:
        wanted |= _DURABLE
    elif options.replicas:  # a master that forgets at a restart makes its replicas forget
        wanted |= {"appendonly": "yes"}
    hidden = [name for name in (*wanted, "maxmemory") if name not in shown]
    if hidden and not options.durability_unchecked:
        raise StoreNotDurable(f"the store hides its CONFIG ({', '.join(hidden)}); see durability_unchecked")
    for name, value in wanted.items():
        if name in shown and shown[name] != value:
            raise StoreNotDurable(f"{name} is {shown[name]}, must be {value}")
    if shown.get("maxmemory") == "0" and not options.allow_unbounded_store:
        raise StoreNotDurable("maxmemory is 0, must be set; see allow_unbounded_store")
