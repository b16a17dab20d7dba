"""The ways to a store: TCP, TLS, Unix socket; databases, users, passwords."""

from __future__ import annotations

import datetime as dt
import ipaddress
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from mta_front.store.client import Call, Link, StoreOptions
from mta_front.store.errors import StoreDown
from mta_front.store.topology import topology_of
from tests.ports import free_port
from tests.processes import ROOT
from tests.store.parts import Recorder, until
from tests.stores import Store


@pytest.fixture
def ask_at(events: Recorder) -> Callable[..., object]:
    """`ask_at(StoreOptions(…), "GET", "x")`: the reply, or why there is no connection."""

    def ask(options: StoreOptions, *command: object) -> object:
        link = Link(options, "test", events)
        link.start()
        try:
            until(lambda: link.answered or link.fault)
            return link.fault.reason if link.fault else link.call(Call(list(command)))
        finally:
            link.close()

    return ask


def test_tcp_with_a_database(make_store: Callable[..., Store], ask_at: Callable[..., object]) -> None:
    port = free_port()
    store = make_store(port=port)
    assert ask_at(StoreOptions(url=f"redis://localhost:{port}/2"), "SET", "k", "v") == b"OK"
    assert b"db2:keys=1" in store.ask("INFO", "keyspace")
    assert ask_at(StoreOptions(url=f"redis://127.0.0.1:{port}?db=2"), "GET", "k") == b"v"


def test_nobody_there(ask_at: Callable[..., object], tmp_path: Path) -> None:
    assert "refused" in str(ask_at(StoreOptions(url=f"redis://127.0.0.1:{free_port()}"), "PING"))
    assert "No such file" in str(ask_at(StoreOptions(url=f"unix://{tmp_path}/none"), "PING"))
    assert "not known" in str(ask_at(StoreOptions(url="redis://store.invalid"), "PING"))


@pytest.mark.parametrize(
    ("username", "password", "answer"),
    [("", "s3cret", b"PONG"), ("default", "s3cret", b"PONG"), ("", "wrong", None), ("", "", None)],
)
def test_a_password(
    username: str, password: str, answer: bytes | None, make_store: Callable[..., Store], ask_at: Callable[..., object]
) -> None:
    store = make_store(requirepass="s3cret")
    found = ask_at(StoreOptions(url=store.url, username=username, password=password), "PING")
    assert found == answer or (answer is None and isinstance(found, str))
    assert "s3cret" not in str(found)
    assert "wrong" not in str(found)


def test_a_password_in_the_url(make_store: Callable[..., Store], ask_at: Callable[..., object]) -> None:
    port = free_port()
    make_store(port=port, requirepass="s3 cret")
    assert ask_at(StoreOptions(url=f"redis://default:s3%20cret@localhost:{port}"), "PING") == b"PONG"


@pytest.mark.parametrize("url", ["", "http://x", "redis+sentinel://x", "unix:///s?decode_responses=1"])
def test_a_url_that_cannot_be_used_is_a_value_error(url: str) -> None:
    with pytest.raises(ValueError, match="store url"):
        topology_of(StoreOptions(url=url))


PATCHED = """
from gevent import monkey; monkey.patch_all()
import json, sys
from mta_front.store.errors import StoreDown
from mta_front.store.options import StoreOptions
from mta_front.store.topology import topology_of
import time
try:
    wire = topology_of(StoreOptions(**json.loads(sys.argv[1]))).connect("0", time.monotonic() + 2)
    print(json.dumps([str(each) for each in wire.ask([("PING",), ("SET", "k", "v" * 500_000)], time.monotonic() + 2)]))
    wire.must_be_open()
except StoreDown as error:
    print(json.dumps(error.reason))
"""


@pytest.mark.parametrize("kind", ["redis"], indirect=True)  # the wheel of Valkey is built without TLS
def test_tls_in_a_patched_process(make_store: Callable[..., Store], tmp_path: Path) -> None:
    certificate = tmp_path / "store.pem"
    self_signed(certificate)
    port = free_port()
    make_store(tls_port=str(port), tls_cert_file=str(certificate), tls_key_file=str(certificate), tls_auth_clients="no")

    def ask(**options: str) -> object:
        argv = [sys.executable, "-W", "error", "-c", PATCHED, json.dumps(options)]
        return json.loads(subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True, timeout=20).stdout)

    assert ask(url=f"rediss://127.0.0.1:{port}?ssl_ca_certs={certificate}") == ["b'PONG'", "b'OK'"]
    assert ask(url=f"rediss://127.0.0.1:{port}", ca=str(certificate)) == ["b'PONG'", "b'OK'"]
    assert "CERTIFICATE_VERIFY_FAILED" in str(ask(url=f"rediss://127.0.0.1:{port}"))


def self_signed(path: Path) -> None:
    """A key and a certificate for 127.0.0.1 in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "store")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))


def test_a_frozen_store_does_not_keep_a_connect_longer_than_it_may(store: Store) -> None:
    import time

    store.stop()
    began = time.monotonic()
    with pytest.raises(StoreDown):
        topology_of(StoreOptions(url=store.url, password="x")).connect("0", time.monotonic() + 0.3)
    assert time.monotonic() - began < 0.5
    store.go_on()
