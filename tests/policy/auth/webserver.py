"""An HTTP server on loopback that says what a test wants, in threads of the test's own process."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = tuple[int, Any]
"""Status, and what becomes JSON; bytes go as they are."""


@dataclass
class Heard:
    """One request. `connection` tells connections apart."""

    path: str
    headers: dict[str, str]
    body: bytes
    connection: int

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Web:
    """`answer(heard)` is called for each request; `script(socket)` instead, if set, has the connection to itself."""

    answer: Callable[[Heard], Answer]
    heard: list[Heard] = field(default_factory=list)
    script: Callable[[socket.socket], None] | None = None
    url: str = ""
    close_after: bool = False
    connections: int = 0
    most_at_once: int = 0
    over: threading.Event = field(default_factory=threading.Event)


@contextlib.contextmanager
def serving(answer: Callable[[Heard], Answer], tls: ssl.SSLContext | None = None) -> Iterator[Web]:
    """A running server; `web.url` is its address."""
    web = Web(answer)
    numbers = iter(range(1_000_000))
    lock = threading.Lock()
    at_once = 0

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def setup(self) -> None:
            super().setup()
            with lock:
                self.number = next(numbers)
                web.connections += 1

        def handle(self) -> None:
            if web.script is not None:
                web.script(self.connection)
            else:
                with contextlib.suppress(ConnectionError):
                    super().handle()

        def do_GET(self) -> None:
            nonlocal at_once
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            heard = Heard(self.path, {k.lower(): v for k, v in self.headers.items()}, body, self.number)
            with lock:
                web.heard.append(heard)
                at_once += 1
                web.most_at_once = max(web.most_at_once, at_once)
            status, what = web.answer(heard)
            with lock:
                at_once -= 1
            data = what if isinstance(what, bytes) else json.dumps(what).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            if status in (301, 302, 307, 308):
                self.send_header("location", "/elsewhere")
            self.end_headers()
            self.wfile.write(data)
            self.close_connection = web.close_after  # without saying so: a stale connection

        do_POST = do_GET  # noqa: N815

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    web.url = f"{'https' if tls else 'http'}://{'localhost' if tls else '127.0.0.1'}:{server.server_address[1]}/auth"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield web
    finally:
        web.over.set()
        server.shutdown()
        server.server_close()
        thread.join()
