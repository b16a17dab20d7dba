"""The main of a worker process: one slot's sockets, served by gevent, until the master says otherwise."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from mta_front.hooks import load_hooks
from mta_front.master.child import ChildContext

if TYPE_CHECKING:
    from mta_front.config import Listener
    from mta_front.net.session import SessionOptions


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
    for name, sock in child.sockets:
        listener = listeners[name]
        control = RelayControl(listener.relay_domains, listener.trusted_networks)
        server.add(
            sock,
            session_options(listener, settings.server.name),
            Front(hooks, spool, control, settings.server.name),
            math.ceil(listener.max_clients / settings.server.workers),
        )
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


def session_options(listener: Listener, server_name: str) -> SessionOptions:
    """What a listener's settings mean for its sessions."""
    from mta_front.net.session import SessionOptions
    from mta_front.smtp import replies
    from mta_front.smtp.connection import ConnectionOptions
    from mta_front.smtp.extensions import advertised

    return SessionOptions(
        listener=listener.name,
        server_name=server_name,
        banner=replies.banner(server_name, listener.banner),
        extensions=advertised(
            size_bytes=listener.size_bytes,
            hide_pipelining=listener.hide_pipelining,
            hide_size=listener.hide_size,
            hide_8bitmime=listener.hide_8bitmime,
            hide_enhancedstatuscodes=listener.hide_enhancedstatuscodes,
            hide_smtputf8=listener.hide_smtputf8,
        ),
        connection=ConnectionOptions(
            lmtp=listener.protocol == "lmtp",
            lenient_address_parsing=listener.lenient_address_parsing,
            disabled_commands=frozenset(listener.disabled_commands),
            size_bytes=listener.size_bytes,
            max_recipients=listener.max_recipients,
            bare_newline=listener.bare_newline,
        ),
        socket_timeout_s=listener.socket_timeout_s,
        session_timeout_s=listener.session_timeout_s,
    )
