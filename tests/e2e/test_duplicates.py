"""A client that lost our 250 and sends its message again: delivered once. Equal messages in order, or on connections
that live: as many as were sent.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from tests.front import Front
from tests.ports import free_port
from tests.settingsfile import smtp_route
from tests.sink import Sink
from tests.smtp_talk import talk
from tests.wait import until

BODY = b"Message-ID: <same@test>\r\nSubject: the same\r\n\r\nbody\r\n"


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[Sink]:
    with Sink(tmp_path, free_port()) as sink:
        yield sink


def delivered(sink: Sink, count: int) -> bool:
    return len(sink.deliveries()) >= count


def records(front: Front) -> int:
    with front.store() as store:
        return sum(1 for _ in store.scan_iter(match="*:dup:*"))


@pytest.mark.parametrize("by", ["FIN", "RST"])
def test_a_250_that_was_lost(by: str, serve: Callable[..., Front], sink: Sink) -> None:
    front = serve(smtp_route(sink.next_hop), server={"workers": 2})
    answers = []
    for _ in range(4):
        with talk(front.address) as session:  # it is cut off after the 250, with nothing said
            answers.append(session.send(BODY))
            if by == "RST":
                session.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert [answer.code for answer in answers] == [250] * 4
    assert len({answer.text for answer in answers}) == 1, "all name the first copy"
    front.await_empty_queue()
    assert len(sink.deliveries()) == 1


@pytest.mark.parametrize("end", ["QUIT", "NOOP", "RSET"])
def test_who_went_on_after_the_250_sends_another_message(end: str, serve: Callable[..., Front], sink: Sink) -> None:
    front = serve(smtp_route(sink.next_hop), server={"workers": 2})
    for _ in range(3):
        with talk(front.address) as session:
            assert session.send(BODY).code == 250
            session.command(end)
        until(lambda: records(front) == 0, 5.0, "what the client has seen is forgotten")
    until(partial(delivered, sink, 3), 10.0, "all are delivered")


def test_equal_messages_of_many_connections_are_as_many(serve: Callable[..., Front], sink: Sink) -> None:
    """A pool of 20 sessions over two workers that sends nothing else, as smtp-source does."""
    front = serve(smtp_route(sink.next_hop), server={"workers": 2})

    def send(_number: int) -> list[str]:
        ids = []
        for _ in range(3):
            with talk(front.address, timeout_s=30.0) as session:
                for _ in range(3):
                    answer = session.send(BODY)
                    assert answer.code == 250
                    ids.append(answer.text)
                session.quit()
        return ids

    with ThreadPoolExecutor(20) as pool:
        ids = [each for found in pool.map(send, range(20)) for each in found]
    assert len(set(ids)) == len(ids) == 180
    until(partial(delivered, sink, 180), 30.0, "all are delivered")
    front.await_empty_queue()
    assert len(sink.deliveries()) == 180
    until(lambda: records(front) == 0, 5.0, "what the clients have seen is forgotten")


def test_an_idle_session_is_no_lost_250(serve: Callable[..., Front], sink: Sink) -> None:
    """Two connections send an equal message, and neither says anything after its 250 yet."""
    front = serve(smtp_route(sink.next_hop), server={"workers": 2})
    with talk(front.address) as one, talk(front.address) as other:
        assert one.send(BODY).code == 250
        assert other.send(BODY).code == 250
        until(partial(delivered, sink, 2), 10.0, "both are delivered")


def test_two_equal_messages_of_one_session_are_two(serve: Callable[..., Front], sink: Sink) -> None:
    front = serve(smtp_route(sink.next_hop))
    with talk(front.address) as session:
        for _ in range(3):
            assert session.send(BODY).code == 250
        group = b"MAIL FROM:<a@client.example>\r\nRCPT TO:<b@ours.example>\r\nBDAT %d LAST\r\n%s" % (len(BODY), BODY)
        session.raw(group * 2)  # the second one was sent before the first one's 250
        assert [session.reply().code for _ in range(6)] == [250] * 6
    until(partial(delivered, sink, 5), 10.0, "all are delivered")
