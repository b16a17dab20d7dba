"""A real HAProxy in front of two masters: whichever way it tells of the client, the client is who it was.

The client has an address of its own, 127.0.1.7; HAProxy comes to the masters from 127.0.0.1, which is all that they
trust to say so.
"""

from __future__ import annotations

import base64
import json
import re
import ssl
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests import front, processes
from tests.haproxy import Balancer, Caller, listen
from tests.ports import free_port
from tests.tls.authority import Authority
from tests.wait import until

CLIENT, STRANGER, PROXY = "127.0.1.7", "127.0.1.8", "127.0.0.1"
MASTERS = ("a", "b")
NAME = "mx.ours.example"
LOGIN = base64.b64encode(b"\0dev\0secret").decode()

TLVS = "send-proxy-v2 proxy-v2-options ssl,cert-cn,ssl-cipher,cert-sig,cert-key,authority,crc32c,unique-id"
UNIQUE_ID = "unique-id-format %{+X}o%ci:%cp_%Ts_%rt"

DOORS = {
    # name: (listener, bind options, server options)
    "v1": ("mx", "", "send-proxy"),
    "v2": ("mx", "", "send-proxy-v2"),
    "tlvs": ("mx", "", TLVS),
    "passed": ("submissions", "", "send-proxy-v2"),
    "ended": ("behind", "ssl crt {pem} ca-file {clients} verify optional", TLVS),
    "clear": ("behind", "", TLVS),
    "unbelieved": ("mx", "ssl crt {pem}", TLVS),
}  # fmt: skip


@dataclass(frozen=True)
class Site:
    """Two masters and what stands before them."""

    masters: dict[str, front.Front]
    balancer: Balancer
    doors: dict[str, int]
    client_pair: tuple[Path, Path]
    root: Path

    def context(self, *, certificate: bool = False) -> ssl.SSLContext:
        """TLS of a client that trusts the test's authority."""
        context = ssl.create_default_context(cafile=str(self.root))
        if certificate:
            key, cert = self.client_pair
            context.load_cert_chain(cert, key)
        return context

    def call(self, door: str, source: str = CLIENT, *, tls: bool = False, certificate: bool = False) -> Caller:
        """A connection through HAProxy."""
        caller = Caller(self.doors[door], source)
        if tls:
            caller.secure(self.context(certificate=certificate), NAME)
        return caller

    def notes(self, hook: str, **fields: Any) -> list[dict[str, Any]]:
        """What the hooks of both masters wrote down."""
        found = []
        for server in self.masters.values():
            path = server.directory / "notes.jsonl"
            lines = path.read_text("utf-8").splitlines() if path.exists() else []
            found += [dict(json.loads(line)) for line in lines]
        return [line for line in found if line["hook"] == hook and fields.items() <= line.items()]

    def logged(self, event: str, **fields: Any) -> dict[str, Any]:
        """A line of one of the logs, once it is there."""

        def search() -> dict[str, Any] | None:
            for server in self.masters.values():
                for row in server.log_text().splitlines():
                    line = json.loads(row) if row.startswith("{") and row.endswith("}") else {}
                    if line.get("event") == event and fields.items() <= line.items():
                        return dict(line)
            return None

        found = until(search, 10.0, f"{event} {fields} in a log")
        assert found
        return found

    def delivered(self, subject: str) -> str:
        """The message with this subject, once it is in a Maildir."""

        def search() -> str:
            for server in self.masters.values():
                for path in (server.directory / "mail" / "new").glob("*"):
                    text = path.read_text("utf-8")
                    if f"Subject: {subject}\n" in text:
                        return text
            return ""

        return until(search, 10.0, f"{subject} is delivered")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """All of it, for all tests of this file."""
    directory = tmp_path_factory.mktemp("site")
    authority, clients = Authority(), Authority("Client Root")
    pair = authority.issue(NAME)
    key, cert = pair.files(directory, "server")
    (directory / "root.pem").write_bytes(authority.pem)
    (directory / "clients.pem").write_bytes(clients.pem)
    (directory / "haproxy.pem").write_bytes(pair.chain_pem + pair.key_pem)
    client_pair = clients.issue("dev", client=True).files(directory, "client")
    ports = {(master, name): free_port() for master in MASTERS for name in ("mx", "submissions", "behind")}
    masters = {}
    for master in MASTERS:
        home = directory / master
        home.mkdir()

        def listener(name: str, master: str = master, **options: Any) -> dict[str, Any]:
            address = f"127.0.0.1:{ports[master, name]}"
            fixed = {"name": name, "bind": [address], "use_proxy": [f"{PROXY}/32"], "reverse_lookup": False}
            return fixed | {"relay_domains": ["ours.example"]} | options

        masters[master] = front.make(
            home,
            {"recipients": ["*"], "transport": "maildir", "path": str(home / "mail")},
            listeners=[
                listener("mx", auth_optional=True, trusted_networks=[f"{CLIENT}/32"]),
                listener("submissions", secure=True),
                listener("behind", proxy_tls_trusted=True),
            ],
            tls={"key": str(key), "cert": str(cert)},
            auth={"backends": ["hook"]},
            hooks={"class": "tests.e2e.hooks_that_tell:Telling"},
            log={"level": "debug"},
        ).start()
    doors = {name: free_port() for name in DOORS}
    sections = []
    for name, (to, bind, server) in DOORS.items():
        servers = {master: ports[master, to] for master in MASTERS}
        files = bind.format(pem=directory / "haproxy.pem", clients=directory / "clients.pem")
        sections.append(listen(name, doors[name], servers, UNIQUE_ID, bind=files, server=server))
    balancer = Balancer(directory, *sections).start()
    started = processes.started.copy()
    processes.started.clear()  # they outlive the first test
    yield Site(masters, balancer, doors, client_pair, directory / "root.pem")
    for program in started:
        program.end()


def send(caller: Caller, rcpt_to: str = "b@ours.example") -> str:
    """One message; its subject."""
    subject = uuid.uuid4().hex
    answer = caller.send(f"Subject: {subject}\r\n\r\nhello\r\n".encode(), rcpt_to=rcpt_to)
    assert answer.code == 250, str(answer)
    return subject


@pytest.mark.parametrize("door", ["v1", "v2", "tlvs"])
def test_the_client_is_who_it_was(site: Site, door: str) -> None:
    """In the answer to EHLO, in hooks, in Received:, in the log, and where relaying is judged; at both masters."""
    masters = set()
    for _ in MASTERS:
        with site.call(door) as caller:
            port = caller.sock.getsockname()[1]
            assert f"[{CLIENT}]" in caller.greeting().lines[0]
            mine = send(caller)
            send(caller, rcpt_to="somebody@elsewhere.example")  # 127.0.1.7 may
            caller.quit()
        text = site.delivered(mine)
        assert re.search(rf"\nReceived: from client\.example \(\[{re.escape(CLIENT)}\]\)\n\tby ", text), text
        (connect,) = site.notes("connect", port=port)
        (data, _) = site.notes("data", port=port)
        for seen in (connect, data):
            assert seen["client"] == CLIENT
            assert seen["local_port"] == site.doors[door], "what the client connected to is HAProxy's"
            assert (seen["proxy"], seen["version"]) == (PROXY, 1 if door == "v1" else 2)
            assert not seen["secure"]
            if door == "tlvs":
                address, number = re.match(r"([0-9A-F]+):([0-9A-F]+)_", seen["unique_id"]).groups()  # type: ignore[union-attr]
                assert (address, int(number, 16)) == ("7F000107", port)
                assert (seen["ssl"], seen["authority"]) == (False, None)
            else:
                assert seen["unique_id"] == ""
        line = site.logged("message accepted", client=CLIENT, rcpt_to=["b@ours.example"], id=_id_of(text))
        site.logged("session closed", client=CLIENT, session=line["session"])
        masters.add(next(name for name, server in site.masters.items() if line["id"] in server.log_text()))
    assert masters == set(MASTERS), "both were used"


@pytest.mark.parametrize("door", ["v1", "v2", "tlvs"])
def test_another_client_is_not_that_one(site: Site, door: str) -> None:
    """That HAProxy is trusted to say who comes gives nobody behind it a right."""
    with site.call(door, STRANGER) as caller:
        caller.greeting()
        caller.expect("MAIL FROM:<a@client.example>", 250)
        caller.expect("RCPT TO:<somebody@elsewhere.example>", 554)


def test_starttls_behind_the_header(site: Site) -> None:
    with site.call("v2") as caller:
        assert "STARTTLS" in caller.greeting().lines
        caller.expect("STARTTLS", 220)
        caller.secure(site.context(), NAME)
        caller.expect("EHLO client.example", 250)
        text = site.delivered(send(caller))
    assert f"([{CLIENT}])" in text
    assert "with ESMTPS " in text


def test_tls_passed_through(site: Site) -> None:
    with site.call("passed", tls=True) as caller:
        port = caller.sock.getsockname()[1]
        assert "AUTH PLAIN LOGIN" in caller.greeting().lines
        caller.expect(f"AUTH PLAIN {LOGIN}", 235)
        text = site.delivered(send(caller, rcpt_to="somebody@elsewhere.example"))
    assert f"([{CLIENT}])" in text
    assert "with ESMTPSA " in text
    (secure,) = site.notes("secure", port=port)
    assert (secure["client"], secure["servername"], secure["tls"]) == (CLIENT, NAME, "TLSv1.3")


def test_tls_that_ended_at_haproxy(site: Site) -> None:
    """The session is secure, so that people may log in; it has no use for STARTTLS."""
    with site.call("ended", tls=True) as caller:
        port = caller.sock.getsockname()[1]
        offered = caller.greeting().lines
        assert "AUTH PLAIN LOGIN" in offered
        assert "STARTTLS" not in offered
        assert caller.command("STARTTLS").code in {454, 502, 503}
        caller.expect(f"AUTH PLAIN {LOGIN}", 235)
        text = site.delivered(send(caller, rcpt_to="somebody@elsewhere.example"))
    assert f"([{CLIENT}])" in text
    assert "with ESMTPSA " in text
    (auth,) = site.notes("auth", port=port)
    assert auth["client"] == CLIENT
    assert (auth["secure"], auth["servername"], auth["authority"], auth["tls"]) == (True, NAME, NAME, "TLSv1.3")
    assert (auth["ssl"], auth["ssl_version"], auth["verified"]) == (True, "TLSv1.3", None)
    assert auth["cipher"].startswith("TLS_")
    assert auth["unique_id"].startswith("7F000107:")


def test_a_client_certificate_that_haproxy_verified(site: Site) -> None:
    with site.call("ended", tls=True, certificate=True) as caller:
        port = caller.sock.getsockname()[1]
        caller.greeting()
    (connect,) = until(lambda: site.notes("connect", port=port))
    assert (connect["verified"], connect["cn"], connect["verify"]) == ("dev", "dev", 0)


def test_a_client_in_clear_behind_the_ssl_option_is_not_secure(site: Site) -> None:
    """HAProxy sends the SSL TLV for it too, with all bits zero (DECISIONS W10)."""
    with site.call("clear") as caller:
        port = caller.sock.getsockname()[1]
        offered = caller.greeting().lines
        assert not [line for line in offered if line.startswith("AUTH")]
        assert "STARTTLS" in offered
        assert caller.command(f"AUTH PLAIN {LOGIN}").code in {530, 538}
        assert caller.command("MAIL FROM:<a@client.example>").code == 530
    assert not site.notes("auth", port=port)
    (connect,) = site.notes("connect", port=port)
    assert (connect["ssl"], connect["secure"], connect["servername"]) == (False, False, "")


def test_tls_that_ended_at_haproxy_counts_only_where_the_settings_say_so(site: Site) -> None:
    with site.call("unbelieved", tls=True) as caller:
        port = caller.sock.getsockname()[1]
        offered = caller.greeting().lines
        assert not [line for line in offered if line.startswith("AUTH")]
        assert caller.command(f"AUTH PLAIN {LOGIN}").code in {530, 538}
    (connect,) = site.notes("connect", port=port)
    assert (connect["ssl"], connect["secure"], connect["authority"]) == (True, False, NAME)


def _id_of(text: str) -> str:
    found = re.search(r"\sid\s+([^\s;]+)", text)
    assert found
    return found[1]
