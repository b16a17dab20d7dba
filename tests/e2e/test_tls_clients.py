"""`openssl s_client` against `serve` with two workers: names, client certificates, sessions offered again, and what is
refused. One server with a listener for each policy.
"""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests import front, processes
from tests.clients.clienthello import NULL, compression_chosen
from tests.clients.openssl import FLAGS, VERSIONS, Visit, visit
from tests.needs import program
from tests.ports import free_port
from tests.tls.authority import DAY, Authority, Pair
from tests.wait import until

LISTENERS = ("starttls", "implicit", "strict", "tickets")
STRONG = re.compile(r"ECDHE-(ECDSA|RSA)-(AES(128|256)-GCM-SHA(256|384)|CHACHA20-POLY1305)|TLS_.*")
"""RFC 9325 §4.2: forward secrecy and an AEAD."""


@dataclass(frozen=True)
class Site:
    """The server, and who vouches for whom."""

    server: front.Front
    ports: dict[str, int]
    directory: Path
    authority: Authority
    clients: Authority
    failures: Counter[str] = field(default_factory=Counter)
    """Handshakes that failed in these tests, by reason."""
    swaps: list[Pair] = field(default_factory=list)

    def go(self, listener: str, version: str = "", *arguments: str, say: str = "quit") -> Visit:
        """One connection by s_client, which trusts the test's authority."""
        flags = [FLAGS[version]] if version else []
        trust = ["-CAfile", str(self.directory / "root.pem"), "-verify_return_error"]
        return visit(self.ports[listener], *flags, *trust, *arguments, starttls=listener != "implicit", say=say)

    def counted(self) -> Counter[str]:
        """How many handshakes failed for each reason, as the workers say."""
        found = re.findall(
            r'^mta_front_tls_failures_total\{.*reason="(\w+)".*\} (\S+)$', self.server.get("/metrics")[1], re.MULTILINE
        )
        counts = Counter[str]()
        for reason, count in found:
            counts[reason] += int(float(count))
        return counts


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A running server, for all tests of this file."""
    directory = tmp_path_factory.mktemp("site")
    authority, clients = Authority(), Authority("Client Root")
    (directory / "root.pem").write_bytes(authority.pem)
    (directory / "clients.pem").write_bytes(clients.pem)
    kinds = [authority.issue("mx.ours.example", kind).files(directory, kind) for kind in ("ecdsa", "rsa")]
    keys, certs = ([str(each[at]) for each in kinds] for at in (0, 1))
    asking = {"ca": str(directory / "clients.pem"), "request_cert": True}
    names: dict[str, Any] = {"strict.example": asking}
    for name in ("exact.example", "*.wild.example"):
        key, cert = authority.issue(name).files(directory, name.replace("*", "any"))
        names[name] = {"key": str(key), "cert": str(cert)}
    ports = {name: free_port() for name in LISTENERS}
    own: dict[str, Any] = {
        "starttls": {"tls": {"sni": names}},
        "implicit": {"secure": True, "tls": {"sni": names}},
        "strict": {"tls": asking},
        "tickets": {"tls": {"tickets": True}},
    }
    listeners = [
        {"name": name, "bind": [f"127.0.0.1:{port}"], "auth_optional": True, "reverse_lookup": False} | own[name]
        for name, port in ports.items()
    ]
    route = {"recipients": ["*"], "transport": "discard"}
    server = front.make(directory, route, listeners=listeners, tls={"key": keys, "cert": certs})
    with server:
        processes.started.remove(server)  # it outlives the first test
        yield Site(server, ports, directory, authority, clients)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("listener", ["starttls", "implicit"])
def test_a_session(site: Site, listener: str, version: str) -> None:
    seen = site.go(listener, version, "-servername", "mx.ours.example", "-verify_hostname", "mx.ours.example")
    assert seen.served, seen.text
    assert "Verify return code: 0 (ok)" in seen.text
    assert f"New, {version}" in seen.text
    assert STRONG.fullmatch(seen.suite)
    assert "Compression: NONE" in seen.text
    assert "250-REQUIRETLS" in seen.answers
    assert "250-STARTTLS" not in seen.answers
    if version == "TLSv1.2":
        assert "Secure Renegotiation IS supported" in seen.text
        assert "Extended master secret: yes" in seen.text


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("listener", ["starttls", "implicit"])
@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        ("exact.example", "exact.example"),
        ("EXACT.example", "exact.example"),
        ("a.wild.example", "*.wild.example"),
        ("a.b.wild.example", "mx.ours.example"),
        ("wild.example", "mx.ours.example"),
        ("sub.exact.example", "mx.ours.example"),
        ("unknown.example", "mx.ours.example"),
        ("", "mx.ours.example"),
    ],
)
def test_names(site: Site, listener: str, version: str, asked: str, shown: str) -> None:
    """A wildcard stands for one label (RFC 9525 §6.3)."""
    seen = site.go(listener, version, *(["-servername", asked] if asked else ["-noservername"]))
    assert seen.served, seen.text
    assert seen.subject == f"CN = {shown}"


# -- client certificates -----------------------------------------------------------------------------------------------

WHERE = {"listener": ("strict", []), "name": ("implicit", ["-servername", "strict.example"])}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("who", ["good", "none", "wrong CA", "expired", "not yet valid", "a server's"])
def test_client_certificates(site: Site, where: str, version: str, who: str, tmp_path: Path) -> None:
    """The policy of a listener, and that of one name on a listener that asks nobody else."""
    listener, arguments = WHERE[where]
    if who != "none":
        issuer = Authority("Client Root") if who == "wrong CA" else site.clients
        begins, ends = {"expired": (-9 * DAY, -DAY), "not yet valid": (DAY, 9 * DAY)}.get(who, (-DAY, DAY))
        shown = issuer.issue("alice", client=who != "a server's", begins=begins, ends=ends)
        key, cert = shown.files(tmp_path, "alice")
        arguments = [*arguments, "-key", str(key), "-cert", str(cert)]
    seen = site.go(listener, version, *arguments)
    assert seen.served is (who == "good"), seen.text
    if who == "good":
        assert "CN = Client Root" in seen.text, "who may have issued one is said"
    else:
        assert "alert" in seen.text
        assert not seen.answers
        site.failures["client_certificate"] += 1
    if where == "name":
        assert site.go(listener, version, "-servername", "lax.example").served


# -- sessions offered again --------------------------------------------------------------------------------------------


def visits_with(site: Site, listener: str, version: str, kept: Path) -> list[bool]:
    """Whether each of some visits that offer the kept session was resumed. All must be served.

    The kernel chooses the worker: 16 visits come to one of two workers only with a probability of 2 to the -15.
    """
    seen = [site.go(listener, version, "-sess_in", str(kept)) for _ in range(16)]
    assert all(each.served for each in seen), next(each.text for each in seen if not each.served)
    return [each.resumed for each in seen]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_session_offered_to_another_worker_is_a_new_one(site: Site, version: str, tmp_path: Path) -> None:
    """DECISIONS W8: a ticket is good in the worker that made it; elsewhere the handshake is a full one, no error."""
    kept = tmp_path / "session"
    assert site.go("tickets", version, "-sess_out", str(kept)).served
    assert set(visits_with(site, "tickets", version, kept)) == {True, False}


@pytest.mark.parametrize("version", VERSIONS)
def test_after_a_swap_a_session_of_before_is_a_new_one(site: Site, version: str, tmp_path: Path) -> None:
    kept = tmp_path / "session"
    assert site.go("tickets", version, "-sess_out", str(kept)).served
    site.swaps.append(site.authority.issue("mx.ours.example"))
    site.swaps[-1].files(site.directory, "ecdsa")
    until(
        lambda: site.server.metric("mta_front_tls_reloads_total") == 2 * len(site.swaps) * len(LISTENERS),
        10.0,
        "both workers have taken the new certificate for all listeners",
    )
    assert set(visits_with(site, "tickets", version, kept)) == {False}


@pytest.mark.parametrize("version", VERSIONS)
def test_without_tickets_nothing_is_resumed(site: Site, version: str, tmp_path: Path) -> None:
    kept = tmp_path / "session"
    assert site.go("starttls", version, "-sess_out", str(kept)).served
    assert kept.exists() is (version == "TLSv1.3"), "TLS 1.3 names a session that nobody keeps; TLS 1.2 gives none"
    if kept.exists():
        assert set(visits_with(site, "starttls", version, kept)) == {False}


@pytest.mark.parametrize("version", VERSIONS)
def test_no_way_into_a_strict_name_with_a_session_of_another(site: Site, version: str, tmp_path: Path) -> None:
    """CVE-2025-23419."""
    kept = tmp_path / "session"
    assert site.go("implicit", version, "-servername", "lax.example", "-sess_out", str(kept)).served
    resuming = ["-sess_in", str(kept)] if kept.exists() else []
    for _ in range(8):
        assert not site.go("implicit", version, "-servername", "strict.example", *resuming).answers
    site.failures["client_certificate"] += 8


# -- what is refused ---------------------------------------------------------------------------------------------------


def suites_of_tls12() -> list[str]:
    """Every suite that s_client can be made to offer below TLS 1.3."""
    listed = subprocess.run(
        [program("openssl"), "ciphers", "-tls1_2", "ALL:COMPLEMENTOFALL:@SECLEVEL=0"],
        capture_output=True, text=True, check=True,
    ).stdout.strip().split(":")  # fmt: skip
    return [name for name in listed if not name.startswith("TLS_")]


@pytest.mark.parametrize("listener", ["starttls", "implicit"])
def test_weak_suites_are_refused_and_strong_ones_work(site: Site, listener: str) -> None:
    """Not one of some 150: CBC, 3DES, RC4, NULL, export, anonymous, PSK, SRP, CCM, DHE, and RSA without forward
    secrecy, though the server has an RSA certificate too. A server chooses from what is offered: one visit offers all.
    """
    suites = suites_of_tls12()
    strong = [name for name in suites if STRONG.fullmatch(name)]
    weak = [name for name in suites if not STRONG.fullmatch(name)]
    assert len(strong) == 6
    assert len(weak) > 100
    for kind in (
        "AES128-SHA",
        "ECDHE-RSA-AES256-SHA384",
        "NULL-SHA256",
        "AES256-GCM-SHA384",
        "DHE-RSA-AES256-GCM-SHA384",
    ):
        assert kind in weak
    for name in strong:
        seen = site.go(listener, "TLSv1.2", "-cipher", f"{name}:@SECLEVEL=0")
        assert (seen.served, seen.suite) == (True, name)
    seen = site.go(listener, "TLSv1.2", "-cipher", ":".join([*weak, "@SECLEVEL=0"]))
    assert not seen.answers
    assert "handshake failure" in seen.text
    site.failures["no_shared_cipher"] += 1
    mixed = site.go(listener, "TLSv1.2", "-cipher", ":".join([*weak, strong[-1], "@SECLEVEL=0"]))
    assert (mixed.served, mixed.suite) == (True, strong[-1])


@pytest.mark.parametrize("listener", ["starttls", "implicit"])
@pytest.mark.parametrize("flag", ["-tls1", "-tls1_1"])
def test_versions_before_1_2_are_refused(site: Site, listener: str, flag: str) -> None:
    """RFC 8996. SSL 3 and 2 are in no OpenSSL any more."""
    seen = site.go(listener, "", flag, "-cipher", "ALL:@SECLEVEL=0")
    assert not seen.answers
    assert "alert protocol version" in seen.text
    site.failures["version"] += 1


@pytest.mark.parametrize("listener", ["starttls", "implicit"])
def test_a_fall_back_that_somebody_forced_is_refused(site: Site, listener: str) -> None:
    """RFC 7507: a client that would have had TLS 1.3 says so when it tries 1.2."""
    seen = site.go(listener, "TLSv1.2", "-fallback_scsv")
    assert not seen.answers
    assert "inappropriate fallback" in seen.text
    site.failures["version"] += 1


@pytest.mark.parametrize("listener", ["starttls", "implicit"])
@pytest.mark.parametrize("more", [[], ["-legacy_renegotiation"], ["-legacy_server_connect"]])
def test_a_renegotiation_is_refused(site: Site, listener: str, more: list[str]) -> None:
    seen = site.go(listener, "TLSv1.2", *more, say="R")
    assert seen.answers, "the session worked before"
    assert "RENEGOTIATING" in seen.text
    assert "no renegotiation" in seen.text
    assert not seen.served


@pytest.mark.parametrize("listener", ["starttls", "implicit"])
def test_nothing_is_compressed(site: Site, listener: str) -> None:
    """CRIME: a client that offers DEFLATE before "null" gets "null" (RFC 3749)."""
    assert compression_chosen(("127.0.0.1", site.ports[listener]), starttls=listener == "starttls") == NULL
    site.failures["unfinished"] += 1


def test_none_of_this_is_a_fault(site: Site) -> None:
    """The last test: all that was refused is counted, both workers live, and nothing was logged as trouble."""
    until(lambda: site.counted() == site.failures, 10.0, f"{site.failures} are counted")
    assert len(site.server.pids("worker")) == 2
    assert not re.findall(r'.*(?:Traceback|"level":"error").*', site.server.log_text())
