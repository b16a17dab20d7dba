"""TLS with certificates on both sides, an ACL user, and Sentinels with a password: what a guarded store wants.

Certificates need a patched process (gevent's sockets under the standard ssl), so each question is a process.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.ports import free_port
from tests.processes import ROOT
from tests.stores import Store
from tests.topologies import HOST, MASTER, Sentinel
from tests.wait import until

ASK = """
from gevent import monkey; monkey.patch_all()
import json, sys, time
import gevent
from mta_front.store.client import Call, Link, StoreOptions
link = Link(StoreOptions(**json.loads(sys.argv[1])), "test", tag="0", scripts=["return 1"])
link.start()
until = time.monotonic() + 5
while not (link.answered or link.fault) and time.monotonic() < until:
    gevent.sleep(0.01)
print(json.dumps(link.fault.reason if link.fault else str(link.call(Call(["SET", "mta:{0}:k", "v"])))))
link.close()
"""


def ask(**options: str) -> str:
    """`OK`, or why not."""
    argv = [sys.executable, "-W", "error", "-c", ASK, json.dumps(options)]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True, timeout=20)
    return str(json.loads(done.stdout))


class Papers:
    """An authority, and what it issued, in files."""

    def __init__(self, directory: Path) -> None:
        authority = trustme.CA()
        self.ca, self.cert, self.key = (str(directory / name) for name in ("ca.pem", "our.crt", "our.key"))
        issued = authority.issue_cert(HOST)
        authority.cert_pem.write_to_path(self.ca)
        issued.private_key_pem.write_to_path(self.key)
        Path(self.cert).write_bytes(b"".join(each.bytes() for each in issued.cert_chain_pems))

    @property
    def of_server(self) -> dict[str, Any]:
        """The settings of a server that wants a certificate from its clients too."""
        return {
            "tls_cert_file": self.cert,
            "tls_key_file": self.key,
            "tls_ca_cert_file": self.ca,
            "tls_auth_clients": "yes",
            "tls_replication": "yes",
        }


@pytest.fixture
def guarded(tmp_path: Path) -> tuple[Store, Papers]:
    """A store that speaks TLS, wants a certificate, and has a user `front` with the password `s3cret`."""
    papers = Papers(tmp_path)
    store = Store("redis", tmp_path / "store", tls_port=str(free_port()), **papers.of_server).start()
    rules = ["on", ">s3cret", "~mta:*", "+@all", "-@dangerous", "+config|get", "+role", "+info"]
    store.ask("ACL", "SETUSER", "front", *rules)
    return store, papers


def tls_port(store: Store) -> int:
    """Where it listens."""
    return int(store.ask("CONFIG", "GET", "tls-port")[1])


def test_certificates_on_both_sides_and_a_user_of_its_own(guarded: tuple[Store, Papers]) -> None:
    store, papers = guarded
    url = f"rediss://{HOST}:{tls_port(store)}"
    front = {"url": url, "ca": papers.ca, "username": "front", "password": "s3cret"}
    ours = {"cert": papers.cert, "key": papers.key}
    assert ask(**front, **ours) == "b'OK'"
    assert (
        ask(**(front | {"url": url.replace("//", "//front:s3cret@"), "username": "", "password": ""}), **ours)
        == "b'OK'"
    )
    refused = ask(**front)
    assert "b'OK'" not in refused, "no certificate of ours"
    wrong = ask(**(front | {"password": "wr0ng"}), **ours)
    assert "wr0ng" not in wrong
    assert "invalid username-password" in wrong.lower()
    assert "CERTIFICATE_VERIFY_FAILED" in ask(**(front | {"ca": ""}), **ours)


def test_sentinels_with_tls_and_a_password(guarded: tuple[Store, Papers], tmp_path: Path) -> None:
    store, papers = guarded
    told: dict[str, Any] = papers.of_server | {"requirepass": "gu4rd", "sentinel_auth_user": "front"}
    watching = {"sentinel_auth_pass": "s3cret"}
    secure_port = free_port()
    sentinel = Sentinel(tmp_path / "sentinel", tls_port(store), **told, **watching, tls_port=str(secure_port)).start()
    until(lambda: sentinel.knows(1, 0), 10.0)
    url = f"rediss+sentinel://{HOST}:{secure_port}/{MASTER}"
    front = {
        "url": url,
        "ca": papers.ca,
        "cert": papers.cert,
        "key": papers.key,
        "username": "front",
        "password": "s3cret",
    }
    assert ask(**front, sentinel_password="gu4rd") == "b'OK'"
    assert "NOAUTH" in ask(**front)
    wrong = ask(**front, sentinel_password="wr0ng")
    assert "wr0ng" not in wrong
    assert "b'OK'" not in wrong
