"""Certificates made in the test: an authority that issues what a test asks for, good or bad."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = timedelta(days=1)


def new_key(kind: str) -> Any:
    """A private key: "ecdsa", "rsa", "ed25519", or the weak ones "rsa1024", "p192"."""
    makers: dict[str, Any] = {
        "ecdsa": lambda: ec.generate_private_key(ec.SECP256R1()),
        "p192": lambda: ec.generate_private_key(ec.SECP192R1()),
        "ed25519": ed25519.Ed25519PrivateKey.generate,
        "rsa": lambda: rsa.generate_private_key(65537, 2048),
        "rsa1024": lambda: rsa.generate_private_key(65537, 1024),
    }
    return makers[kind]()


def key_pem(key: Any) -> bytes:
    """As PKCS #8, not encrypted."""
    return bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


@dataclass(frozen=True)
class Pair:
    """A key with its certificate; `chain` is the certificate with its issuers behind it."""

    key: Any
    certificate: x509.Certificate
    issuers: tuple[x509.Certificate, ...] = ()

    @property
    def key_pem(self) -> bytes:
        return key_pem(self.key)

    @property
    def cert_pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def chain_pem(self) -> bytes:
        return b"".join(each.public_bytes(Encoding.PEM) for each in (self.certificate, *self.issuers))

    def files(self, directory: Path, stem: str) -> tuple[Path, Path]:
        """Key and chain written down; their paths."""
        key, cert = directory / f"{stem}.key", directory / f"{stem}.crt"
        key.write_bytes(self.key_pem)
        cert.write_bytes(self.chain_pem)
        return key, cert


class Authority:
    """A root, or an intermediate under another authority."""

    def __init__(self, name: str = "Test Root", parent: Authority | None = None, kind: str = "ecdsa") -> None:
        self.key = new_key(kind)
        self.parent = parent
        signer = parent.key if parent else self.key
        now = datetime.now(UTC)
        self.certificate: x509.Certificate = (
            x509.CertificateBuilder()
            .subject_name(_name(name))
            .issuer_name(parent.certificate.subject if parent else _name(name))
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 100 * DAY)
            .not_valid_after(now + 1000 * DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), critical=False)
            .sign(signer, hashes.SHA256())
        )

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    def issue(
        self,
        name: str,
        kind: str = "ecdsa",
        *,
        key: Any = None,
        sans: Sequence[x509.GeneralName] | None = None,
        begins: timedelta = -DAY,
        ends: timedelta = 30 * DAY,
        client: bool = False,
    ) -> Pair:
        """A certificate for a server, or for a client; valid from `begins` to `ends`, counted from now."""
        key = key or new_key(kind)
        now = datetime.now(UTC)
        usage = ExtendedKeyUsageOID.CLIENT_AUTH if client else ExtendedKeyUsageOID.SERVER_AUTH
        certificate = (
            x509.CertificateBuilder()
            .subject_name(_name(name))
            .issuer_name(self.certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + begins)
            .not_valid_after(now + ends)
            .add_extension(x509.SubjectAlternativeName(sans or [x509.DNSName(name)]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()),
                critical=False,
            )
            .sign(self.key, hashes.SHA256())
        )
        return Pair(key, certificate, (self.certificate,) if self.parent else ())

    def ocsp(self, pair: Pair, ends: timedelta = DAY, status: ocsp.OCSPCertStatus = ocsp.OCSPCertStatus.GOOD) -> bytes:
        """An OCSP response about a certificate of ours."""
        now = datetime.now(UTC)
        revoked = status is ocsp.OCSPCertStatus.REVOKED
        response = (
            ocsp.OCSPResponseBuilder()
            .add_response(
                cert=pair.certificate,
                issuer=self.certificate,
                algorithm=hashes.SHA256(),
                cert_status=status,
                this_update=now - 2 * DAY,
                next_update=now + ends,
                revocation_time=now - DAY if revoked else None,
                revocation_reason=None,
            )
            .responder_id(ocsp.OCSPResponderEncoding.HASH, self.certificate)
            .sign(self.key, hashes.SHA256())
        )
        return response.public_bytes(Encoding.DER)
