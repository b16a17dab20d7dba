"""The main of a worker process: one slot's sockets, served by gevent, until the master says otherwise."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from mta_front.config import Listener
from mta_front.hooks import load_hooks
from mta_front.master.child import ChildContext

if TYPE_CHECKING:
    from mta_front.net.options import SessionOptions
    from mta_front.net.tally import Tally


def main(child: ChildContext) -> int:
    """Patch, then serve. Returns the exit code of the process."""
    from gevent import monkey

    monkey.patch_all()
    return _serve(child)


def _serve(child: ChildContext) -> int:
    import gevent
    from gevent.event import Event

    from mta_front.lifeline import Lifeline, report_faults
    from mta_front.observe.events import Several
    from mta_front.observe.log import LogEvents
    from mta_front.observe.metrics import MetricEvents, Metrics, share
    from mta_front.policy.front import Front
    from mta_front.policy.relaycontrol import RelayControl
    from mta_front.server import Server
    from mta_front.store.client import StoreOptions
    from mta_front.store.spool import Spool

    settings = child.settings
    ended = Event()
    share(child.metrics_dir, child.lane)
    sink = Several(MetricEvents(Metrics()), LogEvents())
    report_faults(sink.fault)
    server = Server(sink, settings.server.max_connections)

    def drain(timeout_s: float, grace_s: float) -> None:
        gevent.sleep(grace_s)
        server.stop_accepting()
        server.drain(timeout_s - grace_s)
        ended.set()

    lifeline = Lifeline(
        child.control,
        on_drain=drain,
        on_stop=ended.set,
        drain_timeout_s=settings.server.drain_timeout_s,
        drain_grace_s=settings.server.drain_grace_s,
    )
    lifeline.start()

    spool = Spool(StoreOptions.of(settings, child.store_url), sink)
    spool.start()
    hooks = load_hooks(settings.hooks.class_)
    listeners = {listener.name: listener for listener in settings.listeners}
    tallies = {name: tally(listener, child) for name, listener in listeners.items()}
    for name, sock in child.sockets:
        listener = listeners[name]
        control = RelayControl(listener.relay_domains, listener.trusted_networks)
        options = session_options(listener, settings.server.name)
        server.add(sock, options, Front(hooks, spool, control, options.name), tallies[name])
    server.start()
    lifeline.report(ready={"accepting": True})

    def tell_sessions() -> None:
        told = -1
        while True:
            if server.sessions != told:
                told = server.sessions
                lifeline.report(sessions=told)
            gevent.sleep(1.0)

    lifeline.tell_store(lambda: spool.answered, lambda: spool.fault)
    gevent.spawn(tell_sessions)
    ended.wait()
    spool.close()
    return 0


def tally(listener: Listener, child: ChildContext) -> Tally:
    """The count of a listener's sessions, over all workers when there is a limit."""
    from mta_front.net.tally import LocalTally, SharedTally

    if not listener.max_clients:
        return LocalTally(0)
    return SharedTally(Path(child.clients_dir, listener.name), child.lane, listener.max_clients)


def session_options(listener: Listener, server_name: str) -> SessionOptions:
    """What a listener's settings mean for its sessions: each option has the name of its key."""
    from mta_front.net.options import SessionOptions

    given = {option.name for option in fields(SessionOptions) if option.init}
    values = {name: getattr(listener, name) for name in given if name in Listener.model_fields}
    return SessionOptions(
        **values
        | {
            "listener": listener.name,
            "name": listener.server_name or server_name,
            "lmtp": listener.protocol == "lmtp",
            "disabled_commands": frozenset(listener.disabled_commands),
        }
    )
