"""Which hosts take mail for a domain, in which order: RFC 5321 §5.1, RFC 7505 (null MX), RFC 3974 (both families)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Literal, TypeAlias

from mta_front.relay.dns import Answer, Dns
from mta_front.smtp.transaction import Outcome

MAX_EXCHANGERS = 10
MAX_ADDRESSES = 12
"""Of all exchangers: a domain that names hundreds would cost hundreds of connections for each message."""

Families: TypeAlias = Literal["any", "ipv4", "ipv6"]
Dice: TypeAlias = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Exchanger:
    """A host that takes the domain's mail. `secure`: DNSSEC proves that it is meant."""

    host: str
    preference: int
    secure: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """One address of an exchanger. `canonical`: what its name leads to; `secure`: so DNSSEC says."""

    exchanger: Exchanger
    address: str
    canonical: str
    secure: bool


class NoWay(Exception):
    """The domain's mail can go nowhere, for now or for good: `outcome` says which, and why."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.text)
        self.outcome = outcome


def exchangers_of(domain: str, answer: Answer, dice: Dice) -> list[Exchanger]:
    """The hosts that an answer to the question for MX names, in the order of trying. Raises NoWay."""
    if answer.status == "unknown":
        raise NoWay(Outcome("deferred", 451, f"4.4.3 The DNS does not say who takes mail for {domain}"))
    if answer.status == "nowhere":
        raise NoWay(Outcome("failed", 550, f"5.1.2 There is no domain {domain}"))
    if answer.status == "none":
        return [Exchanger(domain, 0, answer.secure)]  # the implicit MX
    named = [(record.preference, record.exchange.to_text(omit_final_dot=True).lower()) for record in answer.records]
    if all(host == "." for _, host in named):
        raise NoWay(Outcome("failed", 556, f"5.1.10 {domain} takes no mail (null MX)"))
    drawn = sorted((preference, dice(), host) for preference, host in named if host != ".")
    return [Exchanger(host, preference, answer.secure) for preference, _, host in drawn]


def before_ours(domain: str, exchangers: Sequence[Exchanger], is_ours: Callable[[Exchanger], bool]) -> list[Exchanger]:
    """Those that are preferred to us; all, if none of them is us. Raises NoWay when we are the best: it would loop."""
    ours = [exchanger.preference for exchanger in exchangers if is_ours(exchanger)]
    if not ours:
        return list(exchangers)
    better = [exchanger for exchanger in exchangers if exchanger.preference < min(ours)]
    if not better:
        raise NoWay(Outcome("failed", 554, f"5.4.6 Mail for {domain} loops back to us: we are its best exchanger"))
    return better


def places_of(dns: Dns, exchanger: Exchanger, families: Families, dice: Dice) -> tuple[list[Place], bool]:
    """Its addresses, both families by turns, and whether there may be some that the DNS did not tell."""
    found: list[list[Place]] = []
    unknown = False
    for kind, family in (("AAAA", "ipv6"), ("A", "ipv4")):
        if families not in ("any", family):
            continue
        answer = dns.ask(exchanger.host, kind)
        unknown = unknown or answer.status == "unknown"
        drawn = sorted((dice(), record.address) for record in answer.records)
        found.append([Place(exchanger, address, answer.canonical, answer.secure) for _, address in drawn])
    mixed = itertools.chain.from_iterable(itertools.zip_longest(*found))
    return [place for place in mixed if place is not None], unknown


def literal_of(domain: str) -> str:
    """The address in a literal such as `[192.0.2.1]` or `[IPv6:::1]`; "" for a domain. Raises NoWay."""
    if not domain.startswith("["):
        return ""
    text = domain[1:-1]
    try:
        return str(ip_address(text[5:] if text.lower().startswith("ipv6:") else text))
    except ValueError:
        raise NoWay(Outcome("failed", 501, f"5.1.3 {domain} is no address")) from None
