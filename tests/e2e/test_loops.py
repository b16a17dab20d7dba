"""A message that goes round in circles is cut (RFC 5321 §6.3): by counting its Received lines, at 100."""

from __future__ import annotations

from collections.abc import Callable

from tests.front import Front
from tests.settingsfile import smtp_route
from tests.sink import Sink
from tests.smtp_talk import talk
from tests.wait import until

HOP = (
    b"Received: from a.example (a.example [192.0.2.1])\r\n"
    b"\tby b.example with ESMTP id 1;\r\n"
    b"\tMon, 1 Jan 2024 00:00:00 +0000\r\n"
)


def looped(hops: int) -> bytes:
    """A message with so many Received lines, and more of them in the body, where they are only text."""
    return HOP * hops + b"Subject: round\r\n\r\n" + HOP * 200


def test_cut_at_100_received_lines(serve: Callable[..., Front], sink: Sink) -> None:
    """99 lines pass, 100 are refused with 554 5.4.6, and nothing of the refused message is left."""
    front = serve(smtp_route(sink.next_hop))
    with talk(front.address) as session:
        assert session.send(looped(99)).code == 250
        for hops in (100, 101, 500):
            answer = session.send(looped(hops))
            assert (answer.code, answer.text[:5]) == (554, "5.4.6"), f"{hops} hops: {answer}"
        mixed = looped(100).replace(b"Received:", b"rEcEiVeD:")
        assert session.send(mixed).code == 554
    until(sink.deliveries, 10.0, "the message with 99 lines is relayed")
    front.await_empty_queue()
    assert len(sink.deliveries()) == 1


def test_a_real_loop_ends(serve: Callable[..., Front]) -> None:
    """A front whose next hop is itself: the message goes round about a hundred times and is buried, not for ever."""
    front = serve({"recipients": ["*"], "transport": "discard"})  # the port is only known now
    port = front.address[1]
    assert front.terminate(15.0) == 0
    front.settings["relay"]["routes"][:] = [smtp_route(f"127.0.0.1:{port}")]
    restarted = Front(front.directory, front.settings).start()
    with talk(restarted.address) as session:
        assert session.send(b"Subject: round and round\r\n\r\n", mail_from="").code == 250
    until(lambda: restarted.queue()["dead"] == 1, 30.0, "the message is buried")
    restarted.await_empty_queue()
    until(lambda: restarted.metric("mta_front_messages_accepted_total") >= 95, 5.0, "all hops are counted")
    assert 95 <= restarted.metric("mta_front_messages_accepted_total") <= 101
