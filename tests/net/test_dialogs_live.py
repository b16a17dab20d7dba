"""Every dialog of tests/wire against a live server."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from mta_front.hooks import Credentials, Hooks, Message, Session
from mta_front.tls.channel import Channel
from mta_front.tls.contexts import load
from mta_front.tls.options import TlsOptions
from tests.dialogs import converse, load_dialog
from tests.net.live import live
from tests.tls.authority import Authority, Pair

FILES = sorted((Path(__file__).parent.parent / "wire").glob("*/*.txt"))


class Keeping(Hooks):
    """Takes everything and keeps the messages, each once it is whole and found good. Admits "user" with "pencil" or
    "token", and "alice" with her certificate; nobody may act as somebody else.
    """

    def __init__(self) -> None:
        self.messages: list[bytes] = []

    def on_auth(self, credentials: Credentials, session: Session) -> str | None:
        name = credentials.username
        if credentials.authzid not in ("", name):
            return None
        if credentials.method == "EXTERNAL":
            return name if name == "alice" else None
        if credentials.access_token:
            return "user" if (name, credentials.access_token) in (("user", "token"), ("", "token")) else None
        return name if credentials.validate_password("pencil") and name == "user" else None

    def on_data(self, message: Message, session: Session) -> None:
        text = message.read()
        if message.refusal is None:
            self.messages.append(text)


@pytest.fixture(scope="module")
def authority() -> Authority:
    """Who issues all certificates here."""
    return Authority()


@pytest.fixture(scope="module")
def channel(authority: Authority) -> Callable[[], Channel]:
    """Makes the server's TLS connections; clients may show a certificate, and need not."""
    pair = authority.issue("mx.ours.example")
    asked = TlsOptions(
        key=pair.key_pem, cert=pair.cert_pem, ca=authority.pem, request_cert=True, reject_unauthorized=False
    )
    return load(asked).channel


def client_context(authority: Authority, shown: Pair | None, directory: Path) -> ssl.SSLContext:
    """What the client trusts, and the certificate that it shows."""
    context = ssl.create_default_context(cadata=authority.pem.decode())
    if shown is not None:
        key, cert = shown.files(directory, "client")
        context.load_cert_chain(cert, key)
    return context


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_dialog_live(file: Path, authority: Authority, channel: Callable[[], Channel], tmp_path: Path) -> None:
    dialog = load_dialog(file)
    hooks = Keeping()
    options = dict(dialog.options)
    name = options.pop("client_certificate", "")
    context = client_context(authority, authority.issue(name, client=True) if name else None, tmp_path)
    if options.pop("tls", False):
        options["tls"] = channel
    with live(hooks, **options) as server:
        converse(dialog, server.address, tls=context)
    assert not server.noted.faults
    if dialog.messages is not None:
        assert hooks.messages == dialog.messages
