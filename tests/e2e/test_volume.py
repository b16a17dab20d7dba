"""Many messages, one a connection: all accepted, all relayed, none left."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.front import Front
from tests.postfix import SmtpSink, smtp_source
from tests.settingsfile import smtp_route
from tests.wait import until

pytestmark = pytest.mark.timeout(900)  # for --full
SESSIONS, LENGTH_BYTES = 50, 4096


def test_all_accepted_all_relayed_none_left(
    serve: Callable[..., Front], smtp_sink: SmtpSink, full: bool, figures: Callable[[str], None]
) -> None:
    """`smtp-source -s 50 -m 20000 -l 4096` through the front to `smtp-sink -c`; 3,000 messages without --full."""
    messages = 20_000 if full else 3_000
    front = serve(smtp_route(smtp_sink.next_hop))
    took_s = smtp_source(front.address, sessions=SESSIONS, messages=messages, length_bytes=LENGTH_BYTES)
    accepted = int(front.metric("mta_front_messages_accepted_total"))
    until(lambda: smtp_sink.messages() >= messages, 60.0, f"{messages} reach the next hop")
    front.await_empty_queue()
    queue = front.queue()
    assert smtp_sink.messages() == messages
    assert accepted == messages
    assert not any(queue.values()), queue
    figures(
        f"{messages} sent in {took_s:.1f} s ({messages / took_s:.0f}/s), {accepted} accepted, "
        f"{smtp_sink.messages()} relayed, {sum(queue.values())} left"
    )
