"""`openssl s_client`, another OpenSSL than ours, against a live server."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from mta_front.tls.contexts import Contexts
from mta_front.tls.options import NameOptions
from mta_front.tls.suites import STANDARD_NAMES
from tests.needs import program
from tests.tls.authority import DAY, Authority, Pair
from tests.tls.served import Served, served
from tests.tls.wires import contexts

FLAGS = {"TLSv1.2": "-tls1_2", "TLSv1.3": "-tls1_3"}
VERSIONS = list(FLAGS)


@dataclass
class Talk:
    """What s_client said. `echoed` is whether the server's echo came back: the session worked both ways."""

    status: int
    text: str

    @property
    def echoed(self) -> bool:
        return "NOOP one two" in self.text


def s_client(server: Served, *arguments: str, say: str = "NOOP one two\n") -> Talk:
    """Connect, say a line, read the echo, end."""
    host, port = server.address
    command = [program("openssl"), "s_client", "-connect", f"{host}:{port}", *arguments]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    text = ""
    try:
        process.stdin.write(say)
        process.stdin.flush()
        for line in process.stdout:
            text += line
            if line == say:
                break
        process.stdin.write("Q\n")
        process.stdin.close()
    except BrokenPipeError:
        pass
    text += process.stdout.read()
    process.stdout.close()
    return Talk(process.wait(20), text)


@pytest.fixture(scope="module")
def trust(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Arguments that make s_client verify us."""
    path = tmp_path_factory.mktemp("trust") / "root.pem"
    path.write_bytes(authority.pem)
    return ["-CAfile", str(path), "-verify_return_error"]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_session(pair: Pair, trust: list[str], version: str) -> None:
    with served(contexts(pair)) as server:
        talk = s_client(
            server, FLAGS[version], *trust, "-servername", "mx.ours.example", "-verify_hostname", "mx.ours.example"
        )
        visit = server.visit()
    assert talk.echoed, talk.text
    assert "Verify return code: 0 (ok)" in talk.text
    assert "Compression: NONE" in talk.text
    if version == "TLSv1.2":
        assert "Secure Renegotiation IS supported" in talk.text
        assert "Extended master secret: yes" in talk.text
    assert visit.end == "closed"
    assert visit.facts is not None
    assert (visit.facts.version, visit.facts.servername) == (version, "mx.ours.example")
    assert visit.binding is not None


def test_suites_are_named_as_openssl_names_them() -> None:
    """`openssl ciphers -stdname` is the oracle."""
    lines = subprocess.run(
        [program("openssl"), "ciphers", "-stdname", "-v", "ALL:@SECLEVEL=0"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    known = {line.split()[2]: line.split()[0] for line in lines}
    assert {name: known[name] for name in STANDARD_NAMES} == STANDARD_NAMES


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["-tls1", "-cipher", "ALL:@SECLEVEL=0"], "version"),
        (["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"], "version"),
        (["-tls1_2", "-cipher", "NULL:aNULL:PSK:@SECLEVEL=0"], "no_shared_cipher"),
        (["-tls1_2", "-cipher", "kRSA:@SECLEVEL=0"], "no_shared_cipher"),
        (["-tls1_2", "-cipher", "DHE:@SECLEVEL=0"], "no_shared_cipher"),
        (["-tls1_2", "-cipher", "AES128-SHA:ECDHE-ECDSA-AES128-SHA:ECDHE-ECDSA-AES256-SHA384:@SECLEVEL=0"],
         "no_shared_cipher"),
        (["-tls1_3", "-ciphersuites", "TLS_AES_128_CCM_8_SHA256:TLS_AES_128_CCM_SHA256"], "no_shared_cipher"),
        (["-tls1_2", "-fallback_scsv"], "version"),
    ],
)  # fmt: skip
def test_what_is_weak_is_refused(pair: Pair, arguments: list[str], reason: str) -> None:
    with served(contexts(pair)) as server:
        talk = s_client(server, *arguments)
        visit = server.visit()
    assert not talk.echoed
    assert "alert" in talk.text
    assert visit.failure is not None
    assert visit.failure.reason == reason, visit.failure.detail


def test_a_renegotiation_is_refused(pair: Pair) -> None:
    """s_client renegotiates at a line "R"."""
    with served(contexts(pair)) as server:
        talk = s_client(server, "-tls1_2", say="R\n")
        visit = server.visit()
    assert "RENEGOTIATING" in talk.text
    assert "no renegotiation" in talk.text
    assert visit.received == 0


@pytest.mark.parametrize("version", VERSIONS)
def test_names(authority: Authority, pair: Pair, trust: list[str], version: str) -> None:
    own = authority.issue("*.other.example")
    server_contexts = contexts(pair, sni={"*.other.example": NameOptions(key=own.key_pem, cert=own.cert_pem)})
    with served(server_contexts) as server:
        for asked, subject in (("a.other.example", "CN = *.other.example"), ("b.example", "CN = mx.ours.example")):
            talk = s_client(server, FLAGS[version], *trust, "-servername", asked)
            assert talk.echoed, talk.text
            assert f"subject={subject}" in talk.text
        assert s_client(server, FLAGS[version], *trust, "-noservername").echoed


@pytest.fixture(scope="module")
def strict_contexts(pair: Pair, client_authority: Authority) -> Contexts:
    """Certificates are asked for under one name only."""
    return contexts(pair, sni={"strict.example": NameOptions(request_cert=True, ca=client_authority.pem)})


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("who", "detail"), [("good", ""), ("none", "missing"), ("wrong CA", "unknown issuer"), ("expired", "expired")]
)
def test_client_certificates(
    strict_contexts: Contexts, client_authority: Authority, tmp_path: Path, version: str, who: str, detail: str
) -> None:
    arguments: list[str] = []
    if who != "none":
        issuer = Authority("Client Root") if who == "wrong CA" else client_authority
        shown = issuer.issue("alice", client=True, begins=-9 * DAY, ends=-DAY if who == "expired" else DAY)
        key, cert = shown.files(tmp_path, "alice")
        arguments = ["-key", str(key), "-cert", str(cert)]
    with served(strict_contexts) as server:
        talk = s_client(server, FLAGS[version], "-servername", "strict.example", *arguments)
        visit = server.visit()
        assert s_client(server, FLAGS[version], "-servername", "lax.example").echoed
    assert talk.echoed is not bool(detail), talk.text
    if detail:
        assert visit.failure is not None
        assert (visit.failure.reason, visit.failure.detail) == ("client_certificate", detail)
        assert visit.facts is None
    else:
        assert visit.facts is not None
        assert visit.facts.peer_certificate is not None
        assert (visit.facts.peer_certificate.subject, visit.facts.peer_certificate.verified) == ("CN=alice", True)
        assert "CN = Client Root" in talk.text  # who is asked for


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("tickets", [False, True])
def test_a_session_offered_again_is_never_an_error(pair: Pair, tmp_path: Path, version: str, tickets: bool) -> None:
    """Here with the same contexts, then with others, as in another worker or after a reload."""
    kept = tmp_path / "session"
    with served(contexts(pair, tickets=True)) as server:
        assert s_client(server, FLAGS[version], "-sess_out", str(kept)).echoed
        again = s_client(server, FLAGS[version], "-sess_in", str(kept))
        server.contexts = contexts(pair, tickets=tickets)
        elsewhere = s_client(server, FLAGS[version], "-sess_in", str(kept))
    assert again.echoed
    assert "Reused, TLSv" in again.text
    assert elsewhere.echoed
    assert "New, TLSv" in elsewhere.text


@pytest.mark.parametrize("version", VERSIONS)
def test_without_tickets_nothing_is_resumed(pair: Pair, tmp_path: Path, version: str) -> None:
    kept = tmp_path / "session"
    with served(contexts(pair)) as server:
        assert s_client(server, FLAGS[version], "-sess_out", str(kept)).echoed
        # TLS 1.3 names a session that nobody keeps; TLS 1.2 gives none.
        assert kept.exists() is (version == "TLSv1.3")
        if kept.exists():
            again = s_client(server, FLAGS[version], "-sess_in", str(kept))
            assert again.echoed
            assert "New, TLSv" in again.text


def test_no_way_into_a_strict_name_with_a_session_of_another(strict_contexts: Contexts, tmp_path: Path) -> None:
    """CVE-2025-23419."""
    kept = tmp_path / "session"
    with served(strict_contexts) as server:
        assert s_client(server, "-servername", "lax.example", "-sess_out", str(kept)).echoed
        into = s_client(server, "-servername", "strict.example", "-sess_in", str(kept))
        assert server.visit(1).end == "client_certificate"
    assert not into.echoed


def test_a_staple(authority: Authority, pair: Pair, trust: list[str], tmp_path: Path) -> None:
    staple = tmp_path / "staple"
    staple.write_bytes(authority.ocsp(pair))
    with served(contexts(pair, ocsp_file=str(staple))) as server:
        talk = s_client(server, *trust, "-status")
    assert talk.echoed
    assert "Cert Status: good" in talk.text
