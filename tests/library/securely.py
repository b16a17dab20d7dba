"""The client's side of TLS, in tests of the library: OpenSSL as Python has it, and a Talk that goes on over it."""

from __future__ import annotations

import smtplib
import ssl
from pathlib import Path
from typing import Any

from cryptography import x509

from tests.smtp_talk import Talk
from tests.tls.authority import Authority, Pair

NAME = "mx.ours.example"
"""Whom the certificates of tests are for, where they say nothing else."""


def pem(pair: Pair) -> dict[str, Any]:
    """The options for this pair."""
    return {"key": pair.key_pem, "cert": pair.chain_pem}


def trusting(*authorities: Authority, client: Pair | None = None, directory: Path | None = None) -> ssl.SSLContext:
    """Trusts whom they have issued certificates to, and shows that of `client`, which is written to `directory`."""
    context = ssl.create_default_context(cadata="".join(each.pem.decode() for each in authorities))
    if client is not None:
        assert directory is not None
        key, cert = client.files(directory, "client")
        context.load_cert_chain(cert, key)
    return context


def trusting_anybody() -> ssl.SSLContext:
    """For certificates that nobody has issued."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def secured(address: tuple[str, int], context: ssl.SSLContext, name: str = NAME) -> Talk:
    """Connect with TLS from the first octet, ask for `name`, greet."""
    client = Talk(address)
    try:
        client.sock = context.wrap_socket(client.sock, server_hostname=name)
        client.greeting()
    except BaseException:
        client.close()
        raise
    return client


def starttls(client: Talk, context: ssl.SSLContext, name: str = NAME) -> Talk:
    """STARTTLS on a connection that has greeted, and EHLO once more."""
    client.expect("STARTTLS", 220)
    client.sock = context.wrap_socket(client.sock, server_hostname=name)
    client.expect("EHLO client.example", 250)
    return client


def upgraded(address: tuple[str, int], context: ssl.SSLContext, name: str = NAME) -> Talk:
    """Connect, greet, STARTTLS."""
    client = Talk(address)
    try:
        client.greeting()
        return starttls(client, context, name)
    except BaseException:
        client.close()
        raise


def shown(client: Talk) -> x509.Certificate:
    """The certificate that the server has shown."""
    assert isinstance(client.sock, ssl.SSLSocket)
    der = client.sock.getpeercert(binary_form=True)
    assert der
    return x509.load_der_x509_certificate(der)


def named(client: smtplib.SMTP, name: str = NAME) -> Any:
    """Make smtplib ask for `name`, whatever address it has connected to."""
    client._host = name  # type: ignore[attr-defined]
    return client
