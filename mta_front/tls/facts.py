"""What is known of a TLS session once its handshake is over."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from cryptography import x509
from OpenSSL import SSL, crypto

from mta_front.tls.reasons import why_unverified
from mta_front.tls.suites import STANDARD_NAMES

_SERVER_HELLO = 2
_EXTENDED_MASTER_SECRET = 23  # RFC 7627 §5.1


@dataclass(frozen=True, slots=True)
class PeerCertificate:
    """The certificate that a client showed and whose key it has proved to hold.

    `subject` is as in RFC 4514 and `common_name` its last CN, "" if there is none; `sans` are ("dns" | "email" | "ip" |
    "uri", value) pairs. All are the client's own words unless `verified`; if it is not, `unverified` says why.
    """

    subject: str
    common_name: str
    sans: tuple[tuple[str, str], ...]
    fingerprint: str
    """SHA-256 of `der`, in lower-case hexadecimal."""
    verified: bool
    unverified: str
    der: bytes


@dataclass(frozen=True, slots=True)
class Facts:
    """`version` as in "TLSv1.3"; `cipher` is OpenSSL's name, `standard_name` IANA's; `servername` "" without SNI."""

    version: str
    cipher: str
    standard_name: str
    servername: str
    peer_certificate: PeerCertificate | None


def facts_of(connection: SSL.Connection, verify_error: int) -> Facts:
    """Of a connection whose handshake is over. `verify_error` is the first X509_V_ERR_* that was seen in it, or 0."""
    cipher = connection.get_cipher_name() or ""
    return Facts(
        version=connection.get_protocol_version_name(),
        cipher=cipher,
        standard_name=STANDARD_NAMES.get(cipher, cipher),
        servername=servername_of(connection),
        peer_certificate=_peer_certificate(connection, verify_error),
    )


def servername_of(connection: SSL.Connection) -> str:
    """The name that the client asked for, in lower case without a trailing dot; "" for none or one that is no text."""
    name = connection.get_servername()
    return name.decode("ascii").lower().removesuffix(".") if name and name.isascii() else ""


def _peer_certificate(connection: SSL.Connection, verify_error: int) -> PeerCertificate | None:
    shown = connection.get_peer_certificate()
    if shown is None:
        return None
    der = crypto.dump_certificate(crypto.FILETYPE_ASN1, shown)
    subject, common_name, sans = _names_in(der)
    return PeerCertificate(
        subject=subject,
        common_name=common_name,
        sans=sans,
        fingerprint=hashlib.sha256(der).hexdigest(),
        verified=not verify_error,
        unverified=why_unverified(verify_error),
        der=der,
    )


def _names_in(der: bytes) -> tuple[str, str, tuple[tuple[str, str], ...]]:
    """A client that need not be verified may show what OpenSSL parses and cryptography, which is stricter, does not."""
    try:
        certificate = x509.load_der_x509_certificate(der)
        subject = certificate.subject.rfc4514_string()
        common_names = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    except (ValueError, Warning):
        return "", "", ()
    common_name = str(common_names[-1].value) if common_names else ""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError, Warning):
        return subject, common_name, ()
    return subject, common_name, tuple(_san(name) for name in names if type(name) in _SAN_KINDS)


_SAN_KINDS: dict[type[x509.GeneralName], str] = {
    x509.DNSName: "dns",
    x509.RFC822Name: "email",
    x509.IPAddress: "ip",
    x509.UniformResourceIdentifier: "uri",
}


def _san(name: x509.GeneralName) -> tuple[str, str]:
    return _SAN_KINDS[type(name)], str(name.value)


def has_extended_master_secret(flight: bytes) -> bool:
    """Whether our ServerHello of TLS 1.2, the first message of `flight`, agrees to RFC 7627.

    pyOpenSSL has no SSL_get_extms_support; the ServerHello is our own and in clear, so its lengths can be trusted.
    """
    hello = flight[5 : 5 + int.from_bytes(flight[3:5], "big")]  # the record's header: type, version, length
    if not hello or hello[0] != _SERVER_HELLO:
        return False
    at = 4 + 2 + 32  # message header, version, random
    at += 1 + hello[at] + 2 + 1  # session id, cipher suite, compression method
    end = at + 2 + int.from_bytes(hello[at : at + 2], "big")
    at += 2
    while at < end:
        if int.from_bytes(hello[at : at + 2], "big") == _EXTENDED_MASTER_SECRET:
            return True
        at += 4 + int.from_bytes(hello[at + 2 : at + 4], "big")
    return False
