"""Delivery by HTTP to Python's own http.server, and to what speaks HTTP badly."""

from __future__ import annotations

import base64
import http.server
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from mta_front.relay.transports.http import HttpOptions, HttpTransport, headers_of
from mta_front.relay.transports.opener import Credentials, Trust
from mta_front.store.entry import Entry
from mta_front.store.errors import StoreBodyGone, StoreDown
from tests.ports import free_port
from tests.relay.attempts import BODY, Noted, Try, deliver, pieces
from tests.relay.scripted import ScriptedHop, Talk
from tests.relay.tlshops import server_context
from tests.tls.authority import Authority


class WebHop:
    """Takes posts. `status`, `answer` and `headers` may be changed; `posts` has what came whole."""

    def __init__(self, context: Any = None) -> None:
        hop = self
        self.status = 200
        self.answer = b"taken\n"
        self.headers = {"Content-Type": "text/plain"}
        self.posts: list[tuple[str, dict[str, str], bytes]] = []
        self.connections = 0

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                hop.connections += 1

            def do_POST(self) -> None:
                body = b""
                while size := int(self.rfile.readline(), 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                hop.posts.append((self.path, dict(self.headers.items()), body))
                self.send_response(hop.status)
                for name, value in hop.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(hop.answer)))
                self.end_headers()
                self.wfile.write(hop.answer)

            def log_message(self, *_: Any) -> None:
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: Any) -> None:
                pass

        self.port = free_port()
        self.server = Server(("127.0.0.1", self.port), Handler)
        if context is not None:
            self.server.socket = context.wrap_socket(
                self.server.socket, server_side=True, do_handshake_on_connect=False
            )
        self.url = f"{'http' if context is None else 'https'}://127.0.0.1:{self.port}/in?a=b"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(5.0)


@pytest.fixture
def make() -> Iterator[Callable[..., HttpTransport]]:
    noted, made = Noted(), list[HttpTransport]()

    def transport(url: str, credentials: Credentials | None = None, trust: Trust | None = None) -> HttpTransport:
        made.append(HttpTransport(HttpOptions(url, 4, 5.0, 5.0, credentials, trust or Trust()), noted))
        return made[-1]

    yield transport
    for each in made:
        each.close()
    assert noted.faults == []


@pytest.fixture
def hop() -> Iterator[WebHop]:
    with WebHop() as hop:
        yield hop


Make = Callable[..., HttpTransport]


def test_message_and_envelope(make: Make, hop: WebHop) -> None:
    body = b"".join(b"%d\r\n.\r\n" % number for number in range(60_000))
    transport = make(hop.url)
    one = Try(["b@y.example", 'c,"%@y.example'], lambda: pieces(body, 65_536), mail_from="ü@x.example", user="ann")
    deliver(transport, one)
    assert one.kinds == ["delivered"] * 2
    assert str(one.outcomes and one.outcomes[0]) == "250 2.0.0 HTTP 200: taken"
    assert one.next_hop == f"127.0.0.1:{hop.port}/in"
    ((path, headers, content),) = hop.posts
    assert content == body
    assert path == "/in?a=b"
    assert headers["Host"] == f"127.0.0.1:{hop.port}"
    assert headers["Content-Type"] == "message/rfc822"
    assert headers["X-Mail-Envelope-From"] == "<%C3%BC@x.example>"
    assert headers["X-Mail-Envelope-To"] == '<b@y.example>, <c%2C"%25@y.example>'
    assert headers["X-Mail-Queue-Id"] == one.id
    assert headers["X-Mail-User"] == "ann"
    assert "Authorization" not in headers


def test_connections_are_kept_and_a_repeat_can_be_told(make: Make, hop: WebHop) -> None:
    transport = make(hop.url)
    tries = [Try(), Try()]
    for each in [*tries, tries[0]]:
        each.reports = 0
        deliver(transport, each)
    assert hop.connections == 1
    keys = [headers["Idempotency-Key"] for _, headers, _ in hop.posts]
    assert keys[0] == keys[2] != keys[1]


@pytest.mark.parametrize("name", ["mail_from", "user", "helo", "client_name", "listener"])
def test_no_header_can_be_smuggled_in(name: str) -> None:
    entry = Entry(id="1", received_at=1.0)
    setattr(entry, name, "a\r\nX-Evil: 1\r\n\r\n\0\udcff")
    for value in headers_of(entry, ["b\r\nX-Evil: 1@y.example"]).values():
        assert value.isascii()
        assert value.isprintable()


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (200, "delivered 250 2.0.0 HTTP 200: taken"),
        (202, "delivered 250 2.0.0 HTTP 202: taken"),
        (301, "deferred 451 4.0.0 HTTP 301: taken"),
        (400, "failed 554 5.0.0 HTTP 400: taken"),
        (401, "deferred 451 4.0.0 HTTP 401: taken"),
        (404, "deferred 451 4.0.0 HTTP 404: taken"),
        (413, "failed 552 5.3.4 HTTP 413: taken"),
        (422, "failed 554 5.0.0 HTTP 422: taken"),
        (429, "deferred 451 4.0.0 HTTP 429: taken"),
        (500, "deferred 451 4.0.0 HTTP 500: taken"),
        (503, "deferred 451 4.0.0 HTTP 503: taken"),
    ],
)
def test_what_a_status_means(make: Make, hop: WebHop, status: int, expected: str) -> None:
    hop.status = status
    deliver(make(hop.url), one := Try())
    assert f"{one.only.kind} {one.only}" == expected


def test_of_an_answer_only_text_is_passed_on_and_not_all_of_it(make: Make, hop: WebHop) -> None:
    transport = make(hop.url)
    hop.answer = b"a\x1b[31mb" + b"x" * 10_000
    deliver(transport, one := Try())
    assert one.only.text.startswith("2.0.0 HTTP 200: a?[31mbxxx")
    assert len(one.only.text) < 300
    hop.headers = {"Content-Type": "text/html"}
    deliver(transport, one := Try())
    assert one.only.text == "2.0.0 HTTP 200"


def test_logins(make: Make, hop: WebHop, tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.write_text("abc.def\n")
    for credentials, said in (
        (Credentials("ann", "p:ä"), "Basic " + base64.b64encode("ann:p:ä".encode()).decode()),
        (Credentials("", path=secret), "Bearer abc.def"),
    ):
        deliver(make(hop.url, credentials), one := Try())
        assert one.kinds == ["delivered"]
        assert hop.posts[-1][1]["Authorization"] == said
    deliver(make(hop.url, Credentials("", path=tmp_path / "nothing")), one := Try())
    assert "No such file" in one.only.text
    assert one.only.kind == "deferred"


def test_https_wants_a_certificate_for_the_host(make: Make, tmp_path: Path) -> None:
    from ipaddress import ip_address

    from cryptography import x509

    authority = Authority()
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    trust = Trust([str(tmp_path / "ca.pem")])
    good = authority.issue("x", sans=[x509.IPAddress(ip_address("127.0.0.1"))])
    with WebHop(server_context(tmp_path, good)) as hop:
        deliver(make(hop.url, trust=trust), one := Try())
        assert one.kinds == ["delivered"]
        deliver(make(hop.url), two := Try())
        assert two.only.text.endswith("its certificate does not verify: unknown issuer")
    with WebHop(server_context(tmp_path, authority.issue("other.example"))) as hop:
        deliver(make(hop.url, trust=trust), one := Try())
        assert one.only.text.endswith("its certificate is not for 127.0.0.1")
        assert hop.posts == []


def test_a_message_that_is_no_longer_ours_is_not_posted_whole(make: Make, hop: WebHop) -> None:
    deliver(make(hop.url), one := Try(may_finish=lambda: False))
    assert one.let_go
    assert hop.posts == []


def test_bodies_that_cannot_be_had(make: Make, hop: WebHop) -> None:
    for error, kind in ((StoreBodyGone("gone"), "failed"), (StoreDown("down"), "deferred")):

        def body(error: Exception = error) -> Iterator[bytes]:
            yield BODY
            raise error

        deliver(make(hop.url), one := Try(body=body))
        assert one.only.kind == kind
    assert hop.posts == []


def test_a_connection_that_was_closed_in_between_costs_nothing(make: Make) -> None:
    def once(talk: Talk) -> None:
        while talk.hear():
            pass
        while talk.hear() != b"0":
            pass
        talk.hear()
        talk.say(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    with ScriptedHop(once) as hop:
        transport = make(f"http://{hop.address}/")
        for _ in range(3):
            deliver(transport, one := Try())
            assert one.kinds == ["delivered"]
        assert len(hop.talks) == 3


@pytest.mark.parametrize(
    "said", [b"", b"220 smtp\r\n", b"HTTP/1.1 2", b"HTTP/1.1 999999 x\r\n\r\n", b"\x16\x03\x01\r\n"]
)
def test_answers_that_are_none_leave_it_uncertain(make: Make, said: bytes) -> None:
    def script(talk: Talk) -> None:
        while talk.hear() != b"0":
            pass
        talk.hear()
        talk.say(said)

    with ScriptedHop(script) as hop:
        deliver(make(f"http://{hop.address}/"), one := Try())
        assert one.only.kind == "deferred"
        assert one.only.uncertain


def test_nobody_there(make: Make) -> None:
    port = free_port()
    transport = make(f"http://127.0.0.1:{port}/")
    for _ in range(2):
        deliver(transport, one := Try())
        assert one.only.text == f"connect to 127.0.0.1:{port}: Connection refused"
