"""GNU SASL's client, the one that msmtp and mutt have, against our exchange: each mechanism that both know."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from mta_front.smtp import sasl
from mta_front.smtp.credentials import Credentials
from mta_front.smtp.scram import ScramKeys
from tests.needs import program
from tests.smtp.sasl_talk import CHANNEL, SALT, b64, exchange

MECHANISMS = ("PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS", "EXTERNAL")
EXCHANGES = [
    (name, initial)
    for name in MECHANISMS
    for initial in (True, False)
    if not (initial and name in ("LOGIN", "CRAM-MD5"))
]
USERS = [("user", "pencil"), ("jürgen=,", "pä\u00a0ß ½")]
TIMEOUT_S = 30.0


class Gsasl:
    """One run of gsasl, a line each way at a time."""

    def __init__(self, popen: subprocess.Popen[str], mechanism: str) -> None:
        self._popen = popen
        # It asks for what it would take from a TLS session: without -PLUS for two kinds of binding, and we have none
        plain = ["", ""] if mechanism.startswith("SCRAM") else []
        self._to_bind = [b64(CHANNEL)] if mechanism.endswith("-PLUS") else plain

    def begins(self) -> str:
        self._write(*self._bindings())
        return self.says()

    def hears(self, challenge: bytes) -> None:
        self._write(b64(challenge), *self._bindings())

    def says(self) -> str:
        assert self._popen.stdout
        return self._popen.stdout.readline().rstrip("\n").rpartition(": ")[2]

    def ask(self, challenge: bytes) -> bytes:
        self.hears(challenge)
        answer = sasl.decoded_answer(self.says())
        assert isinstance(answer, bytes), answer
        return answer

    def _bindings(self) -> list[str]:
        lines, self._to_bind = self._to_bind, []
        return lines

    def _write(self, *lines: str) -> None:
        assert self._popen.stdin
        self._popen.stdin.write("".join(f"{line}\n" for line in lines))
        self._popen.stdin.flush()


@contextmanager
def gsasl(mechanism: str, user: str, password: str, initial: bool, *options: str) -> Iterator[Gsasl]:
    """Killed when it is silent for too long. `initial`: it speaks first."""
    options = options if initial else (*options, "--no-client-first")
    argv = [program("gsasl"), "--client", "--quiet", "-m", mechanism, "-a", user, "-p", password, *options]
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    with subprocess.Popen(
        argv,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        encoding="utf-8",
        env=environment,
    ) as popen:
        killer = threading.Timer(TIMEOUT_S, popen.kill)
        killer.start()
        try:
            assert popen.stdout
            assert popen.stdout.readline() == f"{mechanism}\n"
            yield Gsasl(popen, mechanism)
        finally:
            killer.cancel()
            killer.join()
            popen.kill()


def ready(client: Gsasl, mechanism: str, initial: bool) -> Credentials:
    """What it shows, asked for or not."""
    ours = exchange(mechanism)
    outcome = ours.begin(client.begins() or "=" if initial else None)
    while isinstance(outcome, sasl.Challenge):
        client.hears(outcome.data)
        outcome = ours.respond(client.says())
    assert isinstance(outcome, sasl.Ready), outcome
    outcome.credentials.ask = client.ask
    return outcome.credentials


@pytest.mark.parametrize(("mechanism", "initial"), EXCHANGES)
@pytest.mark.parametrize(("user", "password"), USERS)
def test_gsasl_logs_in(mechanism: str, initial: bool, user: str, password: str) -> None:
    with gsasl(mechanism, user, password, initial) as client:
        shown = ready(client, mechanism, initial)
        if mechanism == "EXTERNAL":
            assert (shown.username, shown.authzid) == ("client.example", "")
            return
        assert shown.username == user
        if mechanism.startswith("SCRAM"):
            assert shown.scram(ScramKeys.of_password(password, SALT, 4096))
        else:
            assert shown.validate_password(password)


@pytest.mark.parametrize("mechanism", [name for name in MECHANISMS if name != "EXTERNAL"])
def test_gsasl_with_a_wrong_password_does_not(mechanism: str) -> None:
    with gsasl(mechanism, "user", "pencils", initial=False) as client:
        assert not ready(client, mechanism, initial=False).validate_password("pencil")


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS", "EXTERNAL"])
def test_gsasl_acts_as_another(mechanism: str) -> None:
    with gsasl(mechanism, "user", "pencil", True, "-z", "boss=,@example.com") as client:
        shown = ready(client, mechanism, initial=True)
        assert shown.authzid == "boss=,@example.com"
        assert mechanism == "EXTERNAL" or shown.validate_password("pencil")
