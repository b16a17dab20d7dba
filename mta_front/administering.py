"""The main of the admin process: serves `observe.admin` over HTTP, and `observe.agent` to HAProxy, on the sockets that
the master opened.
"""

from __future__ import annotations

import contextlib
import socket
from typing import Any

from mta_front.master.child import ChildContext

CONNECTIONS_MAX = 200
SILENCE_TIMEOUT_S = 10.0
"""A connection that says nothing for so long is closed: probes and scrapers come again."""


def main(child: ChildContext) -> int:
    """Patch, then serve. Returns the exit code of the process."""
    from gevent import monkey

    monkey.patch_all()
    return _serve(child)


def _serve(child: ChildContext) -> int:
    from gevent import Timeout, spawn
    from gevent.event import Event
    from gevent.pool import Pool
    from gevent.pywsgi import WSGIHandler, WSGIServer
    from gevent.socket import socket as GreenSocket  # noqa: N812 - it is a class

    from mta_front.inspecting import AWAY, inspector_of, options_of
    from mta_front.lifeline import Lifeline
    from mta_front.observe.access import Access
    from mta_front.observe.admin import Admin
    from mta_front.observe.agent import AgentPort, capacity_of, line_of
    from mta_front.observe.log import logger
    from mta_front.observe.operations import LimitDesk

    class Handler(WSGIHandler):  # type: ignore[misc]
        """pywsgi's, with a limit on a client's silence, and on the time that one request may take to arrive."""

        def __init__(self, sock: Any, address: Any, server: Any) -> None:
            sock.settimeout(SILENCE_TIMEOUT_S)
            super().__init__(sock, address or ("", 0), server)

        def handle_one_request(self) -> Any:
            with Timeout(SILENCE_TIMEOUT_S, TimeoutError()):
                return super().handle_one_request()

        def handle(self) -> None:
            with contextlib.suppress(TimeoutError, ConnectionError):  # pywsgi has closed the connection
                super().handle()

    ended = Event()
    settings = child.settings.admin
    limits = options_of(child.settings, child.store_url)
    desk = LimitDesk(lambda: inspector_of(limits), AWAY)
    access = Access(settings.token.get_secret_value(), [child.settings.server.name, *settings.hosts])
    admin = Admin(child.metrics_dir, access=access, operations=desk.operations)
    lifeline = Lifeline(child.control, on_drain=lambda *_: ended.set(), on_stop=ended.set, on_status=admin.hear)
    lifeline.start()

    sockets = dict(child.sockets)
    listening = sockets["admin"]
    # The object stems from before the patch: its descriptor goes on in one that waits in the hub.
    green = GreenSocket(listening.family, socket.SOCK_STREAM, fileno=listening.detach())
    server = WSGIServer(
        green, admin, log=None, error_log=_ErrorLog(logger()), handler_class=Handler, spawn=Pool(CONNECTIONS_MAX)
    )
    server.start()
    if "agent" in sockets:
        capacity = capacity_of(child.settings)
        spawn(AgentPort(sockets["agent"], lambda: line_of(admin.status, admin.faults(), capacity)).serve)
    lifeline.report(ready={"accepting": True})
    ended.wait()
    server.stop(timeout=0.5)
    return 0


class _ErrorLog:
    """A file-like object for what pywsgi writes: tracebacks, and complaints about clients."""

    def __init__(self, log: Any) -> None:
        self._log = log

    def write(self, text: str) -> None:
        if "Traceback" in text:
            self._log.error("admin request failed", exception=text.strip())
        elif text.strip():
            self._log.debug("admin request refused", reason=text.strip())  # a client that speaks no HTTP

    def flush(self) -> None:
        """Nothing is kept back."""
