"""Certificates that change while `serve` runs: in files, and as Kubernetes changes a Secret that is mounted."""

from __future__ import annotations

import json
import os
import shutil
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import pytest

from tests.clients.openssl import visit
from tests.front import Front
from tests.ports import free_port
from tests.processes import Program, python
from tests.smtp_talk import Talk
from tests.tls.authority import Authority, Pair
from tests.wait import until

RATE = 200
WITHIN_S = 1.0
WITHIN_UNDER_LOAD_S = 3.0
"""Where other tests run at the same time."""


class Where(Protocol):
    """Where the server finds its pair."""

    key: Path
    cert: Path

    def put(self, key_pem: bytes, cert_pem: bytes) -> None:
        """Another pair stands there from now on."""


class Files:
    """Two files, each replaced by a rename, as certbot and cert-manager's csi driver do."""

    def __init__(self, directory: Path) -> None:
        self.key, self.cert = directory / "tls.key", directory / "tls.crt"

    def put(self, key_pem: bytes, cert_pem: bytes) -> None:
        for path, pem in ((self.key, key_pem), (self.cert, cert_pem)):
            new = path.with_suffix(".new")
            new.write_bytes(pem)
            new.replace(path)


class Secret:
    """A Kubernetes Secret: tls.key -> ..data/tls.key, ..data -> ..TIME, and a swap replaces ..data by a rename."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._count = 0
        self.key, self.cert = directory / "tls.key", directory / "tls.crt"
        for path in (self.key, self.cert):
            path.symlink_to(Path("..data", path.name))

    def put(self, key_pem: bytes, cert_pem: bytes) -> None:
        data = self._directory / "..data"
        before = data.resolve() if data.exists() else None
        self._count += 1
        directory = self._directory / f"..2026_11_21_{self._count}"
        directory.mkdir()
        (directory / self.key.name).write_bytes(key_pem)
        (directory / self.cert.name).write_bytes(cert_pem)
        link = self._directory / "..data_tmp"
        link.symlink_to(directory.name)
        os.replace(link, data)  # noqa: PTH105 (Path.replace follows nothing either, but this is the call of kubelet)
        if before is not None:
            shutil.rmtree(before)


@dataclass(frozen=True)
class Swap:
    """A pair and when it was put there."""

    serial: str
    at: float


def serial_of(pair: Pair) -> str:
    """As Python's ssl shows it: hexadecimal, whole octets."""
    digits = f"{pair.certificate.serial_number:X}"
    return digits.zfill(len(digits) + len(digits) % 2)


class Site:
    """A running server with a pair in `where`, a STARTTLS and an implicit listener."""

    def __init__(self, where: Where, directory: Path, serve: Callable[..., Front]) -> None:
        self.authority = Authority()
        self.ca_file = directory / "root.pem"
        self.ca_file.write_bytes(self.authority.pem)
        self.where = where
        self.ports = free_port(), free_port()
        self.swaps: list[Swap] = []
        self.swap()
        self.server = serve(
            {"recipients": ["*"], "transport": "discard"},
            listeners=[
                {"name": name, "bind": [f"127.0.0.1:{port}"], "secure": name == "implicit", "reverse_lookup": False}
                for name, port in zip(("starttls", "implicit"), self.ports, strict=True)
            ],
            tls={"key": str(where.key), "cert": str(where.cert)},
        )

    def swap(self) -> Swap:
        """Put a new pair there."""
        pair = self.authority.issue("mx.ours.example")
        self.where.put(pair.key_pem, pair.chain_pem)
        self.swaps.append(Swap(serial_of(pair), time.monotonic()))
        return self.swaps[-1]

    def clients(self, directory: Path, rate: float, seconds: float) -> Program:
        """Clients that come for so long; `seen` reads what they saw."""
        arguments = [*map(str, self.ports), str(rate), str(seconds), str(self.ca_file)]
        return Program(python("-m", "tests.clients.handshakes", *arguments), directory / "clients.log", directory)

    def reloads(self, result: str) -> int:
        """How often workers have taken, or refused, what was there, over both listeners."""
        lines = self.server.get("/metrics")[1].splitlines()
        counted = [x for x in lines if x.startswith("mta_front_tls_reloads_total") and f'"{result}"' in x]
        return round(sum(float(line.rpartition(" ")[2]) for line in counted))

    def served(self, many: int = 16) -> set[str]:
        """The serial numbers that so many visits are shown: enough to come to both workers."""
        seen = set()
        for number in range(many):
            text = visit(self.ports[number % 2], "-CAfile", str(self.ca_file), starttls=number % 2 == 0).text
            pem = text[text.index("-----BEGIN") : text.index("-----END CERTIFICATE-----") + 25]
            seen.add(_serial_of_pem(pem))
        return seen


def _serial_of_pem(pem: str) -> str:
    from cryptography import x509

    digits = f"{x509.load_pem_x509_certificate(pem.encode()).serial_number:X}"
    return digits.zfill(len(digits) + len(digits) % 2)


@pytest.fixture(params=[Files, Secret])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> Where:
    directory = tmp_path / "mounted"
    directory.mkdir()
    made: Where = request.param(directory)
    return made


def test_swaps_under_load(
    where: Where, tmp_path: Path, serve: Callable[..., Front], full: bool, figures: Callable[[str], None]
) -> None:
    """No handshake fails; whoever comes a second after a swap sees the new certificate, whichever worker serves it; and
    a session of before goes on.
    """
    swaps, every_s = (50, 0.2) if full else (12, 0.25)
    site = Site(where, tmp_path, serve)
    with Talk(("127.0.0.1", site.ports[0])) as old, site.clients(tmp_path, RATE, swaps * every_s + 1.5) as clients:
        old.greeting()
        old.expect("STARTTLS", 220)
        context = ssl.create_default_context(cafile=str(site.ca_file))
        old.sock = context.wrap_socket(old.sock, server_hostname="mx.ours.example")
        old.expect("EHLO client.example", 250)
        due = time.monotonic()
        for _ in range(swaps):
            due += every_s
            time.sleep(max(0.0, due - time.monotonic()))
            site.swap()
        assert clients.wait(60.0) == 0
        old.expect("NOOP", 250)
    seen = [json.loads(line) for line in clients.log_text().splitlines()]
    assert len(seen) == round(RATE * (swaps * every_s + 1.5))
    assert [each["fault"] for each in seen if each["fault"]] == []

    replaced_at = {old.serial: new.at for old, new in pairwise(site.swaps)}
    late = [each["began_at"] - replaced_at.get(each["serial"], float("inf")) for each in seen]
    took_s = max(each["began_at"] for each in seen) - min(each["began_at"] for each in seen)
    shown = len({each["serial"] for each in seen})
    figures(
        f"{len(seen)} handshakes, {len(seen) / took_s:.0f}/s, {swaps} swaps: none failed, "
        f"{shown} certificates seen, an old one at most {max(late):.2f} s after its swap"
    )
    assert max(late) <= (WITHIN_S if full else WITHIN_UNDER_LOAD_S)
    assert site.served() == {site.swaps[-1].serial}
    assert site.reloads("good") > 0


def test_what_cannot_be_used_is_refused_told_and_counted_and_the_old_pair_serves(
    where: Where, tmp_path: Path, serve: Callable[..., Front]
) -> None:
    site = Site(where, tmp_path, serve)
    (good,) = site.swaps
    other = site.authority.issue("mx.ours.example")
    right = site.authority.issue("mx.ours.example")
    bad = {
        "another's key": (other.key_pem, right.chain_pem),
        "no PEM": (b"", b"not a certificate\n"),
        "half a certificate": (right.key_pem, right.chain_pem[:200]),
        "expired": _expired(site.authority),
    }
    refused = 0
    for name, (key_pem, cert_pem) in bad.items():
        where.put(key_pem, cert_pem)
        refused += 4  # two workers, two listeners
        until(lambda: site.reloads("refused") >= refused, 10.0, f"{name} is refused by all, and counted")  # noqa: B023
        refused = site.reloads("refused")  # two files may be seen one after the other, and refused twice
        assert site.served(8) == {good.serial}
    told = [json.loads(line) for line in site.server.log_text().splitlines() if "certificates refused" in line]
    assert {line["listener"] for line in told} == {"starttls", "implicit"}
    assert all(line["level"] == "error" and str(where.cert.parent) in line["reason"] for line in told)
    assert not any("PRIVATE" in line["reason"] for line in told)

    mended = site.swap()
    until(lambda: site.served(2) == {mended.serial}, 10.0, "the good one serves")
    until(lambda: site.reloads("good") >= 4, 10.0, "by all, and it is counted")
    assert site.served() == {mended.serial}


def _expired(authority: Authority) -> tuple[bytes, bytes]:
    from tests.tls.authority import DAY

    pair = authority.issue("mx.ours.example", begins=-9 * DAY, ends=-DAY)
    return pair.key_pem, pair.chain_pem
