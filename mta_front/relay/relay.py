"""A relay: a consumer for each shard of the queue, over the same transports and the same connections to the store."""

from __future__ import annotations

import contextlib
import math
import os
import secrets
import socket
import time

import gevent

from mta_front.observe.events import Events
from mta_front.relay.consumer import Consumer
from mta_front.relay.delivery import Reporting
from mta_front.relay.ourselves import Ourselves
from mta_front.relay.reports import Reports
from mta_front.relay.routing import Routing, Share
from mta_front.relay.schedule import Schedule
from mta_front.settings.model import Settings
from mta_front.store.errors import StoreError
from mta_front.store.options import StoreOptions
from mta_front.store.places import Places
from mta_front.store.policies import Policies
from mta_front.store.queue import Queue, QueueLinks
from mta_front.store.turns import Turns

LOOK_S = 1.0
CLOSE_S = 1.0


class Relay:
    """All that a relay process does, without the process."""

    def __init__(self, settings: Settings, store_url: str, events: Events) -> None:
        options = StoreOptions.of(settings, store_url)
        # Unlike that of any relay that ever lived: a new one must not take its predecessor's claims for its own.
        consumer = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        schedule = Schedule(settings.relay.schedule_s, settings.relay.expire_s)
        limit = math.ceil(settings.relay.concurrency / options.shards)
        name = settings.server.name or socket.getfqdn()
        reporting = Reporting(settings.relay.delay_warning_s, settings.relay.dead_letters)
        reports = Reports(schedule, reporting, name, settings.relay.return_max_bytes, events)
        self._links = QueueLinks(options, events)
        names = [name, *(listener.server_name for listener in settings.listeners)]
        ourselves = Ourselves(names, [bind for listener in settings.listeners for bind in listener.addresses])
        paced = any(route.rate for route in settings.relay.routes)
        few = any(route.fleet_connections for route in settings.relay.routes)
        turns = Turns(options, events) if paced else None
        places = Places(options, events) if few else None
        asks = any(route.transport == "mx" and route.mta_sts for route in settings.relay.routes)
        policies = Policies(options, events) if asks else None
        self._shared = [shared for shared in (turns, places, policies) if shared is not None]
        self._routing = Routing(settings.relay.routes, name, events, ourselves, Share(turns, places, policies))
        self._queues = [
            Queue(options, shard, consumer, settings.relay.lease_s, events, links=self._links)
            for shard in range(options.shards)
        ]
        self._consumers = [
            Consumer(queue, shard, self._routing, reports, limit, events) for shard, queue in enumerate(self._queues)
        ]

    @property
    def answered(self) -> bool:
        """Whether the store, each part of it, has answered once since the start."""
        return all(queue.answered for queue in self._queues)

    @property
    def fault(self) -> StoreError | None:
        """Why the store cannot be used now."""
        return self._links.fault

    def __len__(self) -> int:
        """Messages in hand."""
        return sum(map(len, self._consumers))

    def start(self) -> None:
        """Begin to relay; returns at once, whether the store is there or not."""
        self._links.start()
        for shared in self._shared:
            shared.start()
        for queue, consumer in zip(self._queues, self._consumers, strict=True):
            queue.start()
            consumer.start()
        gevent.spawn(self._look_forever)

    def drain(self, timeout_s: float) -> bool:
        """Take no more, finish what is in hand, write what came of it. False: not all was done in `timeout_s`."""
        deadline_at = time.monotonic() + timeout_s
        waits = [gevent.spawn(consumer.drain, timeout_s) for consumer in self._consumers]
        gevent.joinall(waits, timeout_s)
        self._routing.close()
        if len(self):
            return False
        for queue in self._queues:
            if time.monotonic() < deadline_at:
                queue.leave()
        return True

    def close(self) -> None:
        """End at once. What is in hand is given back, or, where that cannot be, taken over when its lease expires."""
        with gevent.Timeout(CLOSE_S, False):
            for consumer in self._consumers:
                with contextlib.suppress(StoreError):
                    consumer.abandon()
        for queue in self._queues:
            queue.close()
        self._links.close()
        for shared in self._shared:
            shared.close()

    def _look_forever(self) -> None:
        while True:
            gevent.sleep(LOOK_S)
            self._routing.look(time.monotonic())
