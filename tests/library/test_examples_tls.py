"""The examples about TLS: each runs as a program, and real clients talk to it."""

from __future__ import annotations

import shlex
import smtplib
import ssl
import subprocess
from pathlib import Path

import pytest

from tests.library.examples import EXAMPLES, MESSAGE, running
from tests.library.securely import secured, shown, trusting, trusting_anybody, upgraded
from tests.needs import program
from tests.smtp_talk import Closed
from tests.tls.authority import Authority, Pair

LOCAL = "localhost"


@pytest.fixture
def cert(tmp_path: Path, authority: Authority) -> Path:
    """./cert with key.pem and cert.pem for localhost."""
    directory = tmp_path / "cert"
    directory.mkdir()
    put(directory, authority.issue(LOCAL))
    return directory


def put(directory: Path, pair: Pair) -> None:
    """A pair, as examples look for it."""
    (directory / "key.pem").write_bytes(pair.key_pem)
    (directory / "cert.pem").write_bytes(pair.chain_pem)


def test_starttls(tmp_path: Path, cert: Path, authority: Authority) -> None:
    with running("starttls.py", tmp_path) as example:
        with smtplib.SMTP(LOCAL, example.port, timeout=20) as client:
            with pytest.raises(smtplib.SMTPSenderRefused, match="530"):
                client.sendmail("a@b.example", ["c@d.example"], MESSAGE)
            client.starttls(context=trusting(authority))
            with pytest.raises(smtplib.SMTPSenderRefused, match="530"):
                client.sendmail("a@b.example", ["c@d.example"], MESSAGE)
            with pytest.raises(smtplib.SMTPAuthenticationError):
                client.login("user", "wrong")
            client.login("user", "secret")
            client.mail("a@b.example")
            client.rcpt("c@d.example")
            assert client.data(MESSAGE) == (250, b"2.0.0 taken from user over TLSv1.3")
        assert example.end() == ""


def test_implicit_tls(tmp_path: Path, cert: Path, authority: Authority) -> None:
    with running("implicit_tls.py", tmp_path) as example:
        with smtplib.SMTP_SSL(LOCAL, example.port, timeout=20, context=trusting(authority)) as client:
            client.login("user", "secret")
            client.mail("a@b.example")
            client.rcpt("c@d.example")
            assert client.data(MESSAGE) == (250, b"2.0.0 taken by ESMTPSA")
        assert example.end() == ""


def test_self_signed(tmp_path: Path) -> None:
    """And the command in it makes a pair that clients can be told to trust."""
    with running("self_signed.py", tmp_path) as example:
        with (
            smtplib.SMTP(LOCAL, example.port, timeout=20) as client,
            pytest.raises(ssl.SSLCertVerificationError),
        ):
            client.starttls(context=ssl.create_default_context())
        with smtplib.SMTP(LOCAL, example.port, timeout=20) as client:
            client.starttls(context=trusting_anybody())
            client.sendmail("a@b.example", ["c@d.example"], MESSAGE)
        assert example.end() == ""
    lines = (EXAMPLES / "self_signed.py").read_text("utf-8").splitlines()
    at = lines.index(next(line for line in lines if line.startswith("    openssl ")))
    command = shlex.split(" ".join(line.removesuffix("\\") for line in lines[at : at + 2]))
    (tmp_path / "cert").mkdir()
    done = subprocess.run([program("openssl"), *command[1:]], cwd=tmp_path, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    with running("implicit_tls.py", tmp_path) as example:
        context = ssl.create_default_context(cafile=str(tmp_path / "cert" / "cert.pem"))
        with smtplib.SMTP_SSL(LOCAL, example.port, timeout=20, context=context) as client:
            client.login("user", "secret")


def test_lets_encrypt(tmp_path: Path) -> None:
    """As certbot leaves it: links, and an intermediate authority in the chain."""
    root = Authority("Root")
    pair = Authority("R3", root).issue(LOCAL)
    live, archive = tmp_path / "live", tmp_path / "archive"
    live.mkdir()
    archive.mkdir()
    for name, content in (("privkey", pair.key_pem), ("fullchain", pair.chain_pem), ("cert", pair.cert_pem)):
        (archive / f"{name}1.pem").write_bytes(content)
        (live / f"{name}.pem").symlink_to(f"../archive/{name}1.pem")
    with running("lets_encrypt.py", tmp_path, "0", str(live)) as example:
        with smtplib.SMTP_SSL(LOCAL, example.port, timeout=20, context=trusting(root)) as client:
            client.sendmail("a@b.example", ["c@d.example"], MESSAGE)
        assert example.end() == ""


def test_lets_encrypt_says_what_is_wrong(tmp_path: Path) -> None:
    with (
        pytest.raises(AssertionError, match=r"cert: /no/such/fullchain\.pem cannot be read"),
        running("lets_encrypt.py", tmp_path, "0", "/no/such"),
    ):
        pass


def test_hot_reload(tmp_path: Path, cert: Path, authority: Authority) -> None:
    new = authority.issue(LOCAL)
    with running("hot_reload.py", tmp_path, "0", "0.05") as example:
        with secured(example.address, trusting(authority), LOCAL) as live:
            (cert / "key.pem").write_bytes(new.key_pem)  # the half of it
            line = example.line()
            while line == "not yet: key: cert/key.pem holds no private key, but no PEM at all":
                line = example.line()
            if line != "new connections get the new certificate":
                assert line == "not yet: key: cert/key.pem does not belong to the certificate in cert/cert.pem"
            put(cert, new)
            while line != "new connections get the new certificate":
                line = example.line()
            with secured(example.address, trusting(authority), LOCAL) as client:
                assert shown(client) == new.certificate
            assert live.send(MESSAGE).code == 250
            live.quit()
        example.end()


def test_tls_facts(tmp_path: Path) -> None:
    with running("tls_facts.py", tmp_path) as example:
        with upgraded(example.address, trusting_anybody(), "new.example") as client:
            assert isinstance(client.sock, ssl.SSLSocket)
            cipher = (client.sock.cipher() or ("",))[0]
            assert client.send(MESSAGE).code == 250
        with pytest.raises((AssertionError, OSError), match="moved"):
            upgraded(example.address, trusting_anybody(), "old.example")
        assert example.end().splitlines() == [
            f"protocol TLSv1.3, cipher {cipher}, in IANA's words {cipher}", "asked for new.example",
            f"protocol TLSv1.3, cipher {cipher}, in IANA's words {cipher}", "asked for old.example",
        ]  # fmt: skip


def test_client_certificates(
    tmp_path: Path, cert: Path, authority: Authority, client_authority: Authority, client_pair: Pair
) -> None:
    (cert / "ca.pem").write_bytes(client_authority.pem)
    with running("client_certificates.py", tmp_path) as example:
        context = trusting(authority, client=client_pair, directory=tmp_path)
        with smtplib.SMTP_SSL(LOCAL, example.port, timeout=20, context=context) as client:
            client.ehlo()
            client.auth("EXTERNAL", lambda challenge=None: "")
            client.sendmail("a@b.example", ["c@d.example"], MESSAGE)
        with pytest.raises((ssl.SSLError, Closed, ConnectionError)):
            secured(example.address, trusting(authority), LOCAL)
        [line] = example.end().splitlines()
    assert line.startswith("CN=alice, ")


def test_sni(tmp_path: Path, authority: Authority) -> None:
    directory = tmp_path / "cert"
    directory.mkdir()
    names = {"default": "mx.default.example", "example": "mail.example.com", "another": "*.another.example"}
    pairs = {}
    for stem, name in names.items():
        pairs[stem] = authority.issue(name)
        pairs[stem].files(directory, stem)
    asked = {"mx.default.example": "default", "mail.example.com": "example", "smtp.another.example": "another"}
    with running("sni.py", tmp_path) as example:
        for name, stem in asked.items():
            with secured(example.address, trusting(authority), name) as client:
                assert shown(client) == pairs[stem].certificate
                assert client.send(MESSAGE).code == 250
        assert example.end().splitlines() == [f"asked for {name}" for name in asked]
