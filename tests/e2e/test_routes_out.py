"""Routes of a running server: over TLS with a login, to mail exchangers found by DNS, and to a URL."""

from __future__ import annotations

import base64
import smtplib
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.dnsserver import DnsServer
from tests.front import Front
from tests.ports import free_port
from tests.relay.scripted import ScriptedHop, polite
from tests.relay.test_http_transport import WebHop
from tests.relay.tlshops import TlsHop, server_context
from tests.settingsfile import OURS
from tests.tls.authority import Authority
from tests.wait import until

OFFER = b"250-hop\r\n250-AUTH PLAIN\r\n250 PIPELINING\r\n"


def test_three_ways_out(tmp_path: Path, serve: Callable[..., Front]) -> None:
    authority = Authority()
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    (tmp_path / "secret").write_text("s3cret\n")
    port = free_port()
    records = {
        "by-mx.example": ["MX 5 down.example.", "MX 10 mx.example."],
        "down.example": ["A 127.0.0.3"],
        "mx.example": ["A 127.0.0.2"],
    }
    over_tls = partial(polite, offer=OFFER, GREETING=b"")
    context = server_context(tmp_path, authority.issue("localhost"))
    with (
        TlsHop(context, over_tls=over_tls) as smarthost,
        DnsServer(records) as names,
        ScriptedHop(target=("127.0.0.2", port)) as exchanger,
        WebHop() as web,
    ):
        routes = [
            {"senders": ["web@client.example"], "transport": "http", "url": web.url},
            {
                "recipients": ["by-mx.example"],
                "transport": "mx",
                "port": port,
                "dns_servers": ["{}:{}".format(*names.address)],
            },
            {
                "next_hops": [f"localhost:{smarthost.port}"],
                "tls": "verify",
                "tls_ca": str(tmp_path / "ca.pem"),
                "username": "front",
                "password_file": str(tmp_path / "secret"),
            },
        ]
        domains = [OURS, "by-mx.example"]
        front = serve({}, relay={"routes": routes}, listener={"relay_domains": domains, "reverse_lookup": False})
        with smtplib.SMTP(*front.address, timeout=10.0) as client:
            for sender, recipient in (
                ("web@client.example", f"b@{OURS}"),
                ("a@client.example", "b@by-mx.example"),
                ("a@client.example", f"b@{OURS}"),
            ):
                client.sendmail(sender, [recipient], f"Subject: x\r\n\r\n{recipient}\r\n")
        front.await_empty_queue()
        ((_, headers, body),) = web.posts
        assert headers["X-Mail-Envelope-From"] == "<web@client.example>"
        assert headers["X-Mail-Listener"] == "mx"
        assert body.endswith(b"\r\n\r\nb@ours.example\r\n")
        until(lambda: exchanger.bodies and smarthost.bodies, 10.0, "all were taken")
        assert [len(each.bodies) for each in (exchanger, smarthost)] == [1, 1]
        login = base64.b64encode(b"\0front\0s3cret")
        assert smarthost.talks[0].heard[3] == b"AUTH PLAIN " + login
    assert "s3cret" not in front.log_text()
    assert login.decode() not in front.log_text()
