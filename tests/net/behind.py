"""What tests behind a proxy share: headers, and hooks that note who came."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_network
from typing import Any

from mta_front.hooks import Credentials, Hooks, Message, Session
from mta_front.proxybuild import build_v1, build_v2
from mta_front.proxyproto import Endpoints
from mta_front.proxytlv import Ssl, Tlvs
from mta_front.tls.certificates import self_signed
from mta_front.tls.contexts import load
from mta_front.tls.options import TlsOptions
from tests.net.live import Live, live
from tests.smtp_talk import Talk
from tests.wait import until

HERE = (ip_network("127.0.0.0/8"),)
"""Where tests connect from: the proxy's network."""
ELSEWHERE = (ip_network("10.0.0.0/8"),)

ADDRESS = "192.0.2.1"
CLIENT = Endpoints(ADDRESS, 56324, "198.51.100.2", 25)
CLIENTS = (ip_network("192.0.2.0/24"),)
"""The network of the client behind the proxy."""

TLVS = Tlvs(
    alpn="smtp",
    authority="mx.ours.example",
    unique_id=b"id-1",
    ssl=Ssl(1, 0, version="TLSv1.3", cipher="TLS_AES_256_GCM_SHA384"),
    netns="inside",
    others=((0xE0, b"\x00\xff"), (0xEA, b"\x01vpce-08d2bf15fac5001c9")),
)
V1 = build_v1(CLIENT)
V2 = build_v2(CLIENT)
V2_WITH_TLVS = build_v2(CLIENT, TLVS, checksum=True)
HEADERS = {"v1": V1, "v2": V2}
OWN = {"v1 UNKNOWN": build_v1(None), "v2 AF_UNSPEC": build_v2(None), "v2 LOCAL": build_v2(None, local=True)}
"""Headers of a proxy that speaks for itself."""

KEY, CERT = self_signed("mx.ours.example")
CONTEXTS = load(TlsOptions(key=KEY, cert=CERT))
BODY = b"Subject: x\r\n\r\nx\r\n"


class Seen(Hooks):
    """Accepts, and notes each call with the address of the client: `calls`; the sessions; the messages."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self.sessions: list[Session] = []
        self.messages: list[bytes] = []

    def on_connect(self, session: Session) -> None:
        self.sessions.append(session)
        self.calls.append(("connect", session.remote_address))

    def on_secure(self, session: Session) -> None:
        self.calls.append(("secure", session.remote_address))

    def on_auth(self, credentials: Credentials, session: Session) -> str | None:
        self.calls.append(("auth", session.remote_address))
        return credentials.username if credentials.validate_password("secret") else None

    def on_data(self, message: Message, session: Session) -> None:
        self.messages.append(message.read())
        self.calls.append(("data", session.remote_address))

    def on_close(self, session: Session) -> None:
        self.calls.append(("close", session.remote_address))


def trusting() -> ssl.SSLContext:
    """A client's TLS that takes our certificate."""
    context = ssl.create_default_context(cadata=CERT.decode())
    context.check_hostname = False
    return context


@contextmanager
def behind(hooks: Hooks | None = None, **given: Any) -> Iterator[Live]:
    """A server that takes headers from here."""
    options: dict[str, Any] = {"use_proxy": HERE, "tls": CONTEXTS.channel} | given
    with live(hooks or Seen(), **options) as server:
        yield server


def came(server: Live, header: bytes) -> Talk:
    """Connect with this header and say EHLO."""
    client = Talk(server.address)
    try:
        client.raw(header)
        client.greeting()
    except BaseException:
        client.close()
        raise
    return client


def await_end(server: Live) -> None:
    """Until nobody is there, and all that is said of sessions is said."""
    until(lambda: server.call(lambda running: not running.greenlets))


def let_it_read(server: Live) -> None:
    """Give the server's hub two turns: what was sent is read by then, and no more than that. A test whose octets are
    read together after all is weaker, not wrong.
    """
    for _ in range(2):
        server.call(lambda _: None)
