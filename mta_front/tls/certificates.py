"""Keys and certificates from PEM, checked before anything is served with them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey

RSA_MIN_BITS = 2048
EC_MIN_BITS = 256

_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,40})-----.*?-----END \1-----", re.DOTALL)
_WEAK_HASHES = (hashes.MD5, hashes.SHA1)


class Unusable(Exception):
    """A piece of PEM cannot be used; the message finishes a sentence that begins with where it is from."""


@dataclass(frozen=True, slots=True)
class Chain:
    """A certificate of ours, with those of its issuers behind it. `source` is the file's path, or "PEM"."""

    source: str
    certificates: tuple[x509.Certificate, ...]

    @property
    def leaf(self) -> x509.Certificate:
        """The server's own."""
        return self.certificates[0]

    @property
    def kind(self) -> str:
        """One of "RSA", "ECDSA", "Ed25519", "Ed448": OpenSSL holds one certificate of each."""
        return _kind_of(self.leaf.public_key())

    @property
    def expires_at(self) -> float:
        """Unix time at which the server's own ends."""
        return self.leaf.not_valid_after_utc.timestamp()

    @property
    def serial(self) -> int:
        """The server's own serial number."""
        return self.leaf.serial_number

    def pem(self) -> bytes:
        """All of it, the leaf first."""
        return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in self.certificates)


def certificates_in(pem: bytes) -> tuple[x509.Certificate, ...]:
    """All certificates. Raises Unusable if there is none, or one that cannot be read."""
    blocks = [block.group() for block in _BLOCK.finditer(pem) if block.group(1).endswith(b"CERTIFICATE")]
    if not blocks:
        raise Unusable(f"holds no certificate, but {_kinds(pem)}")
    try:
        return tuple(x509.load_pem_x509_certificate(block) for block in blocks)
    except ValueError:
        raise Unusable("holds a certificate that cannot be read") from None


def chain_in(pem: bytes, source: str, now: datetime) -> Chain:
    """The certificate of a server, checked. Raises Unusable."""
    chain = Chain(source, certificates_in(pem))
    leaf = chain.leaf
    _check_strength(leaf.public_key())
    if isinstance(leaf.signature_hash_algorithm, _WEAK_HASHES):
        raise Unusable(f"is signed with {leaf.signature_hash_algorithm.name.upper()}, which can be forged")
    if now >= leaf.not_valid_after_utc:
        raise Unusable(f"expired at {_text(leaf.not_valid_after_utc)}")
    if now < leaf.not_valid_before_utc:
        raise Unusable(f"is not valid before {_text(leaf.not_valid_before_utc)}")
    return chain


def key_in(pem: bytes) -> Key:
    """The private key. Raises Unusable."""
    blocks = [block for block in _BLOCK.finditer(pem) if block.group(1).endswith(b"PRIVATE KEY")]
    if not blocks:
        raise Unusable(f"holds no private key, but {_kinds(pem)}")
    if len(blocks) > 1:
        raise Unusable("holds several private keys: give each in a file of its own")
    if blocks[0].group(1) == b"ENCRYPTED PRIVATE KEY" or b"Proc-Type: 4,ENCRYPTED" in blocks[0].group():
        raise Unusable("is encrypted: decrypt it, and let only its owner read it")
    try:
        key = load_pem_private_key(blocks[0].group(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise Unusable("holds a private key that cannot be read") from None
    if not isinstance(key, Key):
        raise Unusable("holds a private key of a kind that TLS does not use")
    _check_strength(key.public_key())
    return key


def fits(key: Key, certificate: x509.Certificate) -> bool:
    """Whether the certificate is this key's."""
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return key.public_key().public_bytes(*form) == certificate.public_key().public_bytes(*form)


def staple_in(der: bytes, leaf: x509.Certificate) -> float:
    """Unix time until which this OCSP response about `leaf` is good. Raises Unusable."""
    try:
        response = ocsp.load_der_ocsp_response(der)
    except ValueError:
        raise Unusable("is no OCSP response in DER") from None
    if response.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
        raise Unusable(f"is the responder's {response.response_status.name}, and no answer")
    if response.serial_number != leaf.serial_number:
        raise Unusable("is about another certificate")
    if response.certificate_status is not ocsp.OCSPCertStatus.GOOD:
        raise Unusable(f"says that the certificate is {response.certificate_status.name.lower()}")
    if response.next_update_utc is None:
        raise Unusable("does not say until when it is good")
    return response.next_update_utc.timestamp()


def self_signed(name: str, days: int = 365) -> tuple[bytes, bytes]:
    """A key and a certificate (PEM) for development: ECDSA P-256, for `name`, localhost, 127.0.0.1 and ::1."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])  # ub-common-name, RFC 5280
    now = datetime.now(UTC)
    hosts = dict.fromkeys(("localhost", name))
    addresses = [x509.IPAddress(ip_address(text)) for text in ("127.0.0.1", "::1")]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))  # a client's clock may be slow
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([*map(x509.DNSName, hosts), *addresses]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    key_pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return key_pem, certificate.public_bytes(Encoding.PEM)


def _kind_of(key: object) -> str:
    kinds: Iterable[tuple[type, str]] = (
        (rsa.RSAPublicKey, "RSA"),
        (ec.EllipticCurvePublicKey, "ECDSA"),
        (ed25519.Ed25519PublicKey, "Ed25519"),
        (ed448.Ed448PublicKey, "Ed448"),
    )
    return next((name for kind, name in kinds if isinstance(key, kind)), "")


def _check_strength(key: object) -> None:
    if not _kind_of(key):
        raise Unusable("has a key of a kind that TLS does not use")
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < RSA_MIN_BITS:
        raise Unusable(f"has a weak key: RSA of {key.key_size} bits, at least {RSA_MIN_BITS} are needed")
    if isinstance(key, ec.EllipticCurvePublicKey) and key.key_size < EC_MIN_BITS:
        raise Unusable(f"has a weak key: ECDSA of {key.key_size} bits, at least {EC_MIN_BITS} are needed")


def _kinds(pem: bytes) -> str:
    """What there is instead, in words; never the content."""
    found = dict.fromkeys(block.group(1).decode("ascii") for block in _BLOCK.finditer(pem))
    return " and ".join(found) or "no PEM at all"


def _text(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC")
