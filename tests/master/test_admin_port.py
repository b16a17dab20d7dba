"""The admin port over real HTTP: what a probe, a scraper and somebody with bad manners get."""

from __future__ import annotations

import http.client
import socket
from pathlib import Path

from tests.master.driven import Driven
from tests.wait import until


def test_one_connection_serves_many_requests(tmp_path: Path) -> None:
    front = Driven(tmp_path, server={"workers": 1}).start()
    host, port = front.settings["admin"]["bind"].split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=5.0)
    try:
        for method, path, status in (
            ("GET", "/livez", 200),
            ("HEAD", "/readyz", 200),
            ("GET", "/metrics", 200),
            ("POST", "/status", 405),
            ("GET", "/nothing", 404),
            ("GET", "/status", 200),
        ):
            connection.request(method, path)
            response = connection.getresponse()
            body = response.read()
            assert response.status == status, (method, path)
            assert bool(body) == (method == "GET" or status == 405)
    finally:
        connection.close()


def test_nonsense_and_silence_leave_it_working(tmp_path: Path) -> None:
    front = Driven(tmp_path, server={"workers": 1}).start()
    host, port = front.settings["admin"]["bind"].split(":")
    silent = [socket.create_connection((host, int(port)), timeout=5.0) for _ in range(50)]
    with socket.create_connection((host, int(port)), timeout=5.0) as rude:
        rude.sendall(b"\x16\x03\x01 no http at all\r\n\r\n")
        assert rude.recv(1000).startswith(b"HTTP/1.1 400")
    assert front.ready()
    for client in silent:
        client.close()
    assert not [line for line in front.lines() if line["level"] == "error"]


def test_on_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    front = Driven(tmp_path, server={"workers": 1}, admin={"bind": f"unix:{path}"}).launch()

    def ask(request: bytes) -> bytes:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(5.0)
            client.connect(str(path))
            client.sendall(request + b" HTTP/1.0\r\nHost: localhost\r\n\r\n")
            return b"".join(iter(lambda: client.recv(65536), b""))

    front.await_event("admin ready")
    until(lambda: b" 200 " in ask(b"GET /readyz"), message="ready")
    assert b'"state": "running"' in ask(b"GET /status")
    assert path.stat().st_mode & 0o777 == 0o600
