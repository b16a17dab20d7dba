"""The main of a relay process: it drains the queue to where messages belong, until the master says otherwise."""

from __future__ import annotations

from mta_front.allocator import keep_freed_memory
from mta_front.master.child import ChildContext


def main(child: ChildContext) -> int:
    """Patch, then relay. Returns the exit code of the process."""
    from gevent import monkey

    monkey.patch_all()
    keep_freed_memory()
    return _relay(child)


def _relay(child: ChildContext) -> int:
    from gevent.event import Event

    from mta_front.lifeline import Lifeline, report_faults
    from mta_front.observe.events import Several
    from mta_front.observe.log import LogEvents
    from mta_front.observe.metrics import MetricEvents, share
    from mta_front.relay.relay import Relay

    settings = child.settings
    ended = Event()
    share(child.metrics_dir, child.lane)
    events = Several(MetricEvents(), LogEvents())
    report_faults(events.fault)
    relay = Relay(settings, child.store_url, events)

    def drain(timeout_s: float, grace_s: float) -> None:
        # The grace is for balancers in front of us; nobody connects to a relay.
        relay.drain(timeout_s)
        ended.set()

    lifeline = Lifeline(
        child.control,
        on_drain=drain,
        on_stop=ended.set,
        drain_timeout_s=settings.server.drain_timeout_s,
    )
    lifeline.start()
    relay.start()
    lifeline.report(ready={"accepting": True})

    lifeline.tell_store(lambda: relay.answered, lambda: relay.fault)
    ended.wait()
    relay.close()
    return 0
