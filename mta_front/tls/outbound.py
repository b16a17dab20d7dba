"""TLS that we begin: contexts for connections to others, and whether the certificate there names whom we meant.

The handshake itself never fails for a certificate: what is wrong with it is noted (`Facts.peer_certificate`), and who
began the connection judges it by its own policy: nobody's word, an authority's (RFC 5280), or DANE's (RFC 7672). So
the peer learns of a refusal by the end of the connection, before anything was said over it.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address

from OpenSSL import SSL, crypto

from mta_front.tls.channel import Channel
from mta_front.tls.facts import PeerCertificate

_CIPHERS = b"ECDHE+AESGCM:ECDHE+CHACHA20:DEFAULT:!aNULL:!eNULL"
"""The good ones first. Others are taken too: those who have nothing better would get their mail in clear."""


class Outbound:
    """A context for connections that we make; its authorities are those of `ca_files` (PEM), or the system's.

    Raises OSError or SSL.Error for files that cannot be used.
    """

    def __init__(self, ca_files: Sequence[str] = (), identity: tuple[str, str] | None = None) -> None:
        """`identity`: the PEM files of our own certificate, with its chain, and of its key."""
        self._context = context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_mode(SSL.MODE_RELEASE_BUFFERS)
        context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION)
        context.set_min_proto_version(SSL.TLS1_2_VERSION)
        context.set_cipher_list(_CIPHERS)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        context.set_verify(SSL.VERIFY_PEER, _note)
        if identity is not None:
            context.use_certificate_chain_file(identity[0])
            context.use_privatekey_file(identity[1])
        if not ca_files:
            context.set_default_verify_paths()
        for path in ca_files:
            with open(path, "rb"):  # noqa: PTH123 - OpenSSL's own words for a missing file are none
                context.load_verify_locations(path)

    def channel(self, name: str) -> Channel:
        """A new connection. `name`: the host's, for SNI; an address or "" is not sent (RFC 6066 §3)."""
        return Channel(self._context, owner=self, server=False, name="" if _is_address(name) else name)


def _note(connection: SSL.Connection, _certificate: crypto.X509, error: int, _depth: int, _ok: int) -> bool:
    """The first error is noted on the connection for `Channel`, and nothing is refused here."""
    if error and connection.get_app_data() is None:
        connection.set_app_data(error)
    return True


def names(certificate: PeerCertificate, host: str) -> bool:
    """Whether the certificate is for this host name, or address (RFC 6125 §6.4, RFC 9525 §6).

    By its subjectAltName alone: what is in the subject need not be a name. A star stands for one whole label, the
    first.
    """
    if _is_address(host):
        return ("ip", str(ip_address(host))) in certificate.sans
    wanted = host.lower().removesuffix(".")
    parent = wanted.partition(".")[2]
    for kind, value in certificate.sans:
        if kind == "dns":
            name = value.lower().removesuffix(".")
            if name == wanted or (name == f"*.{parent}" and "." in parent):
                return True
    return False


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
