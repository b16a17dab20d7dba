"""deploy/haproxy/haproxy.cfg: HAProxy takes it without a warning, and it does what docs/haproxy.md says."""

from __future__ import annotations

import re
import ssl
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests import front, haproxy
from tests.cli.running import put, run
from tests.haproxy import Balancer, Caller
from tests.ports import free_port
from tests.processes import ROOT
from tests.smtp_talk import Closed
from tests.tls.authority import Authority
from tests.wait import until

FILE = ROOT / "deploy" / "haproxy" / "haproxy.cfg"
DOCUMENT = ROOT / "docs" / "haproxy.md"
PORTS = (25, 587, 465)
"""Of HAProxy; mta-front's are 2525, 2587 and 2465."""
FLOOD = 100
"""Connections at once from one address, by the file."""


def test_haproxy_takes_it_without_a_warning() -> None:
    assert haproxy.complaints([FILE]) == []


def test_haproxy_takes_what_the_document_shows(tmp_path: Path) -> None:
    """Each block of configuration in the document, behind the file, with certificates that exist."""
    pair = Authority().issue("mx.ours.example")
    pem = tmp_path / "site.pem"
    pem.write_bytes(pair.chain_pem + pair.key_pem)
    blocks = re.findall(r"```haproxy\n(.*?)```", DOCUMENT.read_text("utf-8"), re.DOTALL)
    assert blocks
    for number, block in enumerate(blocks):
        more = tmp_path / f"{number}.cfg"
        more.write_text(re.sub(r"/etc/haproxy/\S+\.pem", str(pem), block), "utf-8")
        assert haproxy.complaints([FILE, more]) == [], block


TLS = """
[tls]
self_signed = true
[auth]
backends = ["hook"]
[hooks]
class = "tests.e2e.hooks_that_tell:Telling"
[[relay.routes]]
recipients = ["example.net"]
transport = "discard"
"""


@pytest.mark.parametrize("document", [DOCUMENT, ROOT / "docs" / "xclient.md"])
def test_check_takes_what_the_documents_show(tmp_path: Path, document: Path) -> None:
    """All blocks of settings in a document together, with what they leave out."""
    blocks = re.findall(r"```toml\n(.*?)```", document.read_text("utf-8"), re.DOTALL)
    assert blocks
    result = run(tmp_path, "check", "-c", str(put(tmp_path, "".join(blocks) + TLS)), PYTHONPATH=str(ROOT))
    assert (result.code, result.lines) == (0, [])


@pytest.mark.slow
def test_it_serves(tmp_path: Path) -> None:
    """The file as it is but for addresses, ports and what needs root: mail over all three ports, and a flood ends."""
    authority = Authority()
    key, cert = authority.issue("mx.ours.example").files(tmp_path, "server")
    (tmp_path / "root.pem").write_bytes(authority.pem)
    context = ssl.create_default_context(cafile=str(tmp_path / "root.pem"))
    ports = {port: free_port() for port in (*PORTS, 2525, 2587, 2465, 9581)}
    servers = []
    for address in ("127.0.2.11", "127.0.2.12"):
        home = tmp_path / address
        home.mkdir()
        common: dict[str, Any] = {"use_proxy": ["127.0.0.1/32"], "relay_domains": ["ours.example"]}
        common |= {"auth_optional": True, "reverse_lookup": False}
        server = front.make(
            home,
            {"recipients": ["*"], "transport": "discard"},
            listeners=[
                common | {"name": "mx", "bind": [f"{address}:{ports[2525]}"]},
                common | {"name": "submission", "bind": [f"{address}:{ports[2587]}"], "needs_upgrade": True},
                common | {"name": "submissions", "bind": [f"{address}:{ports[2465]}"], "secure": True},
            ],
            tls={"key": str(key), "cert": str(cert)},
            admin={"agent_check": f"{address}:{ports[9581]}"},
        )
        servers.append(server.start())

    text = FILE.read_text("utf-8").replace("192.0.2.", "127.0.2.").replace("/run/haproxy/admin.sock", "{socket}")
    text = re.sub(r"(?m)^    (user|group) .*\n|^    log /dev/log local1.*\n", "", text)
    text = text.replace("log /dev/log local0", "log stdout format raw local0").replace("maxconn 20000", "maxconn 1000")
    for port, free in ports.items():
        text = re.sub(rf"(?<=[: ]){port}(?= |$)", str(free), text, flags=re.MULTILINE)
    text = re.sub(r"(?m)bind :", "bind 127.0.0.1:", text)
    balancer = Balancer(tmp_path, whole=text).start()
    for proxy in ("smtp", "submission", "submissions"):
        balancer.await_status(proxy, {"mta1": "UP", "mta2": "UP"})
        until(lambda proxy=proxy: balancer.stat(proxy, "mta1")["agent_status"] == "L7OK", message="the agent spoke")  # type: ignore[misc]

    for port in PORTS:
        for _ in servers:
            with Caller(ports[port], "127.0.1.7") as caller:
                if port == 465:
                    caller.secure(context)
                caller.greeting()
                if port == 587:
                    caller.expect("STARTTLS", 220)
                    caller.secure(context)
                    caller.expect("EHLO client.example", 250)
                assert caller.send(b"Subject: hello\r\n\r\nhello\r\n").code == 250
                caller.quit()
    for server in servers:
        assert server.metric("mta_front_messages_accepted_total") == len(PORTS), "leastconn takes turns"
        assert '"client":"127.0.1.7"' in server.log_text()

    with ExitStack() as stack:
        for _ in range(FLOOD):
            stack.enter_context(Caller(ports[25], "127.0.1.9")).greeting()
        with pytest.raises((Closed, ConnectionError)), Caller(ports[25], "127.0.1.9") as one_more:
            one_more.reply()
        with Caller(ports[25], "127.0.1.10") as another:
            another.greeting()
