"""The certificates of a listener as pyOpenSSL contexts: one for each name, and the choice between them.

`load` makes a whole set or raises; a set never changes. A reload makes another set and puts it in the place of the old
one for new connections.

What OpenSSL settles when (measured with OpenSSL 4.0): version and, in TLS 1.3, cipher come from the context that the
connection began with, before the SNI callback; certificates, CA list and verify store from the one that the callback
sets; the verify mode from the connection, so the callback sets it too, or a strict name would take a client without a
certificate. A ticket is looked up before the callback, which TLS 1.2 then does not even call: a session begun under a
name without client certificates would resume under one that requires them (CVE-2025-23419), whatever the session id
contexts are, because the connection still has that of the first context. So there are no tickets where any name asks
for client certificates.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from OpenSSL import SSL, crypto

from mta_front.tls.channel import Channel
from mta_front.tls.facts import servername_of
from mta_front.tls.loading import Clients, Expiry, Fault, Identity, Loading, Read, read_file
from mta_front.tls.options import TlsOptions

_OP_PRIORITIZE_CHACHA = 1 << 21
"""OpenSSL's SSL_OP_PRIORITIZE_CHACHA, which pyOpenSSL does not name: who has ChaCha20 first has no AES in its CPU."""

_Verify = Callable[[SSL.Connection, crypto.X509, int, int, int], bool]


class TlsSettingsError(Exception):
    """The options cannot be used. `faults` are all that was found."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__("\n".join(map(str, faults)))
        self.faults = tuple(faults)


class Contexts:
    """A checked set of certificates. `channel()` begins a server's connection with them."""

    __slots__ = ("_default", "expires_at", "names")

    def __init__(self, default: SSL.Context, names: tuple[str, ...], expires_at: tuple[Expiry, ...]) -> None:
        self._default = default
        self.names = names
        self.expires_at = expires_at

    def channel(self) -> Channel:
        """A new connection, which goes on with these contexts whatever comes after them."""
        return Channel(self._default, owner=self)


def load(options: TlsOptions, *, read: Read = read_file, now: float | None = None) -> Contexts:
    """Contexts for these options, with files from `read`, judged at `now` (Unix time, s).

    Raises TlsSettingsError with all that is wrong.
    """
    loading = Loading(options, read, datetime.fromtimestamp(time.time() if now is None else now, UTC))
    versions, suites = loading.versions(), loading.suites()
    own = loading.identity(options, "", ())
    served = {"": (own, loading.clients(options, ()))}
    for name, where, of_name in loading.names():
        has_own = of_name.key or of_name.cert or of_name.ocsp_file
        identity = loading.identity(of_name, name, where) if has_own else own
        served[name] = (identity, loading.clients(of_name, where))
    tickets = loading.tickets([clients for _, clients in served.values()])
    if loading.faults:
        raise TlsSettingsError(loading.faults)
    common = _Common(versions, suites, tickets)
    made = {}
    for name, parts in served.items():
        try:
            made[name] = _context(name, common, *parts)
        except (SSL.Error, crypto.Error) as error:  # e.g. an issuer with a weak key
            option = ("sni", name) if name else ("cert",)
            raise TlsSettingsError([Fault(option, f"OpenSSL does not accept it: {_words(error)}")]) from None
    default = made.pop("")
    if made:
        default.set_tlsext_servername_callback(
            _chooser({name: _Choice(context, *_verification(served[name][1])) for name, context in made.items()})
        )
    return Contexts(default, tuple(made), tuple(loading.expires_at))


def _words(error: Exception) -> str:
    """OpenSSL's own, without its numbers."""
    return "; ".join(entry[2] for entry in error.args[0]) if error.args else type(error).__name__


@dataclass(frozen=True, slots=True)
class _Common:
    """What all names share."""

    versions: tuple[int, int]
    suites: tuple[bytes, bytes]
    tickets: bool


def _context(name: str, common: _Common, identity: Identity, clients: Clients) -> SSL.Context:
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION)
    context.set_options(SSL.OP_CIPHER_SERVER_PREFERENCE | _OP_PRIORITIZE_CHACHA)
    context.set_min_proto_version(common.versions[0])
    context.set_max_proto_version(common.versions[1])
    context.set_cipher_list(common.suites[0])
    context.set_tls13_ciphersuites(common.suites[1])
    context.set_session_id(hashlib.sha256(name.encode("ascii")).digest())
    if not common.tickets:
        context.set_options(SSL.OP_NO_TICKET)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    for chain, key in identity.pairs:
        _use_chain(context, chain.pem())
        context.use_privatekey(key)
    store = context.get_cert_store()
    assert store is not None
    for authority in clients.authorities:
        store.add_cert(crypto.X509.from_cryptography(authority))
        context.add_client_ca(authority)
    context.set_verify(*_verification(clients))
    if identity.staple:
        context.set_ocsp_server_callback(_stapler(identity))
    return context


def _use_chain(context: SSL.Context, pem: bytes) -> None:
    """Each kind of key has a chain of its own only with this call of OpenSSL's, which wants a file: one in memory."""
    descriptor = os.memfd_create("chain")
    try:
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write(pem)
        context.use_certificate_chain_file(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def _stapler(identity: Identity) -> Callable[[SSL.Connection, object], bytes]:
    def staple(_connection: SSL.Connection, _data: object) -> bytes:
        """A client would refuse an outdated response; without one it goes on."""
        return identity.staple if time.time() < identity.staple_until else b""

    return staple


# -- which name -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Choice:
    context: SSL.Context
    mode: int
    verify: _Verify | None


def _chooser(names: dict[str, _Choice]) -> Callable[[SSL.Connection], None]:
    def choose(connection: SSL.Connection) -> None:
        """The exact name, else the wildcard for its first label, else what the connection began with."""
        name = servername_of(connection)
        choice = names.get(name) or names.get("*." + name.partition(".")[2])
        if choice is not None:
            connection.set_context(choice.context)
            connection.set_verify(choice.mode, choice.verify)

    return choose


# -- client certificates ----------------------------------------------------------------------------------------------


def _verification(clients: Clients) -> tuple[int, _Verify | None]:
    if not clients.request:
        return SSL.VERIFY_NONE, None
    if clients.reject:
        return SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, _strict
    return SSL.VERIFY_PEER, _lax


def _strict(connection: SSL.Connection, _certificate: crypto.X509, error: int, _depth: int, ok: int) -> bool:
    """What OpenSSL says; the first error is noted on the connection for `Channel`."""
    if error and connection.get_app_data() is None:
        connection.set_app_data(error)
    return bool(ok)


def _lax(connection: SSL.Connection, certificate: crypto.X509, error: int, depth: int, ok: int) -> bool:
    """Any certificate will do; what is wrong with it is noted."""
    _strict(connection, certificate, error, depth, ok)
    return True
