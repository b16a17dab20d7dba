"""SASL as the client (RFC 4422, RFC 4954): we log in at a next hop, and where we can make it prove itself too.

A mechanism is a small dialog: what it says first, and an answer to each challenge. `proven` says whether the server has
shown that it knows the password as well, where the mechanism has a way to (SCRAM); until then its 235 means nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from mta_front.smtp import base64text
from mta_front.smtp.saslprep import prepared_password
from mta_front.smtp.scram import MIN_ITERATIONS
from mta_front.smtp.secret import Secret, octets

MAX_ITERATIONS = 200_000
"""A server may ask for work; beyond this (100 ms of ours) it asks for a halt."""

CLIENT_METHODS = ("SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "XOAUTH2", "PLAIN", "LOGIN")
"""What we speak, the best first."""

SECRET_METHODS = frozenset({"XOAUTH2", "PLAIN", "LOGIN"})
"""They hand the password, or the token, to whoever listens."""

_SERVER_FIRST = re.compile(rb"r=([\x21-\x2b\x2d-\x7e]+),s=([A-Za-z0-9+/=]+),i=([1-9][0-9]{0,8})(?:,[A-Za-z]=[^,\0]*)*")
_SERVER_FINAL = re.compile(rb"v=([A-Za-z0-9+/=]+)(?:,[A-Za-z]=[^,\0]*)*")


class SaslError(Exception):
    """The server says what makes no sense, or proves that it is not who it should be. No secret is in the message."""


@dataclass(frozen=True, slots=True, repr=False)
class Login(Secret):
    """With what to log in. `methods`: the mechanisms that may be used; XOAUTH2 takes `password` as its token.

    `insecure`: the password may also be said without TLS.
    """

    username: str
    password: str
    methods: tuple[str, ...]
    insecure: bool = False


class Mechanism(Protocol):
    """One exchange."""

    name: str

    def first(self) -> bytes | None:
        """What may be said with AUTH already; None: nothing, the server begins."""

    def answer(self, challenge: bytes) -> bytes:
        """The answer to a challenge. Raises SaslError."""

    @property
    def proven(self) -> bool:
        """Whether a 235 may be believed now."""


def choose(login: Login, offered: Iterable[str], *, secure: bool, binding: bytes | None, nonce: str) -> Mechanism:
    """The best mechanism that both sides have. `binding`: of the TLS channel (RFC 9266), None = there is none.

    `nonce`: random printable ASCII without commas. Raises SaslError, with what is missing, when there is none.
    """
    theirs = {name.upper() for name in offered}
    common = [name for name in CLIENT_METHODS if name in theirs and name in login.methods]
    if binding is None:
        common = [name for name in common if name != "SCRAM-SHA-256-PLUS"]
    if not common:
        raise SaslError(f"offers {', '.join(sorted(theirs)) or 'no AUTH'}, we may use {', '.join(login.methods)}")
    for name in common:
        if name in SECRET_METHODS and not (secure or login.insecure):
            continue
        if name == "SCRAM-SHA-256-PLUS":
            return ScramClient(login, nonce, binding)
        if name == "SCRAM-SHA-256":
            # RFC 5802 §6: "y" tells a server which does offer -PLUS that somebody has hidden it from us
            return ScramClient(login, nonce, None, hidden=binding is not None and name + "-PLUS" in login.methods)
        return _MECHANISMS[name](login)
    raise SaslError(f"offers {' and '.join(common)}, with which we log in over TLS only")


class PlainClient(Secret):
    """RFC 4616."""

    __slots__ = ("_login",)
    name = "PLAIN"
    proven = True

    def __init__(self, login: Login) -> None:
        self._login = login

    def first(self) -> bytes | None:
        """Everything."""
        return b"\0%b\0%b" % (octets(self._login.username), octets(self._login.password))

    def answer(self, challenge: bytes) -> bytes:
        """There is nothing to add."""
        raise SaslError("PLAIN has no second challenge")


class LoginClient(Secret):
    """LOGIN, which no RFC describes: asked twice for anything, one says the name and then the password."""

    __slots__ = ("_left",)
    name = "LOGIN"
    proven = True

    def __init__(self, login: Login) -> None:
        self._left = [octets(login.password), octets(login.username)]

    def first(self) -> bytes | None:
        """Nothing: not every server takes the name here."""
        return None

    def answer(self, challenge: bytes) -> bytes:
        """The name, then the password."""
        if not self._left:
            raise SaslError("LOGIN has no third challenge")
        return self._left.pop()


class XOAuth2Client(Secret):
    """Google's XOAUTH2. To an error it answers with nothing; then the server says 535."""

    __slots__ = ("_login",)
    name = "XOAUTH2"
    proven = True

    def __init__(self, login: Login) -> None:
        self._login = login

    def first(self) -> bytes | None:
        """Everything."""
        return b"user=%b\x01auth=Bearer %b\x01\x01" % (octets(self._login.username), octets(self._login.password))

    def answer(self, challenge: bytes) -> bytes:
        """The challenge is an error in JSON."""
        return b""


class ScramClient(Secret):
    """SCRAM-SHA-256 (RFC 5802, RFC 7677): the password is not said, and the server proves that it has its keys."""

    __slots__ = ("_bare", "_binding", "_expected", "_header", "_nonce", "_password", "name", "proven")

    def __init__(self, login: Login, nonce: str, binding: bytes | None, *, hidden: bool = False) -> None:
        self.name = "SCRAM-SHA-256" if binding is None else "SCRAM-SHA-256-PLUS"
        self.proven = False
        self._password = octets(prepared_password(login.password))
        self._nonce = nonce.encode("ascii")
        self._binding = binding or b""
        self._header = b"p=tls-exporter,," if binding is not None else b"y,," if hidden else b"n,,"
        name = login.username.replace("=", "=3D").replace(",", "=2C")
        self._bare = b"n=%b,r=%b" % (octets(name), self._nonce)
        self._expected = b""

    def first(self) -> bytes | None:
        """client-first-message."""
        return self._header + self._bare

    def answer(self, challenge: bytes) -> bytes:
        """client-final-message; and nothing to the server's own proof, which is the second challenge."""
        if self.proven:
            raise SaslError("SCRAM has no third challenge")
        if self._expected:
            self._check(challenge)
            return b""
        return self._final(challenge)

    def _final(self, server_first: bytes) -> bytes:
        match = _SERVER_FIRST.fullmatch(server_first)
        salt = base64text.decoded(match[2].decode("ascii")) if match else None
        if match is None or not salt:
            raise SaslError("its first SCRAM message cannot be read")
        # A nonce that is not ours goes on is an answer to somebody else (RFC 5802 §5.1)
        if not match[1].startswith(self._nonce) or match[1] == self._nonce:
            raise SaslError("its SCRAM nonce does not continue ours")
        iterations = int(match[3])
        if not MIN_ITERATIONS <= iterations <= MAX_ITERATIONS:
            raise SaslError(f"it asks for {iterations} iterations; {MIN_ITERATIONS} to {MAX_ITERATIONS} are sound")
        salted = hashlib.pbkdf2_hmac("sha256", self._password, salt, iterations)
        client_key = hmac.digest(salted, b"Client Key", "sha256")
        bound = base64text.encoded(self._header + self._binding).encode("ascii")
        without_proof = b"c=%b,r=%b" % (bound, match[1])
        signed = b",".join((self._bare, server_first, without_proof))
        mask = hmac.digest(hashlib.sha256(client_key).digest(), signed, "sha256")
        proof = bytes(one ^ other for one, other in zip(client_key, mask, strict=True))
        self._expected = hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), signed, "sha256")
        return without_proof + b",p=" + base64text.encoded(proof).encode("ascii")

    def _check(self, server_final: bytes) -> None:
        match = _SERVER_FINAL.fullmatch(server_final)
        signature = base64text.decoded(match[1].decode("ascii")) if match else None
        if signature is None or not hmac.compare_digest(signature, self._expected):
            raise SaslError("it does not know the password that it asks for")
        self.proven = True


_MECHANISMS: dict[str, Callable[[Login], Mechanism]] = {
    "XOAUTH2": XOAuth2Client,
    "PLAIN": PlainClient,
    "LOGIN": LoginClient,
}
