"""Which certificate a client gets, with which suites and which staple."""

from __future__ import annotations

import gc
import socket
import subprocess
from pathlib import Path

import pytest
from OpenSSL import SSL

from mta_front.tls.contexts import Contexts, load
from mta_front.tls.options import NameOptions, TlsOptions
from mta_front.tls.suites import STANDARD_NAMES
from tests.needs import program
from tests.tls.authority import DAY, Authority, Pair
from tests.tls.wires import client, client_context, connected, contexts, shake, shown

VERSIONS = ["TLSv1.2", "TLSv1.3"]


# -- which certificate ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["ecdsa", "rsa", "ed25519"])
@pytest.mark.parametrize("version", VERSIONS)
def test_every_kind_of_key(authority: Authority, kind: str, version: str) -> None:
    pair = authority.issue("mx.ours.example", kind)
    ends = connected(contexts(pair), client_context(authority, version))
    assert shown(ends[0]) == pair.certificate


@pytest.mark.parametrize("swapped", [False, True])
def test_several_pairs_for_one_name_each_with_its_chain(swapped: bool) -> None:
    """The client's signature algorithms choose. Keys need not be in the order of certificates."""
    root = Authority()
    pairs = {
        kind: Authority(f"Issuer of {kind}", root).issue("mx.ours.example", kind)
        for kind in ("ecdsa", "rsa", "ed25519")
    }
    keys = [pair.key_pem for pair in pairs.values()]
    options = TlsOptions(key=keys[::-1] if swapped else keys, cert=[pair.chain_pem for pair in pairs.values()])
    server = load(options)
    suites = {"ecdsa": b"ECDHE-ECDSA-AES128-GCM-SHA256", "rsa": b"ECDHE-RSA-AES128-GCM-SHA256"}
    for kind, suite in suites.items():
        context = client_context(root, "TLSv1.2")  # it knows the root only: the intermediates must come along
        context.set_cipher_list(suite)
        assert shown(connected(server, context)[0]) == pairs[kind].certificate


def test_names_and_wildcards(authority: Authority, pair: Pair) -> None:
    names = ("mail.example.com", "*.example.com", "*.deep.example.com", "single")
    pairs = {name: authority.issue(name) for name in names}
    sni = {name.upper(): NameOptions(key=each.key_pem, cert=each.cert_pem) for name, each in pairs.items()}
    server = contexts(pair, sni=sni)
    for asked, expected in {
        "mail.example.com": "mail.example.com",
        "MAIL.Example.COM": "mail.example.com",
        "mail.example.com.": "mail.example.com",
        "other.example.com": "*.example.com",
        "a.deep.example.com": "*.deep.example.com",
        "deep.example.com": "*.example.com",
        "a.b.example.com": "",
        "example.com": "",
        "single": "single",
        "": "",
        "mx.ours.example": "",
    }.items():
        one, other = connected(server, name=asked)
        assert shown(one) == (pairs[expected] if expected else pair).certificate, asked
        assert other.facts is not None
        assert other.facts.servername == asked.lower().rstrip(".")


def test_a_servername_that_is_no_text(pair: Pair) -> None:
    one = client()
    one._connection.set_tlsext_host_name(b"\xff\xfe.example")
    server = contexts(pair, sni={"*.example": NameOptions()}).channel()
    shake(one, server)
    assert server.facts is not None
    assert server.facts.servername == ""


def test_contexts_outlive_their_swap(authority: Authority, pair: Pair) -> None:
    """A connection goes on with what it began with, even if nobody else holds it any more.

    The client's first hello chooses a name; it has no key share that the server likes, so there is a second one
    (HelloRetryRequest, RFC 8446 §4.1.4), which calls the SNI callback of the first context once more. pyOpenSSL would
    have freed that with the context.
    """
    own = NameOptions(key=pair.key_pem, cert=pair.cert_pem)
    openssl = program("openssl")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        command = [openssl, "s_client", "-connect", f"127.0.0.1:{port}", "-groups", "ffdhe4096:P-256", "-msg"]
        process = subprocess.Popen(
            [*command, "-servername", "mx.ours.example"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        listening.settimeout(10)
        plain, _ = listening.accept()
        with plain, process:
            plain.settimeout(10)
            server = contexts(authority.issue("old"), sni={"mx.ours.example": own}).channel()
            while not server.handshake():
                plain.sendall(server.take())
                gc.collect()
                server.feed(plain.recv(100_000))
            plain.sendall(server.take())
            said = process.communicate(timeout=10)[0]
    assert said.count(b"ClientHello") == 2
    assert b"subject=CN = mx.ours.example" in said


# -- what is negotiated -----------------------------------------------------------------------------------------------


def offered(server: Contexts) -> list[str]:
    return SSL.Connection(server._default, None).get_cipher_list()


def test_default_suites_have_forward_secrecy_and_authenticated_encryption(pair: Pair) -> None:
    names = offered(contexts(pair))
    assert len(names) == 9
    for name in names:
        assert name.startswith(("TLS_", "ECDHE-")), name
        assert "GCM" in name or "CHACHA20" in name, name


@pytest.mark.parametrize(
    ("ciphers", "expected"),
    [
        ("TLS_AES_128_GCM_SHA256", {"TLS_AES_128_GCM_SHA256"}),
        ("ECDHE-ECDSA-AES128-SHA", {"ECDHE-ECDSA-AES128-SHA"}),
        ("TLS_AES_128_GCM_SHA256 ECDHE-RSA-AES256-SHA384", {"TLS_AES_128_GCM_SHA256", "ECDHE-RSA-AES256-SHA384"}),
    ],
)
def test_an_operator_chooses_suites(pair: Pair, ciphers: str, expected: set[str]) -> None:
    names = set(offered(contexts(pair, ciphers=ciphers)))
    assert expected <= names
    for prefix in ("TLS_", "ECDHE-"):
        if any(name.startswith(prefix) for name in expected):
            assert {name for name in names if name.startswith(prefix)} <= expected


def test_broad_words_bring_no_weak_suite(pair: Pair) -> None:
    for words in ("ALL:COMPLEMENTOFALL:@SECLEVEL=0", "HIGH:!aNULL", "DEFAULT"):
        assert set(offered(contexts(pair, ciphers=words))) <= set(STANDARD_NAMES)


# -- stapling ---------------------------------------------------------------------------------------------------------


def _stapled(server: Contexts, name: str = "mx.ours.example") -> bytes:
    seen: list[bytes] = []

    def note(_connection: SSL.Connection, staple: bytes, _data: object) -> bool:
        seen.append(staple)
        return True

    context = client_context()
    context.set_ocsp_client_callback(note)
    one = client(context, name)
    one._connection.request_ocsp()
    shake(one, server.channel())
    return seen[0]


def test_a_staple_is_given_to_who_asks(authority: Authority, pair: Pair, tmp_path: Path) -> None:
    path = tmp_path / "staple"
    path.write_bytes(authority.ocsp(pair))
    own = NameOptions(key=pair.key_pem, cert=pair.cert_pem, ocsp_file=str(path))
    assert _stapled(contexts(pair, ocsp_file=str(path))) == path.read_bytes()
    server = contexts(authority.issue("x"), sni={"mx.ours.example": own})
    assert _stapled(server) == path.read_bytes()
    assert _stapled(server, "x") == b""


def test_an_outdated_staple_is_kept_back(authority: Authority, pair: Pair, tmp_path: Path) -> None:
    path = tmp_path / "staple"
    path.write_bytes(authority.ocsp(pair, ends=-DAY))
    assert _stapled(contexts(pair, ocsp_file=str(path))) == b""
