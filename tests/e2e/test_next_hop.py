"""The way out, end to end: byte for byte, again after 4xx and cuts, buried after 5xx; a cut way in leaves nothing."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.front import Front
from tests.ports import free_port
from tests.settingsfile import smtp_route
from tests.sink import Sink
from tests.smtp_talk import stuffed, talk
from tests.wait import until

BODIES = [
    b"Subject: dots\r\n\r\n.\r\n..\r\n.leading\r\n.\r\n",
    b"Subject: 8-bit\r\n\r\n" + bytes(range(0x80, 0x100)) + b"\r\n",
    b"Subject: long\r\n\r\n" + b"x" * 200_000 + b"\r\n" + b"." * 70_000 + b"\r\n.\r\n",
    b"Subject: many lines\r\n\r\n" + b".a line of text\r\n" * 20_000,
    b"\r\n\r\n",
]


def has_taken(sink: Sink, messages: int) -> bool:
    """Whether the next hop has taken so many."""
    return len(sink.deliveries()) == messages


@pytest.mark.parametrize("protocol", ["smtp", "lmtp"])
def test_byte_for_byte(protocol: str, tmp_path: Path, serve: Callable[..., Front]) -> None:
    """What the next hop gets is what was sent, below the one Received header."""
    sink = Sink(tmp_path, free_port(), lmtp=protocol == "lmtp", keep=True).start()
    front = serve(smtp_route(sink.next_hop, transport=protocol))
    with talk(front.address) as session:
        for number, body in enumerate(BODIES, 1):
            assert session.send(body).code == 250
            until(partial(has_taken, sink, number), 10.0, f"message {number} is relayed")
            kept = max(sink.kept.iterdir()).read_bytes()
            assert kept.startswith(b"Received: from client.example (")
            assert kept.endswith(body)
            assert kept.removesuffix(body).count(b"\r\n") == 4  # Received takes four lines, and nothing else was added
    front.await_empty_queue()


@pytest.mark.parametrize("trouble", ["defer", "defer_rcpt", "cut_before"])
def test_again_until_it_is_taken(trouble: str, serve: Callable[..., Front], sink: Sink) -> None:
    """A next hop that says 4xx, or breaks off, gets the message again; once it takes it, once."""
    front = serve(smtp_route(sink.next_hop))
    sink.do(trouble)
    with talk(front.address) as session:
        assert session.send(BODIES[0]).code == 250
    until(lambda: front.queue()["later"] == 1, 10.0, "it is deferred")
    sink.do("deliver")
    front.await_empty_queue()
    assert len(sink.deliveries()) == 1


@pytest.mark.parametrize("trouble", ["reject", "reject_rcpt"])
def test_buried_when_refused_for_good(trouble: str, serve: Callable[..., Front], sink: Sink) -> None:
    """A 5xx to a message that nobody may be told of makes it a dead letter, which keeps its body; nothing else is left,
    and the next message passes.
    """
    front = serve(smtp_route(sink.next_hop))
    sink.do(trouble)
    with talk(front.address) as session:
        assert session.send(BODIES[2], mail_from="").code == 250
        until(lambda: front.queue()["dead"] == 1, 10.0, "it is buried")
        sink.do("deliver")
        assert session.send(BODIES[0]).code == 250
    until(partial(has_taken, sink, 1), 10.0, "the next message passes")
    buried = {"dead": 1, "bodies": 1}
    until(lambda: {kind: n for kind, n in front.queue().items() if n} == buried, 10.0, "only the dead letter is left")


@pytest.mark.parametrize("sent", [0, 1_000, 500_000])
def test_a_client_cut_inside_data_leaves_nothing(sent: int, serve: Callable[..., Front], sink: Sink) -> None:
    """No final dot, no message: neither an entry nor a body remains."""
    front = serve(smtp_route(sink.next_hop))
    with talk(front.address) as session:
        session.envelope("a@client.example", ["b@ours.example"])
        session.raw(stuffed(b"Subject: cut\r\n\r\n" + b"a line\r\n" * 100_000)[:sent])
        if sent > 100_000:
            until(lambda: front.queue()["unfinished"] == 1, 5.0, "a part of it is in the store")
    until(lambda: not any(front.queue().values()), 5.0, "nothing is left")
    assert sink.deliveries() == []
