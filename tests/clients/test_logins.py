"""Real clients log in, each by every mechanism that it speaks, as a user of each backend that can verify it.

Each sends a letter to where only who is logged in may send, and tries again with a wrong secret, or none.
"""

from __future__ import annotations

import json
import smtplib
import ssl
import subprocess
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests import processes
from tests.clients.logins import BACKENDS, Login, LoginDoor
from tests.clients.nodemailer_run import nodemailer
from tests.clients.postfix_relay import PostfixRelay
from tests.needs import missing, program
from tests.processes import clean_environment
from tests.wait import until

Send = Callable[[Login], bool]
"""Log in and send; whether it went."""

CYRUS = Path("/usr/lib")


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoginDoor]:
    """A running server, for all tests of this file."""
    with LoginDoor(tmp_path_factory.mktemp("door")) as made:
        processes.started.remove(made.server)  # it outlives the first test
        yield made


def all_log_in(door: LoginDoor, client: str, mechanism: str, send: Send, backends: Iterable[str] = ()) -> None:
    """As a user of each backend, with the right secret and with a wrong one."""
    for backend in backends or BACKENDS[mechanism]:
        login = door.login(client, mechanism, backend)
        assert send(login), f"{backend}: {login.user} was refused"
        door.arrived(login)
        if mechanism == "EXTERNAL":
            wrong = replace(login, key=None, cert=None, sender=f"wrong-{login.sender}")
        else:
            wrong = login.wrong()
        assert not send(wrong), f"{backend}: {login.user} came in with a wrong secret"
        door.absent(wrong)


@pytest.mark.parametrize("initial", [True, False])
@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5"])
def test_smtplib(door: LoginDoor, mechanism: str, initial: bool) -> None:
    """`initial`: the first response goes with AUTH. CRAM-MD5 has none."""

    def send(login: Login) -> bool:
        context = ssl.create_default_context(cafile=str(login.ca_file))
        with smtplib.SMTP("127.0.0.1", login.port, "client.example", timeout=30.0) as client:
            client.starttls(context=context)
            client.ehlo()
            client.user, client.password = login.user, login.secret
            answer = getattr(client, f"auth_{mechanism.lower().replace('-', '_')}")
            if login.sender.startswith("wrong-"):
                with pytest.raises(smtplib.SMTPAuthenticationError, match="535"):
                    client.auth(mechanism, answer, initial_response_ok=initial)
                return False
            client.auth(mechanism, answer, initial_response_ok=initial)
            return client.sendmail(login.sender, [login.recipient], login.letter) == {}

    all_log_in(door, f"smtplib-{initial}", mechanism, send)


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5"])
def test_swaks(door: LoginDoor, tmp_path: Path, mechanism: str) -> None:
    def send(login: Login) -> bool:
        file = tmp_path / login.sender
        file.write_text(login.letter)
        done = _run(
            *(program("swaks"), "--server", "127.0.0.1", "--port", str(login.port), "--helo", "client.example"),
            *("--tls", "--tls-verify", "--tls-ca-path", str(login.ca_file)),
            *("--auth", mechanism, "--auth-user", login.user, "--auth-password", login.secret, "--timeout", "30"),
            *("--from", login.sender, "--to", login.recipient, "--data", f"@{file}", "--suppress-data"),
        )
        assert (done.returncode, "535 5.7.8" in done.stdout) in ((0, False), (28, True)), done.stdout
        return done.returncode == 0

    all_log_in(door, "swaks", mechanism, send)


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5", "XOAUTH2"])
def test_nodemailer(door: LoginDoor, tmp_path: Path, mechanism: str) -> None:
    def send(login: Login) -> bool:
        file = tmp_path / login.sender
        file.write_text(login.letter)
        auth = {"user": login.user, "pass": login.secret}
        if mechanism == "XOAUTH2":
            auth = {"type": "OAuth2", "user": login.user, "accessToken": login.secret}
        job = {
            "port": login.port,
            "tls": {"ca": str(login.ca_file)},
            "auth": auth,
            "authMethod": mechanism,
            "letters": [{"file": str(file), "from": login.sender, "to": [login.recipient]}],
        }
        done = nodemailer(job)
        assert (done.returncode, "EAUTH" in done.stderr) in ((0, False), (1, True)), done.stderr
        return done.returncode == 0 and json.loads(done.stdout)["accepted"] == [login.recipient]

    all_log_in(door, "nodemailer", mechanism, send)


@pytest.mark.parametrize(
    "mechanism", ["PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-256", "EXTERNAL", "XOAUTH2", "OAUTHBEARER"]
)
def test_msmtp(door: LoginDoor, tmp_path: Path, mechanism: str) -> None:
    """Its SCRAM is GNU SASL's. With EXTERNAL its certificate says who it is."""

    def send(login: Login) -> bool:
        secret = tmp_path / "secret"
        secret.write_text(f"{login.secret}\n")
        shown = [f"--tls-key-file={login.key}", f"--tls-cert-file={login.cert}"] if login.key else []
        done = _run(
            *(program("msmtp"), "--file=/dev/null", "--host=127.0.0.1", f"--port={login.port}", "--timeout=30"),
            *("--domain=client.example", "--tls=on", "--tls-starttls=on", f"--tls-trust-file={login.ca_file}"),
            *(*shown, f"--auth={mechanism.lower()}", f"--user={login.user}"),
            *(f"--passwordeval=cat {secret}", f"--from={login.sender}", "--", login.recipient),
            say=login.letter,
        )
        # Without a certificate EXTERNAL is not offered, and msmtp does not try
        refused = "535 5.7.8" in done.stderr or "does not support authentication method EXTERNAL" in done.stderr
        assert refused is (done.returncode != 0), done.stderr
        return done.returncode == 0

    all_log_in(door, "msmtp", mechanism, send)


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-256"])
def test_postfix(door: LoginDoor, open_directory: Path, mechanism: str) -> None:
    """Its smtp(8), with Cyrus SASL, as a relay that logs in at its next hop."""
    if not any(CYRUS.glob("*/sasl2/libscram.so")):
        missing("Cyrus SASL's mechanisms are not installed (Debian package libsasl2-modules)")

    def send(login: Login) -> bool:
        directory = open_directory / login.sender
        directory.mkdir(mode=0o755)
        (directory / "password").write_text(f"[127.0.0.1]:{login.port} {login.user}:{login.secret}\n")
        relay = PostfixRelay(
            directory,
            login.port,
            "smtp",
            settings=f"smtp_tls_security_level = verify\nsmtp_tls_CAfile = {login.ca_file}\n"
            "smtp_tls_verify_cert_match = mx.ours.example\nsmtp_tls_mandatory_ciphers = high\n"
            f"smtp_sasl_auth_enable = yes\nsmtp_sasl_password_maps = texthash:{directory}/password\n"
            f"smtp_sasl_mechanism_filter = {mechanism}\nsmtp_sasl_security_options = noanonymous\n"
            "smtp_sasl_auth_soft_bounce = no\n",
        )
        with relay, smtplib.SMTP("127.0.0.1", relay.port, "sender.example", timeout=30.0) as client:
            client.sendmail(login.sender, [login.recipient], login.letter)
            until(lambda: "status=" in relay.log_text(), 20.0, "Postfix has tried")
            log = relay.log_text()
        assert any(line.startswith(f"> AUTH {mechanism}") for line in relay.dialog()), log
        went = "status=sent" in log
        assert went or "535 5.7.8" in log, log
        return went

    all_log_in(door, "postfix", mechanism, send, ["file"])  # it takes 2 s to start


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"])
def test_gsasl(door: LoginDoor, mechanism: str) -> None:
    """It logs in and sends nothing. -PLUS is bound to its TLS, GnuTLS's, by tls-exporter (RFC 9266)."""
    binding = [] if mechanism.endswith("-PLUS") else ["--no-cb"]
    for backend in BACKENDS[mechanism]:
        for login in (door.login("gsasl", mechanism, backend), door.login("gsasl", mechanism, backend).wrong()):
            done = _run(
                *(program("gsasl"), "--smtp", f"--connect=127.0.0.1:{login.port}", f"--x509-ca-file={login.ca_file}"),
                *("-m", mechanism, "-a", login.user, "-p", login.secret, *binding),
                say="\n" * 3,  # it asks as whom it should act: as itself
            )
            went = "235 2.7.0" in done.stdout and "Client authentication finished (server trusted)" in done.stderr
            assert went is not login.sender.startswith("wrong"), done.stdout + done.stderr


def _run(*command: str, say: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        input=say,
        env=clean_environment(),
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=60,
    )
