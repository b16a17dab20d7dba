"""DANE for SMTP (RFC 7672, RFC 7671): does what the DNS vouches for prove the certificate that a next hop showed?

The records must have come by DNSSEC; nothing here can tell. Usages PKIX-TA and PKIX-EE say nothing for SMTP (RFC 7672
§3.1.3): a record that cannot be used asks for TLS all the same, but proves nobody.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from OpenSSL import crypto

from mta_front.tls.facts import PeerCertificate
from mta_front.tls.outbound import names

DANE_TA, DANE_EE = 2, 3
_CERTIFICATE, _PUBLIC_KEY = 0, 1
_LENGTHS = {1: 32, 2: 64}
_DIGESTS = {1: hashlib.sha256, 2: hashlib.sha512}


@dataclass(frozen=True, slots=True)
class Tlsa:
    """One TLSA record (RFC 6698 §2.1)."""

    usage: int
    selector: int
    matching: int
    data: bytes

    @property
    def usable(self) -> bool:
        """Whether it can prove anything here."""
        return (
            self.usage in (DANE_TA, DANE_EE)
            and self.selector in (_CERTIFICATE, _PUBLIC_KEY)
            and bool(self.data)
            and (self.matching == 0 or len(self.data) == _LENGTHS.get(self.matching))
        )

    def matches(self, der: bytes) -> bool:
        """Whether it is about this certificate."""
        if self.selector == _CERTIFICATE:
            octets = der
        else:
            try:
                key = x509.load_der_x509_certificate(der).public_key()
            except (ValueError, TypeError):
                return False
            octets = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return (_DIGESTS[self.matching](octets).digest() if self.matching else octets) == self.data


def why_unproven(
    records: Sequence[Tlsa], certificate: PeerCertificate, chain: Sequence[bytes], hosts: Sequence[str]
) -> str:
    """Why none of the usable records proves the peer; "" if one does.

    `chain`: what the peer showed, in DER, its own first. `hosts`: the names it may have. With DANE-EE neither names nor
    dates matter (RFC 7672 §3.1.1); with DANE-TA they do (§3.1.2).
    """
    usable = [record for record in records if record.usable]
    if any(record.usage == DANE_EE and record.matches(certificate.der) for record in usable):
        return ""
    why = "no TLSA record matches its certificate"
    for record in usable:
        if record.usage == DANE_TA:
            for anchor in _anchors(record, chain):
                why = _why_not_under(anchor, chain)
                if not why:
                    if any(names(certificate, host) for host in hosts):
                        return ""
                    why = f"its certificate is not for {' or '.join(hosts)}"
    return why


def _anchors(record: Tlsa, chain: Sequence[bytes]) -> list[bytes]:
    """The certificates that the record makes trusted: of those shown, and itself where it is one."""
    found = [der for der in chain[1:] if record.matches(der)]
    if not found and record.selector == _CERTIFICATE and record.matching == 0:
        found = [record.data]
    return found


def _why_not_under(anchor: bytes, chain: Sequence[bytes]) -> str:
    """Whether the first of the chain is issued, by way of the others, under `anchor`, and valid now."""
    try:
        leaf, *others = [crypto.load_certificate(crypto.FILETYPE_ASN1, der) for der in chain]
        store = crypto.X509Store()
        store.add_cert(crypto.load_certificate(crypto.FILETYPE_ASN1, anchor))
        store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN)
        crypto.X509StoreContext(store, leaf, others).verify_certificate()
    except crypto.X509StoreContextError as error:
        return f"its certificate does not verify: {error}"
    except (crypto.Error, ValueError):
        return "its certificates cannot be read"
    return ""
