"""The main of a worker process: one slot's sockets, served by gevent, until the master says otherwise."""

from __future__ import annotations

import gc
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mta_front.allocator import keep_freed_memory
from mta_front.config import Listener
from mta_front.hooks import is_overridden, load_hooks
from mta_front.master.child import ChildContext
from mta_front.settings.tls import tls_of_listeners

if TYPE_CHECKING:
    from mta_front.net.options import SessionOptions
    from mta_front.net.tally import Tally


def main(child: ChildContext) -> int:
    """Patch, then serve. Returns the exit code of the process."""
    from gevent import monkey

    monkey.patch_all()
    keep_freed_memory()
    return _serve(child)


def _serve(child: ChildContext) -> int:
    import gevent
    from gevent.event import Event

    from mta_front.blocking import HooksInThreads
    from mta_front.keyring import Keyring
    from mta_front.lifeline import Lifeline, report_faults
    from mta_front.net.privileges import METHOD
    from mta_front.observe.events import Several
    from mta_front.observe.log import LogEvents, logger
    from mta_front.observe.metrics import MetricEvents, Metrics, share
    from mta_front.policy.auth.build import build
    from mta_front.policy.front import Front
    from mta_front.policy.limiting import Limiting
    from mta_front.policy.relaycontrol import RelayControl
    from mta_front.policy.unseen import Unseen
    from mta_front.reach import Reach
    from mta_front.renewal import Renewal
    from mta_front.server import Server
    from mta_front.settings.limitoptions import limit_options
    from mta_front.store.client import StoreOptions
    from mta_front.store.limits.shared import Limits
    from mta_front.store.spool import Spool
    from mta_front.watchdog import Watchdog

    settings = child.settings
    ended = Event()
    share(child.metrics_dir, child.lane)
    sink = Several(MetricEvents(Metrics(), limits=True), LogEvents())
    report_faults(sink.fault)
    server = Server(sink, settings.server.max_connections)
    reach = Reach(child.others)

    def drain(timeout_s: float, grace_s: float) -> None:
        gevent.sleep(grace_s)
        reach.end(lifeline.closing)
        gevent.sleep(0)  # who was accepted last is a session from the next turn on
        server.drain(timeout_s - grace_s)
        ended.set()

    lifeline = Lifeline(
        child.control,
        on_drain=drain,
        on_stop=ended.set,
        on_cover=reach.cover,
        drain_timeout_s=settings.server.drain_timeout_s,
    )
    server.on_change = lambda: lifeline.count(server.connections)
    lifeline.start()

    store = StoreOptions.of(settings, child.store_url)
    spool = Spool(store, sink)
    spool.start()
    limits = Limits(limit_options(settings, store), sink)
    limits.start()
    unseen = Unseen(spool)
    limiting = Limiting(limits, unseen)
    hooks = load_hooks(settings.hooks.class_)
    if settings.hooks.blocking:
        hooks = HooksInThreads(hooks)
    wanted = frozenset(method for listener in settings.listeners for method in listener.auth_methods)
    logins = build(
        settings.auth,
        store,
        on_auth=hooks.on_auth if is_overridden(hooks, "on_auth") else None,
        hook_methods=wanted | {METHOD},
        events=sink,
        report=lambda line: logger().warning("login", reason=line),
    )
    keyring = Keyring(tls_of_listeners(settings), child.key_files, sink)
    lifeline.on_certificates = keyring.update
    listeners = {listener.name: listener for listener in settings.listeners}
    tallies = {name: tally(listener, child) for name, listener in listeners.items()}
    for name, sock in child.sockets:
        listener, certificates = listeners[name], keyring.of(name)
        options = replace(
            session_options(listener, settings.server.name),
            tls=certificates.channel if certificates else None,
            auth_methods=tuple(method for method in listener.auth_methods if method in logins.methods),
        )
        front = Front(
            hooks,
            spool,
            RelayControl(listener.relay_domains, listener.trusted_networks),
            logins,
            limiting,
            options.name,
            unseen=unseen,
            unlisted_senders=settings.auth.unlisted_senders,
            null_sender=settings.auth.null_sender,
        )
        reach.add(name, server.add(sock, options, front, tallies[name], limiting), sock)
    gc.collect()
    gc.freeze()  # what was loaded stays: the collector need not walk through it while sessions wait
    server.start()
    lifeline.report(ready={"accepting": True})
    Watchdog(settings.server.block_warn_ms, lifeline.tell_standstill).start(child.stack_file)
    enough = Renewal(settings.server.max_sessions, settings.server.max_memory_bytes, lambda: server.served)
    enough.start(lambda reason: lifeline.report(renew=reason))

    lifeline.tell_store(lambda: spool.answered, lambda: spool.fault)
    ended.wait()
    logins.close()
    limits.close()
    spool.close()
    return 0


def tally(listener: Listener, child: ChildContext) -> Tally:
    """The count of a listener's sessions, over all workers when there is a limit."""
    from mta_front.net.tally import LocalTally, SharedTally

    if not listener.max_clients:
        return LocalTally(0)
    return SharedTally(Path(child.clients_dir, listener.name), child.lane, listener.max_clients)


def session_options(listener: Listener, server_name: str) -> SessionOptions:
    """What a listener's settings mean for its sessions: each option has the name of its key. Certificates come later:
    `tls` makes connections there, and is a table here.
    """
    from mta_front.net.options import SessionOptions

    given = {option.name for option in fields(SessionOptions) if option.init} - {"tls"}
    values = {name: getattr(listener, name) for name in given if name in Listener.model_fields}
    return SessionOptions(
        **values
        | {
            "listener": listener.name,
            "name": listener.server_name or server_name,
            "lmtp": listener.protocol == "lmtp",
            "auth_methods": tuple(listener.auth_methods),
            "disabled_commands": frozenset(listener.disabled_commands),
        }
    )
