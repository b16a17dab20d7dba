"""A server that must be logged in to, with every backend but Dovecot in its chain, and users for each of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cryptography import x509

from tests import front
from tests.clients.admitting import NOTES, TOKEN
from tests.policy.auth.issuer import AUDIENCE, ISSUER, Issuer
from tests.policy.auth.people import CHEAP_ARGON2, PASSWORD, SCRAM_KEYS
from tests.policy.auth.webserver import Answer, Heard, serving
from tests.ports import free_port
from tests.settingsfile import OURS
from tests.tls.authority import Authority
from tests.wait import until

MECHANISMS = ("PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS", "EXTERNAL", "XOAUTH2", "OAUTHBEARER")
BACKENDS = {
    "PLAIN": ("file", "redis", "http", "hook"),
    "LOGIN": ("file", "redis", "http", "hook"),
    "CRAM-MD5": ("file", "redis", "hook"),
    "SCRAM-SHA-256": ("file", "redis", "hook"),
    "SCRAM-SHA-256-PLUS": ("file", "redis", "hook"),
    "EXTERNAL": ("file", "redis", "hook"),
    "XOAUTH2": ("oauth2", "http", "hook"),
    "OAUTHBEARER": ("oauth2", "http", "hook"),
}
"""Who can verify what."""

_STORED = {"argon2": CHEAP_ARGON2, "scram": SCRAM_KEYS, "plain": f"{{PLAIN}}{PASSWORD}"}
_KIND = {"PLAIN": "argon2", "LOGIN": "argon2", "CRAM-MD5": "plain"}
_HTTP_TOKEN = "token-of-the-http-backend"


@dataclass(frozen=True, slots=True)
class Login:
    """What a client is told: its mechanism, its user with the secret, the files that TLS needs, and where to go."""

    mechanism: str
    user: str
    secret: str
    port: int
    ca_file: Path
    sender: str
    key: Path | None = None
    cert: Path | None = None

    def wrong(self) -> Login:
        """The same, but the server must say no."""
        return replace(self, secret=f"x{self.secret}", sender=f"wrong-{self.sender}")

    @property
    def letter(self) -> str:
        """A message, its lines ended with LF."""
        return f"From: {self.sender}\nTo: {self.recipient}\nSubject: login\n\nHello\n"

    @property
    def recipient(self) -> str:
        """In nobody's `relay_domains`: only who is logged in may send there."""
        return "b@elsewhere.example"


class LoginDoor:
    """A running server. As a context manager it is ended."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._stack = ExitStack()
        self._port = free_port()
        self._authority, self._clients = Authority(), Authority("Client Root")
        self._issuer = Issuer()
        self.ca_file = directory / "root.pem"
        self.ca_file.write_bytes(self._authority.pem)
        (directory / "clients.pem").write_bytes(self._clients.pem)
        (directory / "users").write_text("".join(f"file-{kind}:{text}\n" for kind, text in _STORED.items()))

    def __enter__(self) -> Self:
        http, issuer = (self._stack.enter_context(serving(each)) for each in (_answer, self._issuer.answer))
        names = [x509.DNSName("mx.ours.example"), x509.IPAddress(ip_address("127.0.0.1"))]
        key, cert = self._authority.issue("mx.ours.example", sans=names).files(self._directory, "mx")
        listener: dict[str, Any] = {
            "name": "submission",
            "bind": [f"127.0.0.1:{self._port}"],
            "auth_methods": list(MECHANISMS),
            "needs_upgrade": True,
            "reverse_lookup": False,
            "tls": {"ca": str(self._directory / "clients.pem"), "request_cert": True, "reject_unauthorized": False},
        }
        auth: dict[str, Any] = {
            "backends": ["file", "redis", "http", "oauth2", "hook"],
            "certificates": True,
            "file": {"path": str(self._directory / "users")},
            "redis": {"methods": ["PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"]},
            "http": {"url": http.url, "methods": ["PLAIN", "LOGIN", "XOAUTH2", "OAUTHBEARER"]},
            "oauth2": {"jwks_url": issuer.url, "issuer": ISSUER, "audience": AUDIENCE},
        }
        server = front.make(
            self._directory,
            {"recipients": ["*"], "transport": "maildir", "path": str(self._directory / "mail")},
            listeners=[listener],
            server={"workers": 1},
            tls={"key": str(key), "cert": str(cert)},
            auth=auth,
            hooks={"class": "tests.clients.admitting:Admitting"},
        )
        self.server = self._stack.enter_context(server)
        with server.store() as store:
            for kind, text in _STORED.items():
                store.hset(f"mta:user:redis-{kind}", "password", text)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._stack.close()

    def login(self, client: str, mechanism: str, backend: str) -> Login:
        """How a client logs in as a user of this backend. With EXTERNAL it has a certificate."""
        user, secret = backend, PASSWORD
        if mechanism in ("XOAUTH2", "OAUTHBEARER"):
            user = "ann@example.net" if backend == "oauth2" else backend
            secret = {"oauth2": self._issuer.token(), "http": _HTTP_TOKEN, "hook": TOKEN}[backend]
        elif backend in ("file", "redis"):
            user = f"{backend}-{_KIND.get(mechanism, 'scram')}"
        login = Login(
            mechanism, user, secret, self._port, self.ca_file, f"{client}-{mechanism}-{backend}@{OURS}".lower()
        )
        if mechanism == "EXTERNAL":
            key, cert = self._clients.issue(user, client=True).files(self._directory, login.sender)
            login = replace(login, key=key, cert=cert, secret="")
        return login

    def arrived(self, login: Login) -> None:
        """Wait for its letter; AssertionError unless it was sent by this user, over TLS, logged in."""
        content = until(lambda: self._find(login), 20.0, f"the letter of {login.sender} lies in the Maildir")
        assert "(mta-front) with ESMTPSA id " in content
        assert content.replace("\r\n", "\n").rstrip().endswith("\nSubject: login\n\nHello"), content
        notes = [json.loads(line) for line in (self._directory / NOTES).read_text("utf-8").splitlines()]
        assert {(note["user"], note["kind"]) for note in notes if note["mail_from"] == login.sender} == {
            (login.user, "ESMTPSA")
        }

    def absent(self, login: Login) -> None:
        """AssertionError if anything of it came as far as RCPT."""
        notes = self._directory / NOTES
        assert not notes.exists() or login.sender not in notes.read_text("utf-8")

    def _find(self, login: Login) -> str:
        wanted = f"Return-Path: <{login.sender}>\r\n"
        found = [path.read_bytes().decode() for path in (self._directory / "mail" / "new").glob("*")]
        return next((text for text in found if text.startswith(wanted)), "")


def _answer(heard: Heard) -> Answer:
    """The program behind the backend `http`."""
    asked = heard.json
    known = asked["username"] in ("http", "")
    return (200, {"user": "http"}) if known and _proven(asked) else (401, {})


def _proven(asked: Mapping[str, str]) -> bool:
    return asked.get("password") == PASSWORD or asked.get("access_token") == _HTTP_TOKEN
