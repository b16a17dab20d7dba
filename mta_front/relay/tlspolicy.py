"""What a next hop has to prove before it gets mail, and whether it has. Pure but for the certificates' own libraries.

none      no TLS
may       TLS where it is offered and works, else in clear; nobody is asked who he is
encrypt   TLS, or no delivery; nobody is asked who he is
verify    TLS, with a certificate that an authority vouches for, of one of `names`
dane      TLS, with a certificate that the DNS vouches for (RFC 7672), by way of DNSSEC
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from mta_front.smtp.clientopening import StartTls
from mta_front.smtp.offer import Security
from mta_front.tls.dane import Tlsa, why_unproven
from mta_front.tls.facts import PeerCertificate
from mta_front.tls.outbound import names

Mode: TypeAlias = Literal["none", "may", "encrypt", "verify", "dane"]

_STARTTLS: dict[Mode, StartTls] = {"none": "none", "may": "may", "encrypt": "must", "verify": "must", "dane": "must"}


@dataclass(frozen=True, slots=True)
class TlsPolicy:
    """Of one next hop. `names`: what its certificate may be for; for "may" and "encrypt" they only decide whether mail
    that asks for REQUIRETLS can go there. `tlsa`: for "dane". `vouched`: nobody in between chose the names: they are
    the operator's, or proved by DNSSEC, or in the domain's MTA-STS policy (RFC 8689 §4.2.1).
    """

    mode: Mode
    names: tuple[str, ...] = ()
    tlsa: tuple[Tlsa, ...] = ()
    vouched: bool = True

    @property
    def starttls(self) -> StartTls:
        """What to do about STARTTLS."""
        return _STARTTLS[self.mode]


NO_TLS = TlsPolicy("none")


class Untrusted(Exception):
    """The next hop did not prove who it is; the message says what is wrong with its certificate."""


def judge(policy: TlsPolicy, certificate: PeerCertificate | None, chain: tuple[bytes, ...]) -> Security:
    """What the handshake is worth. Raises Untrusted where that is less than the policy wants."""
    why = _why_unproven(policy, certificate, chain)
    if why and policy.mode in ("verify", "dane"):
        raise Untrusted(why)
    return "encrypted" if why or not policy.vouched else "verified"


def _why_unproven(policy: TlsPolicy, certificate: PeerCertificate | None, chain: tuple[bytes, ...]) -> str:
    if certificate is None:
        return "it showed no certificate"
    if policy.mode == "dane":
        return why_unproven(policy.tlsa, certificate, chain, policy.names)
    if not certificate.verified:
        return f"its certificate does not verify: {certificate.unverified}"
    if not any(names(certificate, name) for name in policy.names):
        return f"its certificate is not for {' or '.join(policy.names) or 'any name that we know'}"
    return ""
