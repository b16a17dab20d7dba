"""Many MESSAGES, one a connection: all accepted, all relayed, none left."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.front import Front
from tests.postfix import SmtpSink, smtp_source
from tests.settingsfile import smtp_route
from tests.wait import until

pytestmark = pytest.mark.timeout(300)
MESSAGES, SESSIONS, LENGTH_BYTES = 20_000, 50, 4096


def test_all_accepted_all_relayed_none_left(
    serve: Callable[..., Front], smtp_sink: SmtpSink, figures: Callable[[str], None]
) -> None:
    """`smtp-source -s 50 -m 20000 -l 4096` through the front to `smtp-sink -c`."""
    front = serve(smtp_route(smtp_sink.next_hop))
    took_s = smtp_source(front.address, sessions=SESSIONS, messages=MESSAGES, length_bytes=LENGTH_BYTES)
    until(lambda: smtp_sink.messages() >= MESSAGES, 60.0, f"{MESSAGES} reach the next hop")
    front.await_empty_queue()
    queue = front.queue()
    until(lambda: front.metric("mta_front_messages_accepted_total") >= MESSAGES, 5.0, "all are counted as accepted")
    accepted = int(front.metric("mta_front_messages_accepted_total"))
    assert smtp_sink.messages() == MESSAGES
    assert accepted == MESSAGES
    assert not any(queue.values()), queue
    figures(
        f"{MESSAGES} sent in {took_s:.1f} s ({MESSAGES / took_s:.0f}/s), {accepted} accepted, "
        f"{smtp_sink.messages()} relayed, {sum(queue.values())} left"
    )
