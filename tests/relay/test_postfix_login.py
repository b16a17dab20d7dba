"""Postfix as our next hop, with TLS and with logins that Dovecot judges: neither knows our code."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mta_front.relay.tlspolicy import Mode, TlsPolicy
from mta_front.relay.transports.opener import Credentials, SmtpOptions, Target, Trust
from mta_front.relay.transports.smtp import SmtpTransport
from mta_front.settings.values import parse_bind
from tests.clients.postfix_relay import PostfixRelay
from tests.policy.auth.people import PASSWORD
from tests.policy.auth.test_dovecot import Dovecot
from tests.ports import free_port
from tests.relay.attempts import Noted, Try, deliver
from tests.relay.hub import eventually
from tests.sink import Sink
from tests.tls.authority import Authority

MESSAGE = b"From: a@x.example\r\nMessage-ID: <1@x.example>\r\nDate: Thu, 1 Jan 2026 00:00:00 +0000\r\n\r\none\r\n"
SETTINGS = """
smtpd_tls_chain_files = {directory}/hop.key, {directory}/hop.crt
smtpd_tls_security_level = may
smtpd_tls_auth_only = yes
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = {auth}
mynetworks = 192.0.2.1
smtpd_relay_restrictions = permit_sasl_authenticated, reject
smtp_tls_security_level = none
"""
OPEN = """
auth_mechanisms = plain login scram-sha-256
service auth {{
  unix_listener auth-client {{
    mode = 0666
  }}
}}
"""


class Hop:
    """A Postfix that takes mail from those who log in, and passes it on to `sink`."""

    def __init__(self, tmp_path: Path) -> None:
        self.directory = Path(tempfile.mkdtemp())
        self.directory.chmod(0o755)
        authority = Authority()
        authority.issue("hop.example").files(self.directory, "hop")
        (self.directory / "ca.pem").write_bytes(authority.pem)
        self.sink = Sink(tmp_path, free_port(), keep=True).start()
        dovecot = Dovecot(OPEN).start()
        dovecot.run.chmod(0o755)
        for inner in (dovecot.run / "base", dovecot.socket):
            inner.chmod(0o777)
        settings = SETTINGS.format(directory=self.directory, auth=dovecot.socket)
        self.postfix = PostfixRelay(self.directory, self.sink.port, "smtp", settings=settings).start()

    def transport(
        self, noted: Noted, credentials: Credentials | None, mode: Mode = "verify", name: str = "hop.example"
    ) -> SmtpTransport:
        target = Target(parse_bind(f"127.0.0.1:{self.postfix.port}"), name, TlsPolicy(mode, (name,)))
        options = SmtpOptions(
            "smtp", "me.example", 2, 10.0, 20.0, credentials=credentials, trust=Trust([str(self.directory / "ca.pem")])
        )
        return SmtpTransport([target], options, noted)


@pytest.fixture
def hop(tmp_path: Path) -> Iterator[Hop]:
    hop = Hop(tmp_path)
    yield hop
    shutil.rmtree(hop.directory, ignore_errors=True)


def test_postfix_takes_mail_from_who_logs_in_over_tls(hop: Hop, tmp_path: Path) -> None:
    noted = Noted()

    def send(credentials: Credentials | None, mode: Mode = "verify", name: str = "hop.example") -> Try:
        transport = hop.transport(noted, credentials, mode, name)
        deliver(transport, one := Try(["b@y.example"], MESSAGE), timeout_s=30.0)
        transport.close()
        return one

    for methods in (("SCRAM-SHA-256",), ("PLAIN",), ("LOGIN",), Credentials("").methods):
        one = send(Credentials("ann", PASSWORD, methods=methods))
        assert one.kinds == ["delivered"], (methods, one.only.text)
    secret = tmp_path / "secret"
    secret.write_text(PASSWORD + "\n")
    assert send(Credentials("jürgen", path=secret, methods=("PLAIN",))).kinds == ["delivered"]
    eventually(lambda: len(hop.sink.deliveries()) == 5, 30.0, "Postfix has passed all on")

    secret.write_text("wrong\n")
    for methods in (("SCRAM-SHA-256",), ("PLAIN",)):
        one = send(Credentials("ann", path=secret, methods=methods))
        assert one.only.kind == "deferred"
        assert one.only.text.startswith("4.7.8 Cannot log in: 535")
        assert PASSWORD not in one.only.text
    one = send(Credentials("ann", path=tmp_path / "nothing"))
    assert "No such file" in one.only.text
    one = send(Credentials("ann", PASSWORD), "none")
    assert one.only.text.startswith("4.7.0 Cannot log in: the next hop offers no AUTH")
    one = send(Credentials("ann", PASSWORD), name="other.example")
    assert "is not for other.example" in one.only.text
    one = send(None)
    assert one.only.kind == "failed", "Postfix relays for nobody else"
    assert noted.faults == []
