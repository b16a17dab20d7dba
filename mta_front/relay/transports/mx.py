"""Delivery to the mail exchangers of the recipient's domain, over SMTP, with as much TLS as the domain asks for."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence

import gevent

from mta_front.domains import canonical_domain
from mta_front.observe.events import Events
from mta_front.relay.attempt import Attempt
from mta_front.relay.dns import Dns
from mta_front.relay.hop import Hop, in_turn
from mta_front.relay.mx import (
    MAX_ADDRESSES,
    MAX_EXCHANGERS,
    Dice,
    Exchanger,
    Families,
    NoWay,
    Place,
    before_ours,
    exchangers_of,
    literal_of,
    places_of,
)
from mta_front.relay.mxsecurity import MxSecurity
from mta_front.relay.nexthop import domain_of
from mta_front.relay.ourselves import Ourselves
from mta_front.relay.transports.opener import SmtpOptions, Target
from mta_front.relay.transports.smtp import smtp_hop
from mta_front.settings.values import Bind
from mta_front.smtp.transaction import Outcome

UNUSED_S = 300.0
"""What is known of a host without mail for it is forgotten after so long."""


class MxTransport:
    """Each exchanger's address is a next hop of its own, with its own connections and its own health."""

    name = "mx"
    recipients_max = 100
    by_domain = True

    def __init__(
        self,
        dns: Dns,
        security: MxSecurity,
        options: SmtpOptions,
        ourselves: Ourselves,
        events: Events,
        *,
        port: int = 25,
        families: Families = "any",
        dice: Dice = random.random,
    ) -> None:
        self._dns = dns
        self._security = security
        self._options = options
        self._ourselves = ourselves
        self._events = events
        self._port = port
        self._families = families
        self._dice = dice
        self._hops: dict[Target, Hop] = {}
        self._used_at: dict[Target, float] = {}

    def deliver(self, attempt: Attempt) -> None:
        """Find out where it belongs, and try there."""
        gevent.spawn(self._route, attempt)

    def look(self, now: float) -> None:
        """Watch over the hops; forget those that nobody needs."""
        for target, hop in list(self._hops.items()):
            hop.look(now)
            if hop.unused and now - self._used_at[target] > UNUSED_S:
                hop.close()
                del self._hops[target], self._used_at[target]

    def close(self) -> None:
        """Let idle connections end."""
        for hop in self._hops.values():
            hop.close()

    def _route(self, attempt: Attempt) -> None:
        try:
            targets = self._targets(canonical_domain(domain_of(attempt.recipients[0])))
        except NoWay as no_way:
            attempt.report(attempt, [no_way.outcome] * len(attempt.recipients), self.name)
            return
        except Exception as error:  # noqa: BLE001 - a bug must not lose the attempt
            self._events.fault(error, "relay")
            outcome = Outcome("deferred", 451, "4.3.0 Local error")
            attempt.report(attempt, [outcome] * len(attempt.recipients), self.name)
            return
        now = time.monotonic()
        attempt.hops = [self._hop(target, now) for target in targets]
        in_turn(attempt, now)

    def _turned_away(self, attempt: Attempt, outcome: Outcome) -> None:
        in_turn(attempt, time.monotonic(), outcome)

    def _hop(self, target: Target, now: float) -> Hop:
        hop = self._hops.get(target)
        if hop is None:
            hop = self._hops[target] = smtp_hop(target, self._options, self._turned_away, self._events)
        self._used_at[target] = now
        return hop

    # -- where it belongs ----------------------------------------------------------------------------------------------

    def _targets(self, domain: str) -> list[Target]:
        """At least one. Raises NoWay."""
        if not domain:
            raise NoWay(Outcome("failed", 550, "5.1.3 The address has no domain"))
        literal = literal_of(domain)
        if literal:
            policy = self._security.of_address(literal)
            return [Target(Bind("tcp", literal, self._port), literal, policy)]
        answer = self._dns.ask(domain, "MX")
        exchangers = exchangers_of(domain, answer, self._dice)
        exchangers = before_ours(domain, exchangers, lambda exchanger: self._ourselves.named(exchanger.host))
        places, unknown = self._places(domain, exchangers[:MAX_EXCHANGERS])
        if not places:
            if unknown:
                raise NoWay(
                    Outcome("deferred", 451, f"4.4.3 The DNS has no address for the exchangers of {domain} now")
                )
            raise NoWay(Outcome("failed", 550, f"5.4.4 The exchangers of {domain} have no address"))
        why = Outcome("deferred", 451, "")
        targets = []
        for place in places[:MAX_ADDRESSES]:
            policy_or_why = self._security.of(domain, place)
            if isinstance(policy_or_why, Outcome):
                why = policy_or_why
            else:
                bind = Bind("tcp", place.address, self._port)
                targets.append(Target(bind, place.exchanger.host, policy_or_why))
        if not targets:
            raise NoWay(why)
        return targets

    def _places(self, domain: str, exchangers: Sequence[Exchanger]) -> tuple[list[Place], bool]:
        """The addresses, best first, up to ourselves; and whether there may be more."""
        places: list[Place] = []
        unknown = False
        ours: set[Exchanger] = set()
        for exchanger in exchangers:
            some, more = places_of(self._dns, exchanger, self._families, self._dice)
            unknown = unknown or more
            if any(self._ourselves.serves(place.address, self._port) for place in some):
                ours.add(exchanger)
            places += some
        better = set(before_ours(domain, exchangers, ours.__contains__))
        return [place for place in places if place.exchanger in better], unknown
