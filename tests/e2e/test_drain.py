"""TERM with sessions open: idle ones hear 421, a message that is on its way may finish, nothing remains."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from contextlib import ExitStack

from tests.front import Front
from tests.settingsfile import smtp_route
from tests.sink import Sink
from tests.smtp_talk import Answer, Talk, stuffed, talk
from tests.wait import until

MESSAGE = b"Subject: inside DATA\r\n\r\n" + b"a line of the body\r\n" * 500
DRAIN_TIMEOUT_S = 10.0


def queue_id(answer: Answer) -> str:
    """Of a 250."""
    assert answer.code == 250, str(answer)
    return answer.text.rpartition("queued as ")[2].strip()


def assert_told_to_go(session: Talk) -> None:
    """421 4.3.2, and closed."""
    answer = session.reply(5.0)
    assert (answer.code, answer.text[:5]) == (421, "4.3.2"), str(answer)
    session.ended()


def test_term_with_twenty_sessions(serve: Callable[..., Front], sink: Sink, figures: Callable[[str], None]) -> None:
    """5 idle, 5 between messages, 5 between MAIL and DATA, 5 inside DATA; exit 0 within the drain time."""
    front = serve(smtp_route(sink.next_hop), server={"drain_timeout_s": DRAIN_TIMEOUT_S})
    ids = list[str]()
    with ExitStack() as stack:
        idle, between, begun, inside = ([stack.enter_context(talk(front.address)) for _ in range(5)] for _ in range(4))
        for session in between:
            ids.append(queue_id(session.send(MESSAGE)))
        for session in begun:
            session.expect("MAIL FROM:<a@client.example>", 250)
        for session in inside:
            session.envelope("a@client.example", ["b@ours.example"])
            session.raw(stuffed(MESSAGE)[:5000])

        began_at = time.monotonic()
        front.signal(signal.SIGTERM)
        for session in idle + between:
            assert_told_to_go(session)
        assert front.running(), "messages are still on their way"
        for session in begun:
            session.expect("RCPT TO:<b@ours.example>", 250)
            session.expect("DATA", 354)
            session.raw(stuffed(MESSAGE)[:5000])
        for session in begun + inside:
            session.raw(stuffed(MESSAGE)[5000:])
            ids.append(queue_id(session.reply()))
            assert_told_to_go(session)
        code = front.wait(DRAIN_TIMEOUT_S + 5)
    took_s = time.monotonic() - began_at
    assert code == 0
    assert took_s < DRAIN_TIMEOUT_S
    front.assert_all_ended(1.0)
    figures(f"10 x 421 4.3.2 at once, 10 x 250 and then 421, exit {code} after {took_s:.1f} s, no process left")

    front.start()
    until(lambda: {d.queue_id for d in sink.deliveries()} == set(ids), 15.0, "what was accepted is delivered")


def test_sessions_that_do_not_finish_end_at_the_drain_time(serve: Callable[..., Front], sink: Sink) -> None:
    """A client that falls silent does not hold the server up, and its message was never promised."""
    front = serve(smtp_route(sink.next_hop), server={"drain_timeout_s": 2.0})
    with talk(front.address) as silent, talk(front.address) as stuck:
        silent.expect("MAIL FROM:<a@client.example>", 250)
        stuck.envelope("a@client.example", ["b@ours.example"])
        stuck.raw(stuffed(MESSAGE)[:5000])
        began_at = time.monotonic()
        assert front.terminate(10.0) == 0
        took_s = time.monotonic() - began_at
        assert 1.5 < took_s < 6.0
        assert_told_to_go(silent)
        front.assert_all_ended(1.0)
    assert sink.deliveries() == []
