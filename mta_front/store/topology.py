"""Where the keys of a hash tag live: on the one server there is, on the master that Sentinels name, or on the node of a
Cluster that serves the tag's slot.

A link has one connection and one tag: all keys of a shard, and all of limits, carry one tag each, so they live on one
node. It asks here whenever it connects. Nothing that was learnt is trusted for longer than that: who says where a
master is may not know yet that it has changed, so whoever is connected to is asked what it is.

Every method may wait, until its deadline on `time.monotonic()` at the latest, and raise `StoreDown`.
"""

from __future__ import annotations

import binascii
import contextlib
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

from redis.connection import parse_url

from mta_front.settings.storeurl import StoreUrl, read_store_url, split_credentials
from mta_front.store.errors import StoreDown
from mta_front.store.options import StoreOptions
from mta_front.store.wire import Access, Lost, Place, ReplyError, Wire

SLOTS = 16_384
ASKED_AT_ONCE = 4  # of many servers that could say where a master is, so many are asked in one attempt


def topology_of(options: StoreOptions) -> Topology:
    """What the URL in the options says. `ValueError` when it cannot be used."""
    said = split_credentials({"url": options.url, "username": options.username, "password": options.password})
    try:
        url = read_store_url(said["url"])
    except ValueError as error:
        raise ValueError(f"store url: {error}") from None
    tls = _tls_options(url, options) if url.tls else None
    access = Access(said["username"], said["password"], url.db, tls)
    if url.kind == "sentinel":
        return Sentinels(access, Access("", options.sentinel_password, 0, tls), url.seeds, url.master)
    if url.kind == "cluster":
        return Cluster(access, url.seeds)
    return Topology(access, url.seeds[0] if url.seeds else (url.path, 0))


def _tls_options(url: StoreUrl, options: StoreOptions) -> dict[str, Any]:
    """Of redis-py: what the URL says, and over it the settings."""
    said: dict[str, Any] = dict(parse_url(f"rediss://host?{url.query}"))  # type: ignore[no-untyped-call]
    found = {name: value for name, value in said.items() if name.startswith("ssl_")}
    if options.ca:
        found["ssl_ca_certs"] = options.ca
    if options.cert:
        found |= {"ssl_certfile": options.cert, "ssl_keyfile": options.key or options.cert}
    return found


def slot_of(tag: str) -> int:
    """The slot of a Cluster in which the keys with this hash tag are."""
    return binascii.crc_hqx(tag.encode(), 0) % SLOTS


def place_in(text: str, host: str) -> Place | None:
    """The node that a MOVED or ASK from `host` names: `CODE SLOT HOST:PORT`, without HOST when it is the same. None: it
    cannot be read.
    """
    words = text.split(" ")
    named, _, port = words[2].rpartition(":") if len(words) > 2 else ("", "", "")
    return (named or host, int(port)) if port.isdigit() else None


class Topology:
    """One server, for all tags."""

    splits = False  # whether tags live on different servers

    def __init__(self, access: Access, place: Place) -> None:
        self._access = access
        self._place = place

    def groups(self, shards: int) -> list[range]:
        """The shards, those together that are always on the same server and so can share connections."""
        return [range(shard, shard + 1) for shard in range(shards)] if self.splits else [range(shards)]

    def purpose(self, purpose: str, shard: int) -> str:
        """What a connection is for, as metrics name it: where each shard has its own, that says which."""
        return f"{purpose}/{shard}" if self.splits else purpose

    def connect(self, tag: str, deadline: float) -> Wire:
        """A connection to the server of this tag."""
        return self._access.connect(self._place, deadline)

    def connect_to(self, place: Place, deadline: float) -> Wire:
        """A connection to one certain server of the store."""
        return self._access.connect(place, deadline)

    def moved(self, tag: str, place: Place | None) -> None:
        """The server of this tag said that it is another one now."""

    def has_moved(self, wire: Wire, deadline: float) -> bool:
        """Whether those who must know say that another server has taken this one's place."""
        return False


class Sentinels(Topology):
    """The master of this name, as Sentinels say."""

    def __init__(self, access: Access, sentinels: Access, seeds: tuple[Place, ...], master: str) -> None:
        super().__init__(access, seeds[0])
        self._sentinels = sentinels
        self._seeds = list(seeds)  # who gave a good answer comes first
        self._master = master

    def connect(self, tag: str, deadline: float) -> Wire:
        """A connection to the master. A Sentinel that is behind names the old one: then the next is asked."""
        why = "no Sentinel knows the master"
        met: set[Place] = set()
        for seed, until in _shares(self._seeds, deadline):
            try:
                place = self._ask(seed, (time.monotonic() + until) / 2)
                if place is None or place in met:
                    continue
                met.add(place)
                wire = self._access.connect(place, until)
                _must_be_master(wire, until)
            except (StoreDown, Lost) as error:
                why = error.reason
                continue
            if self._seeds[0] != seed:
                self._seeds.remove(seed)
                self._seeds.insert(0, seed)
            return wire
        self._seeds.append(self._seeds.pop(0))
        raise StoreDown(why)

    def has_moved(self, wire: Wire, deadline: float) -> bool:
        """A master that was cut off from its Sentinels goes on taking writes, which will be lost."""
        named: Counter[Place] = Counter()
        for seed, until in _shares(self._seeds, deadline):
            with contextlib.suppress(StoreDown, Lost):
                place = self._ask(seed, until)
                if place is not None:
                    named[place] += 1
        return named.total() > 2 * named[wire.place]

    def _ask(self, seed: Place, deadline: float) -> Place | None:
        wire = self._sentinels.connect(seed, deadline)
        try:
            reply = wire.ask([("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._master)], deadline)[0]
        finally:
            wire.close()
        if isinstance(reply, ReplyError):
            raise StoreDown(f"a Sentinel refuses: {reply.code}")
        return (reply[0].decode(), int(reply[1])) if reply else None


class Cluster(Topology):
    """The node that serves the tag's slot, as the nodes themselves say."""

    splits = True

    def __init__(self, access: Access, seeds: tuple[Place, ...]) -> None:
        super().__init__(access, seeds[0])
        self._seeds = list(seeds)
        self._nodes: list[Place] = []  # that were named; who gave a good answer comes first
        self._owners: dict[int, Place] = {}  # of slots, as far as they were asked for

    def connect(self, tag: str, deadline: float) -> Wire:
        """A connection to the node; the one that had the slot last is asked first, and is often still the right one."""
        slot = slot_of(tag)
        owner = self._owners.get(slot)
        asked = list(dict.fromkeys([*([owner] if owner else []), *self._nodes, *self._seeds]))
        why = "no node of the Cluster answers"
        failed: set[Place] = set()
        for place, until in _shares(asked, deadline):
            if place in failed:
                continue
            now_at = place
            try:
                wire = self._access.connect(place, (time.monotonic() + until) / 2)
                named = self._owner(wire, slot, until)
                if named in failed:
                    continue
                if named is not None:
                    now_at = named
                    wire = self._access.connect(named, until)
            except (StoreDown, Lost) as error:
                why = error.reason
                failed.add(now_at)
                continue
            self._owners[slot] = now_at
            return wire
        self._owners.pop(slot, None)
        self._nodes = [*(each for each in self._nodes if each not in failed), *failed]
        raise StoreDown(why)

    def moved(self, tag: str, place: Place | None) -> None:
        """Ask there first."""
        if place is not None:
            self._owners[slot_of(tag)] = place

    def _owner(self, wire: Wire, slot: int, deadline: float) -> Place | None:
        """Who serves the slot, as this node says; None: it does itself, else its connection is closed. Learns the names
        of all masters.
        """
        mine = False
        try:
            own_id, ranges = wire.ask([("CLUSTER", "MYID"), ("CLUSTER", "SLOTS")], deadline)
            for reply in (own_id, ranges):
                if isinstance(reply, ReplyError):
                    raise StoreDown(f"not a node of a Cluster: {reply.text}")
            owner, owner_id = self._read(ranges, slot, wire.place[0])
            mine = owner_id == own_id
        finally:
            if not mine:
                wire.close()
        return None if mine else owner

    def _read(self, ranges: list[Any], slot: int, host: str) -> tuple[Place, bytes]:
        """The node of the slot and its id, by the reply to CLUSTER SLOTS that came from `host`."""
        masters: dict[Place, None] = {}
        owner, owner_id = None, b""
        for first, last, master, *_ in ranges:
            place = ((master[0] or b"").decode() or host, int(master[1]))  # no host: the one we came to
            masters[place] = None
            if first <= slot <= last:
                owner, owner_id = place, master[2]
        self._nodes = list(masters)
        if owner is None:
            raise StoreDown("no node of the Cluster serves the slot")
        return owner, owner_id


def _shares(places: list[Place], deadline: float) -> Iterator[tuple[Place, float]]:
    """The first few of the places, each with a share of the time, so that a frozen one leaves some to the others."""
    few = places[:ASKED_AT_ONCE]
    for number, place in enumerate(few):
        now = time.monotonic()
        if now < deadline:
            yield place, now + (deadline - now) / (len(few) - number)


def _must_be_master(wire: Wire, deadline: float) -> None:
    try:
        role = wire.ask([("ROLE",)], deadline)[0]
    except Lost:
        wire.close()
        raise
    if isinstance(role, list) and role[0] != b"master":  # hidden: READONLY will tell
        wire.close()
        raise StoreDown(f"not the master: {role[0].decode('ascii', 'replace')}")
