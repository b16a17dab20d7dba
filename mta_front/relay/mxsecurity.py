"""How much TLS a mail exchanger owes us: what the route wants, or more where the recipient's domain says so.

First DANE (RFC 7672), where DNSSEC proves everything on the way: the MX records, the exchanger's addresses, its TLSA
records. Else MTA-STS (RFC 8461), where the domain publishes a policy. Else what the route says.
"""

from __future__ import annotations

from mta_front.relay.dns import Answer, Dns
from mta_front.relay.mtasts import MtaSts
from mta_front.relay.mx import Place
from mta_front.relay.tlspolicy import Mode, TlsPolicy
from mta_front.smtp.transaction import Outcome
from mta_front.tls.dane import Tlsa


class MxSecurity:
    """`mode`: what the route wants. `sts`: None = not asked. `port`: of the exchangers and of TLSA records."""

    def __init__(self, mode: Mode, dns: Dns, *, dane: bool = False, sts: MtaSts | None = None, port: int = 25) -> None:
        self._mode = mode
        self._dns = dns
        self._dane = dane
        self._sts = sts
        self._port = port

    def of_address(self, address: str) -> TlsPolicy:
        """Of an address literal: nobody can say more."""
        return TlsPolicy(self._mode, (address,))

    def of(self, domain: str, place: Place) -> TlsPolicy | Outcome:
        """Of one address of an exchanger of this domain; an Outcome says why mail must not go there."""
        host = place.exchanger.host
        if self._mode != "none" and self._dane and place.exchanger.secure and place.secure:
            proved = self._by_dane(domain, place)
            if proved is not None:
                return proved
        policy = self._sts.policy(domain) if self._sts is not None else None
        if policy is not None and policy.mode == "enforce":
            if not policy.names(host):
                text = f"4.7.0 {host} takes mail for {domain}, says the DNS, and its MTA-STS policy does not"
                return Outcome("deferred", 451, text)
            return TlsPolicy("verify", (host,))
        return TlsPolicy(self._mode, (host,), vouched=place.exchanger.secure)

    def _by_dane(self, domain: str, place: Place) -> TlsPolicy | Outcome | None:
        """None: DANE says nothing of this exchanger."""
        host = place.exchanger.host
        answer = Answer("none")
        for base in dict.fromkeys((place.canonical, host)):  # RFC 7672 §2.2.2: first where its CNAMEs lead
            answer = self._dns.ask(f"_{self._port}._tcp.{base}", "TLSA")
            if answer.status == "unknown":
                # Whoever can keep answers from us must not be able to turn TLS off (§2.1.1)
                return Outcome("deferred", 451, f"4.7.0 The DNS does not say what certificate {host} has")
            if answer.status == "found" and answer.secure:
                break
        else:
            return None
        records = tuple(
            Tlsa(record.usage, record.selector, record.mtype, bytes(record.cert)) for record in answer.records
        )
        if not any(record.usable for record in records):
            # TLS all the same, with whomever (§2.1.2)
            return TlsPolicy("verify" if self._mode == "verify" else "encrypt", (host,))
        return TlsPolicy("dane", tuple(dict.fromkeys((host, place.canonical, domain))), records)
