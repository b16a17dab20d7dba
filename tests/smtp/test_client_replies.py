"""The reply reader: whole replies out of bytes that come in any pieces, and nothing else."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta_front.smtp.replyreader import MAX_REPLY_BYTES, MalformedReply, ReplyReader

GOOD = {
    b"250 Ok\r\n": [(250, [b"Ok"])],
    b"250\r\n": [(250, [b""])],
    b"250 \r\n": [(250, [b""])],
    b"354 go\n": [(354, [b"go"])],
    b"250-a\r\n250-\r\n250 c\r\n": [(250, [b"a", b"", b"c"])],
    b"250-a\r\n250\r\n": [(250, [b"a", b""])],
    b"299 a\r\n590 b\r\n": [(299, [b"a"]), (590, [b"b"])],
    b"250 a\rb\r\n": [(250, [b"a\rb"])],
    b"250 " + b"x" * 4000 + b"\r\n": [(250, [b"x" * 4000])],
}
BAD = [
    b"\r\n",
    b"250Ok\r\n",
    b"25\r\n",
    b"150 x\r\n",
    b"650 x\r\n",
    b" 250 x\r\n",
    b"Ok\r\n",
    b"250-a\r\n251 b\r\n",
    b"250-a\r\nb\r\n",
    b"\xb2\xb5\xb0 x\r\n",
    b"250 " + b"x" * 5000,
    b"250-" + b"x" * 4000 + b"\r\n" + b"250-xxxxxxxxx\r\n" * 5000,
]


def read(*pieces: bytes) -> list[tuple[int, list[bytes]]]:
    reader, replies = ReplyReader(), []
    for piece in pieces:
        reader.receive(piece)
        while (reply := reader.next()) is not None:
            replies.append((reply.code, reply.lines))
    assert not reader.pending
    return replies


@pytest.mark.parametrize("wire", GOOD)
def test_replies_at_every_cut(wire: bytes) -> None:
    assert read(wire) == GOOD[wire]
    assert read(*(wire[i : i + 1] for i in range(len(wire)))) == GOOD[wire]
    for cut in range(min(len(wire), 60)):
        assert read(wire[:cut], wire[cut:]) == GOOD[wire]
    assert read(wire + b"250 next\r\n" + wire) == [*GOOD[wire], (250, [b"next"]), *GOOD[wire]]


@pytest.mark.parametrize("wire", BAD)
def test_what_is_no_reply(wire: bytes) -> None:
    with pytest.raises(MalformedReply):
        read(b"250 first\r\n" + wire)
    with pytest.raises(MalformedReply):
        read(*(wire[i : i + 1] for i in range(len(wire))))


def test_replies_before_a_malformed_one_are_read() -> None:
    reader = ReplyReader()
    reader.receive(b"250 a\r\nnonsense\r\n")
    first = reader.next()
    assert first is not None
    assert first.code == 250
    with pytest.raises(MalformedReply):
        reader.next()


@given(st.binary(max_size=200), st.integers(0, 200))
def test_any_bytes_give_replies_or_one_error(data: bytes, cut: int) -> None:
    def outcome(*pieces: bytes) -> object:
        reader, replies = ReplyReader(), []
        try:
            for piece in pieces:
                reader.receive(piece)
                while (reply := reader.next()) is not None:
                    replies.append((reply.code, reply.lines))
        except MalformedReply:
            return replies, "malformed"
        return replies, "wants more"

    assert outcome(data) == outcome(data[:cut], data[cut:])


@pytest.mark.parametrize(
    ("wire", "text"),
    [
        (b"250 2.0.0 Ok\r\n", "2.0.0 Ok"),
        (b"250-one\r\n250 two\r\n", "one two"),
        ("250 Grüße\r\n".encode(), "Grüße"),
        (b"250 \x1b[31mred\x07 \xff\r\n", "?[31mred? �"),
        (b"250 " + b"x" * 4000 + b"\r\n", "x" * 500),
    ],
)
def test_text_is_one_printable_line(wire: bytes, text: str) -> None:
    reader = ReplyReader()
    reader.receive(wire)
    reply = reader.next()
    assert reply is not None
    assert reply.text == text


def test_a_reply_that_comes_in_drops_costs_linear_time() -> None:
    wire = b"".join(b"250-" + b"x" * 1000 + b"\r\n" for _ in range(MAX_REPLY_BYTES // 1006 - 1)) + b"250 end\r\n"
    started = time.process_time()
    assert len(read(*(wire[i : i + 1] for i in range(len(wire))))) == 1
    assert time.process_time() - started < 2.0
