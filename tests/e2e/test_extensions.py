"""What a client may ask for beyond plain mail, from its command to the next hop's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.front import Front
from tests.ports import free_port
from tests.settingsfile import OURS, smtp_route
from tests.sink import Delivery, Sink
from tests.smtp_talk import Talk, talk
from tests.wait import until

BARE = b"Subject: x\r\n\r\none\n.\nMAIL FROM:<evil@x.example>\r.\rtwo\n"
STRAIGHT = b"Subject: x\r\n\r\none\r\n.\r\nMAIL FROM:<evil@x.example>\r\n.\r\ntwo\r\n"


@pytest.fixture
def hop(tmp_path: Path) -> Callable[..., Sink]:
    """`hop("CHUNKING", …)`: a running next hop that offers this too."""

    def start(*offer: str, lmtp: bool = False) -> Sink:
        return Sink(tmp_path, free_port(), keep=True, offer=offer, lmtp=lmtp).start()

    return start


def send(session: Talk, body: bytes, mail_words: str = "", rcpt_words: Sequence[str] = ("",)) -> None:
    """A message by BDAT, in two chunks."""
    session.expect(f"MAIL FROM:<a@client.example>{mail_words}", 250)
    for number, words in enumerate(rcpt_words):
        session.expect(f"RCPT TO:<r{number}@{OURS}>{words}", 250)
    half = len(body) // 2
    session.raw(b"BDAT %d\r\n%sBDAT %d LAST\r\n%s" % (half, body[:half], len(body) - half, body[half:]))
    assert session.reply().code == 250
    assert "queued as" in session.reply().text


def only(sink: Sink) -> tuple[Delivery, bytes]:
    """The one delivery, and its content."""
    until(lambda: list(sink.kept.iterdir()) and sink.deliveries(), 10.0, "delivered")
    (delivery,) = sink.deliveries()
    (kept,) = sink.kept.iterdir()
    return delivery, kept.read_bytes()


@pytest.mark.parametrize("lmtp", [False, True])
def test_a_binary_message_arrives_byte_for_byte(
    serve: Callable[..., Front], hop: Callable[..., Sink], lmtp: bool
) -> None:
    sink = hop("CHUNKING", "BINARYMIME", lmtp=lmtp)
    front = serve(smtp_route(sink.next_hop, transport="lmtp" if lmtp else "smtp"))
    body = BARE + bytes(range(256)) + b"\r"
    with talk(front.address) as session:
        send(session, body, " BODY=BINARYMIME")
    delivery, content = only(sink)
    assert content.endswith(b"\r\n" + body)
    assert delivery.chunks == 1
    assert "BODY=BINARYMIME" in delivery.parameters[0].split()
    front.await_empty_queue()


def test_a_binary_message_comes_back_where_the_next_hop_has_data_only(
    serve: Callable[..., Front], hop: Callable[..., Sink]
) -> None:
    sink = hop()
    front = serve(smtp_route(sink.next_hop))
    with talk(front.address) as session:
        send(session, BARE, " BODY=BINARYMIME")
    delivery, content = only(sink)
    assert (delivery.mail_from, delivery.rcpt_to) == ("", ("a@client.example",))
    assert b"\r\nStatus: 5.6.1\r\n" in content
    front.await_empty_queue()


@pytest.mark.parametrize("offer", [[], ["CHUNKING"]])
def test_lone_newlines_of_text_that_came_by_bdat_leave_as_line_ends(
    serve: Callable[..., Front], hop: Callable[..., Sink], offer: list[str]
) -> None:
    """However the next hop is spoken to, and whatever came in: it sees one message."""
    sink = hop(*offer)
    front = serve(smtp_route(sink.next_hop))
    with talk(front.address) as session:
        send(session, BARE)
    delivery, content = only(sink)
    assert content.endswith(b"\r\n" + STRAIGHT)
    assert delivery.chunks == len(offer)
    front.await_empty_queue()


@pytest.mark.parametrize("offer", [[], ["DSN"]])
def test_what_is_to_be_reported_reaches_the_next_hop(
    serve: Callable[..., Front], hop: Callable[..., Sink], offer: list[str]
) -> None:
    sink = hop(*offer)
    front = serve(smtp_route(sink.next_hop))
    asked = [" NOTIFY=SUCCESS,DELAY ORCPT=rfc822;Bob+2Bx@client.example", " NOTIFY=NEVER", ""]
    with talk(front.address) as session:
        send(session, STRAIGHT, " RET=HDRS ENVID=QQ+3D1", asked)
    count = 1 if offer else 2
    until(lambda: len(sink.deliveries()) == count, 10.0, "delivered; and reported on by us, where the hop will not")
    delivery, *report = sorted(sink.deliveries(), key=lambda one: not one.mail_from)
    assert [(one.mail_from, one.rcpt_to) for one in report] == [("", ("a@client.example",))] * (count - 1)
    mail, *each = [words.split() for words in delivery.parameters]
    wanted = ["RET=HDRS", "ENVID=QQ+3D1"] if offer else []
    assert [word for word in mail if not word.startswith("SIZE=")] == wanted
    assert each == [words.split() if offer else [] for words in asked]
    front.await_empty_queue()


def test_a_large_message_passes_in_chunks(serve: Callable[..., Front], hop: Callable[..., Sink]) -> None:
    sink = hop("CHUNKING")
    front = serve(smtp_route(sink.next_hop))
    body = b"Subject: large\r\n\r\n" + b".a line of text\r\n" * 60_000
    with talk(front.address) as session:
        send(session, body)
    delivery, content = only(sink)
    assert content.endswith(b"\r\n" + body)
    assert 5 < delivery.chunks < 30
    front.await_empty_queue()
