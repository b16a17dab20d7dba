"""Delivery over SMTP and LMTP to the next hops that a route names."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence

from mta_front.observe.events import Events
from mta_front.relay.attempt import Attempt
from mta_front.relay.hop import Hop, in_turn
from mta_front.relay.sharedpace import pace_of
from mta_front.relay.smarthosts import in_order
from mta_front.relay.transports.carrier import SmtpCarrier
from mta_front.relay.transports.opener import Opener, SmtpOptions, Target
from mta_front.smtp.transaction import Outcome


class SmtpTransport:
    """The next hops of one route: a message goes to the first that is not set aside, in an order drawn by weight."""

    recipients_max = 100  # what every server must take (RFC 5321 §4.5.3.1.8)
    by_domain = False

    def __init__(
        self,
        targets: Sequence[Target],
        options: SmtpOptions,
        events: Events,
        weights: Sequence[int] = (),
        dice: Callable[[], float] = random.random,
    ) -> None:
        """`weights`: of each target; 0, as for all where there are none: in its turn, after those that have one."""
        self.name = options.protocol
        self._weights = weights or [0] * len(targets)
        self._dice = dice
        self.hops = [smtp_hop(target, options, self._turned_away, events) for target in targets]

    def deliver(self, attempt: Attempt) -> None:
        """Give it to the first next hop that takes it, or defer it."""
        attempt.hops = [self.hops[index] for index in in_order(self._weights, self._dice)]
        in_turn(attempt, time.monotonic())

    def _turned_away(self, attempt: Attempt, outcome: Outcome) -> None:
        in_turn(attempt, time.monotonic(), outcome)

    def look(self, now: float) -> None:
        """Watch over the hops."""
        for hop in self.hops:
            hop.look(now)

    def close(self) -> None:
        """Let idle connections end."""
        for hop in self.hops:
            hop.close()


def smtp_hop(
    target: Target, options: SmtpOptions, turned_away: Callable[[Attempt, Outcome], None], events: Events
) -> Hop:
    """A hop whose connections speak SMTP or LMTP."""
    opener = Opener(target, options)
    return Hop(
        target.name,
        options.max_connections,
        lambda hop: SmtpCarrier(hop, opener, options, events),
        turned_away,
        events,
        pace=pace_of(options.rate, target.name, options.turns),
        max_waiting=options.max_waiting,
        fleet=options.fleet,
    )
