"""Certificates are tried before anything starts: what cannot be served is one line with the key that names it, and 78.

With real files, through `check` and `serve`.
"""

from __future__ import annotations

import fcntl
import os
import ssl
import stat
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509

from mta_front.tls.certificates import self_signed
from tests.cli.running import put, run
from tests.tls.authority import DAY, Authority

LISTENER = "[[listeners]]\nauth_optional = true\n[server]\ndata_dir = 'var'\n"
"""Four lines."""


@pytest.fixture(scope="module")
def authority() -> Authority:
    """Who issues certificates."""
    return Authority()


@pytest.fixture
def directory(tmp_path: Path, authority: Authority) -> Path:
    """A working directory with good and bad files."""
    authority.issue("mx.ours.example").files(tmp_path, "good")
    authority.issue("other.example").files(tmp_path, "other")
    authority.issue("old.example", ends=-DAY / 2).files(tmp_path, "old")
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    (tmp_path / "noise.crt").write_text("no PEM\n")
    (tmp_path / "sub").mkdir()
    return tmp_path


PAIR = "cert = 'good.crt'\nkey = 'good.key'\n"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (
            "[tls]\ncert = 'good.crt'\nkey = 'other.key'",
            'mta-front.toml:7: tls.key = "other.key": does not belong to the certificate in good.crt',
        ),
        ("[tls]\ncert = 'old.crt'\nkey = 'old.key'", 'mta-front.toml:6: tls.cert = "old.crt": expired at 20'),
        (
            "[tls]\ncert = 'no.crt'\nkey = 'good.key'",
            'mta-front.toml:6: tls.cert = "no.crt": cannot be read: No such file or directory',
        ),
        (
            "[tls]\ncert = 'good.crt'\nkey = 'sub'",
            'mta-front.toml:7: tls.key = "sub": cannot be read: Is a directory',
        ),
        (
            "[tls]\ncert = 'noise.crt'\nkey = 'good.key'",
            'mta-front.toml:6: tls.cert = "noise.crt": holds no certificate, but no PEM at all',
        ),
        (
            "[tls]\ncert = 'good.key'\nkey = 'good.key'",
            'mta-front.toml:6: tls.cert = "good.key": holds no certificate, but PRIVATE KEY',
        ),
        (f"[tls]\n{PAIR}ciphers = 'RC4-MD5'", "mta-front.toml:8: tls.ciphers = "),
        (
            f"[tls]\n{PAIR}min_version = 'TLSv1.3'\nmax_version = 'TLSv1.2'",
            'mta-front.toml:9: tls.max_version = "TLSv1.2": is older than min_version, which is TLSv1.3',
        ),
        (
            f"[tls]\n{PAIR}request_cert = true",
            "mta-front.toml:5: tls.ca: is needed where request_cert and reject_unauthorized are on",
        ),
        (
            f"[tls]\n{PAIR}tickets = true\nrequest_cert = true\nca = 'ca.pem'",
            "mta-front.toml:8: tls.tickets = true: must be off where client certificates are asked for",
        ),
        (
            f"[tls]\n{PAIR}[tls.sni.'a.example']\ncert = 'old.crt'\nkey = 'old.key'",
            'mta-front.toml:9: tls.sni."a.example".cert = "old.crt": expired at 20',
        ),
        (f"[tls]\n{PAIR}[tls.sni.'a_b..example']", 'mta-front.toml:8: tls.sni."a_b..example": must be a host name'),
    ],
)
def test_what_cannot_be_served_is_told_and_78(directory: Path, text: str, fault: str) -> None:
    put(directory, f"{LISTENER}{text}\n")
    result = run(directory, "check")
    assert (result.code, result.out) == (os.EX_CONFIG, "")
    [line] = result.lines
    assert line.startswith(fault)


def test_serve_refuses_it_too(directory: Path) -> None:
    put(directory, f"{LISTENER}[tls]\ncert = 'old.crt'\nkey = 'other.key'\n")
    result = run(directory, "serve")
    assert result.code == os.EX_CONFIG
    [line] = result.lines
    assert line.startswith('mta-front.toml:6: tls.cert = "old.crt": expired at 20')
    assert not (directory / "var").exists()


def test_fault_of_a_listener_stands_where_it_was_set(directory: Path) -> None:
    """And what several listeners share is told once."""
    text = (
        "[[listeners]]\nauth_optional = true\n[[listeners]]\nname = 'b'\nbind = ['[::1]:1']\nauth_optional = true\n"
        "[listeners.tls]\nca = 'no.pem'\n[tls]\ncert = ['good.crt', 'no.crt']\nkey = 'good.key'\n"
    )
    put(directory, text)
    assert run(directory, "check").lines == [
        'mta-front.toml:8: listeners[1].tls.ca = "no.pem": cannot be read: No such file or directory',
        'mta-front.toml:10: tls.cert = ["good.crt", "no.crt"]: no.crt cannot be read: No such file or directory',
    ]


def test_certificates_hooks_and_users_are_told_together(directory: Path) -> None:
    (directory / "users").write_text("ann:{PLAIN}hunter2\nbob:{NONSENSE}hunter2\n")
    text = "[tls]\ncert = 'no.crt'\nkey = 'good.key'\n[auth]\nbackends = ['file']\nfile.path = 'users'\n"
    put(directory, f"{LISTENER}{text}[hooks]\nclass = 'absent:Policy'\n")
    result = run(directory, "check")
    assert result.code == os.EX_CONFIG
    assert [line.rpartition(": ")[0] for line in result.lines] == [
        'mta-front.toml:6: tls.cert = "no.crt": cannot be read',
        'mta-front.toml:10: auth.file.path = "users": users:2',
        'mta-front.toml:12: hooks.class = "absent:Policy": cannot be used: ModuleNotFoundError',
    ]
    assert "hunter2" not in "".join(result.lines)


def test_good_ones_are_no_fault_and_never_shown(directory: Path) -> None:
    text = f"{LISTENER}[tls]\n{PAIR}ca = 'ca.pem'\nrequest_cert = true\n[tls.sni.'*.a.example']\ncert = 'other.crt'\n"
    put(directory, f"{text}key = 'other.key'\nrequest_cert = false\n")
    result = run(directory, "check")
    assert (result.code, result.lines) == (0, [])
    shown = run(directory, "config", "show").out
    assert 'key = "good.key"' in shown
    assert "BEGIN" not in shown


def expiring(days: float) -> bytes:
    """Key and certificate in one file."""
    pair = Authority().issue("x.example", ends=days * DAY)
    return pair.key_pem + pair.cert_pem


class TestSelfSigned:
    """`[tls] self_signed`: a certificate is made when a server starts, and kept."""

    TEXT = f"{LISTENER}name = 'dev.ours.example'\n[tls]\nself_signed = true\n"

    @pytest.fixture
    def pem(self, tmp_path: Path) -> Path:
        return tmp_path / "var" / "tls" / "development.pem"

    def start(self, directory: Path) -> None:
        """What `serve` does before the master starts, without faults."""
        put(directory, self.TEXT)
        code = (
            "from mta_front import checks, config; from pathlib import Path; "
            "loaded = config.finish(config.file_layer(Path('mta-front.toml')), {}, {}); "
            "print(checks.examine(loaded, make=True))"
        )
        done = subprocess.run([sys.executable, "-c", code], cwd=directory, capture_output=True, text=True, timeout=30)
        assert done.stdout == "Findings(faults=[], remarks=[], exit_code=0)\n", done.stderr

    def test_check_makes_nothing(self, tmp_path: Path) -> None:
        put(tmp_path, self.TEXT)
        result = run(tmp_path, "check")
        assert (result.code, result.lines) == (0, [])
        assert not (tmp_path / "var").exists()

    def test_made_once_for_its_owner_only(self, tmp_path: Path, pem: Path) -> None:
        self.start(tmp_path)
        first = pem.read_bytes()
        assert stat.S_IMODE(pem.stat().st_mode) == 0o600
        assert {stat.S_IMODE(path.stat().st_mode) for path in (pem.parent, tmp_path / "var")} == {0o700}
        ssl.create_default_context().load_cert_chain(pem)
        assert [path.name for path in pem.parent.iterdir()] == [pem.name]
        self.start(tmp_path)
        assert pem.read_bytes() == first

    def test_kept_for_a_week_before_it_expires(self, tmp_path: Path, pem: Path) -> None:
        pem.parent.mkdir(parents=True)
        pem.write_bytes(first := expiring(7.1))
        self.start(tmp_path)
        assert pem.read_bytes() == first

    @pytest.mark.parametrize("days", [-0.5, 6.9])
    def test_made_anew_before_it_expires(self, tmp_path: Path, pem: Path, days: float) -> None:
        pem.parent.mkdir(parents=True)
        pem.write_bytes(expiring(days))
        self.start(tmp_path)
        made = x509.load_pem_x509_certificate(pem.read_bytes())
        assert made.not_valid_after_utc > datetime.now(UTC) + 300 * DAY
        ssl.create_default_context().load_cert_chain(pem)

    @pytest.mark.parametrize("content", [b"", b"no PEM", self_signed("x")[0], self_signed("x")[1]])
    def test_made_anew_when_it_is_broken(self, tmp_path: Path, pem: Path, content: bytes) -> None:
        pem.parent.mkdir(parents=True)
        pem.write_bytes(content)
        self.start(tmp_path)
        ssl.create_default_context().load_cert_chain(pem)

    def test_check_does_not_mind_that_it_has_expired(self, tmp_path: Path, pem: Path) -> None:
        """The next start makes another."""
        pem.parent.mkdir(parents=True)
        pem.write_bytes(expiring(-0.5))
        put(tmp_path, self.TEXT)
        assert run(tmp_path, "check").lines == []

    def test_data_dir_that_is_held_is_left_alone(self, tmp_path: Path, pem: Path) -> None:
        """Two first starts at the same time: the second one hears what it would hear a moment later."""
        (tmp_path / "var").mkdir()
        with (tmp_path / "var" / "lock").open("w") as lock:
            lock.write("pid 1 on somewhere\n")
            lock.flush()
            fcntl.flock(lock, fcntl.LOCK_EX)
            put(tmp_path, self.TEXT)
            result = run(tmp_path, "serve")
        assert result.code == os.EX_CANTCREAT
        [line] = result.lines
        assert "is held by pid 1 on somewhere" in line
        assert not pem.exists()

    def test_data_dir_that_cannot_be_made(self, tmp_path: Path) -> None:
        (tmp_path / "var").write_text("a file")
        put(tmp_path, self.TEXT)
        result = run(tmp_path, "serve")
        assert result.code == os.EX_CANTCREAT
        assert result.lines == [f"data_dir {tmp_path}/var: File exists"]
