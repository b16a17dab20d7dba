"""The files that routes name are tried by `check`: what a relay could not use is one line, and 78."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.running import put, run
from tests.tls.authority import Authority

LISTENER = "[[listeners]]\nauth_optional = true\n"
ROUTE = "[[relay.routes]]\nnext_hops = ['h:25']\n"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A working directory with good and bad files."""
    authority = Authority()
    authority.issue("us.example", client=True).files(tmp_path, "good")
    authority.issue("other.example").files(tmp_path, "other")
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    (tmp_path / "noise.pem").write_text("no PEM\n")
    (tmp_path / "secret").write_text("s3cret\n")
    (tmp_path / "empty").write_text("\n")
    return tmp_path


def test_faults(directory: Path) -> None:
    lines = [
        "tls_ca = ['ca.pem', 'noise.pem']",
        "tls_ca = 'no.pem'",
        "tls_cert = 'good.crt'\ntls_key = 'other.key'",
        "tls_cert = 'noise.pem'\ntls_key = 'good.key'",
        "tls_cert = 'good.crt'\ntls_key = 'no.key'",
        "username = 'u'\npassword_file = 'no'",
        "username = 'u'\npassword_file = 'empty'",
    ]
    put(directory, LISTENER + "".join(ROUTE + line + "\n" for line in lines))
    done = run(directory, "check", "-c", "mta-front.toml")
    assert done.code == 78
    expected = [
        'relay.routes[0].tls_ca = ["ca.pem", "noise.pem"]: is no PEM that can be used: ',
        'relay.routes[1].tls_ca = "no.pem": cannot be read: No such file or directory',
        'relay.routes[2].tls_cert = "good.crt": is no PEM that can be used: key values mismatch',
        'relay.routes[3].tls_cert = "noise.pem": is no PEM that can be used: no start line',
        'relay.routes[4].tls_key = "no.key": cannot be read: No such file or directory',
        'relay.routes[5].password_file = "no": cannot be read: No such file or directory',
        'relay.routes[6].password_file = "empty": is empty',
    ]
    assert len(done.lines) == len(expected)
    for line, words in zip(done.lines, expected, strict=True):
        assert line.partition(": ")[2].startswith(words), done.lines


def test_good_ones(directory: Path) -> None:
    files = "tls_ca = 'ca.pem'\ntls_cert = 'good.crt'\ntls_key = 'good.key'\nusername = 'u'\npassword_file = 'secret'\n"
    put(directory, LISTENER + ROUTE + files)
    assert run(directory, "check", "-c", "mta-front.toml").code == 0
