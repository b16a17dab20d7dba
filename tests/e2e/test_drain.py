"""TERM with sessions open: idle ones hear 421, those inside DATA finish, the exit is clean and nothing remains."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

from tests.front import Front
from tests.settingsfile import smtp_route
from tests.sink import Sink
from tests.smtp_talk import Talk, stuffed, talk
from tests.wait import until

MESSAGE = b"Subject: inside DATA\r\n\r\n" + b"a line of the body\r\n" * 500
DRAIN_TIMEOUT_S = 10.0


def test_term_with_twenty_sessions(serve: Callable[..., Front], sink: Sink, figures: Callable[[str], None]) -> None:
    """7 idle, 7 between commands, 6 inside DATA: 421 4.3.2, 421 4.3.2, 250; exit 0 within the drain time."""
    front = serve(smtp_route(sink.next_hop), server={"drain_timeout_s": DRAIN_TIMEOUT_S})
    idle = [talk(front.address) for _ in range(7)]
    between = [talk(front.address) for _ in range(7)]
    inside = [talk(front.address) for _ in range(6)]
    for session in between:
        session.expect("MAIL FROM:<a@client.example>", 250)
    for session in inside:
        session.envelope("a@client.example", ["b@ours.example"])
        session.raw(stuffed(MESSAGE)[:5000])

    began_at = time.monotonic()
    front.signal(signal.SIGTERM)
    for session in idle + between:
        answer = session.reply(5.0)
        assert (answer.code, answer.text[:5]) == (421, "4.3.2"), str(answer)
        session.ended()
    assert front.running(), "sessions inside DATA are still there"
    ids = list[str]()
    for session in inside:
        session.raw(stuffed(MESSAGE)[5000:])
        answer = session.reply()
        assert answer.code == 250, str(answer)
        ids.append(answer.text.rpartition("queued as ")[2].strip())
    for session in inside:
        closing = session.reply()
        assert (closing.code, closing.text[:5]) == (421, "4.3.2"), str(closing)
        session.ended()
    code = front.wait(DRAIN_TIMEOUT_S + 5)
    took_s = time.monotonic() - began_at
    assert code == 0, front.log_tail()
    assert took_s < DRAIN_TIMEOUT_S
    front.assert_all_ended(1.0)
    close(idle + between + inside)
    figures(f"14 x 421 4.3.2, 6 x 250, exit {code} after {took_s:.1f} s, no process left")

    front.start()
    until(lambda: {d.queue_id for d in sink.deliveries()} == set(ids), 15.0, "what was accepted is delivered")


def test_sessions_that_do_not_finish_end_at_the_drain_time(serve: Callable[..., Front], sink: Sink) -> None:
    """A client that stops inside DATA does not hold the server up, and its message was never promised."""
    front = serve(smtp_route(sink.next_hop), server={"drain_timeout_s": 2.0})
    with talk(front.address) as stuck:
        stuck.envelope("a@client.example", ["b@ours.example"])
        stuck.raw(stuffed(MESSAGE)[:5000])
        began_at = time.monotonic()
        assert front.terminate(10.0) == 0, front.log_tail()
        took_s = time.monotonic() - began_at
        assert 1.5 < took_s < 6.0
        front.assert_all_ended(1.0)
    assert sink.deliveries() == []


def close(sessions: list[Talk]) -> None:
    """Close the test's sockets."""
    for session in sessions:
        session.close()
