r"""The body encoder: a strict receiver reads back the message with CRLF line ends, a lax one sees one message only."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mta_front.smtp.bodyencoder import BodyEncoder

TABLE = {
    b"": b".\r\n",
    b"a\r\n": b"a\r\n.\r\n",
    b"a": b"a\r\n.\r\n",
    b".": b"..\r\n.\r\n",
    b".\r\n": b"..\r\n.\r\n",
    b"..\r\n": b"...\r\n.\r\n",
    b"a.\r\n.b\r\n": b"a.\r\n..b\r\n.\r\n",
    b"a\n.\nb\n": b"a\r\n..\r\nb\r\n.\r\n",
    b"a\r.\rb\r": b"a\r\n..\r\nb\r\n.\r\n",
    b"a\n.\r\nb": b"a\r\n..\r\nb\r\n.\r\n",
    b"a\r\n.\nb": b"a\r\n..\r\nb\r\n.\r\n",
    b"\r": b"\r\n.\r\n",
    b"a\r\r\n": b"a\r\n\r\n.\r\n",
    b"a\n\r\n": b"a\r\n\r\n.\r\n",
    b"\x00\xff\x1a": b"\x00\xff\x1a\r\n.\r\n",
}
BYTES = st.text("a.\r\n", max_size=30).map(str.encode)


def encode(*segments: bytes) -> bytes:
    encoder = BodyEncoder()
    return b"".join([*(encoder.encode(s) for s in segments), encoder.finish()])


def received(wire: bytes) -> bytes:
    """RFC 5321 §4.5.2, taken literally, line by line."""
    lines = wire.split(b"\r\n")
    assert lines.pop() == b""
    assert lines.pop() == b"."
    assert b"." not in lines
    return b"".join((line[1:] if line.startswith(b".") else line) + b"\r\n" for line in lines)


def normalised(body: bytes) -> bytes:
    body = re.sub(rb"\r\n|\r|\n", b"\r\n", body)
    return body if body.endswith(b"\r\n") or not body else body + b"\r\n"


@pytest.mark.parametrize("body", TABLE)
def test_table_at_every_cut(body: bytes) -> None:
    assert encode(body) == TABLE[body]
    assert encode(*(body[i : i + 1] for i in range(len(body)))) == TABLE[body]
    for first in range(len(body) + 1):
        for second in range(first, len(body) + 1):
            assert encode(body[:first], body[first:second], body[second:]) == TABLE[body]


@settings(max_examples=1000)
@given(st.lists(BYTES | st.binary(max_size=30), max_size=6))
def test_a_strict_receiver_reads_the_normalised_message(segments: list[bytes]) -> None:
    wire = encode(*segments)
    assert received(wire) == normalised(b"".join(segments))
    assert encode(b"".join(segments)) == wire


@settings(max_examples=1000)
@given(st.lists(BYTES | st.binary(max_size=30), max_size=6))
def test_no_receiver_however_lax_sees_an_earlier_end(segments: list[bytes]) -> None:
    wire = encode(*segments)
    assert not re.search(rb"\r(?!\n)|(?<!\r)\n", wire)
    ends = [found.end() for found in re.finditer(rb"(?:\A|[\r\n])\.\r?\n|(?:\A|[\r\n])\.\r", wire)]
    assert len(ends) == 1
    assert ends[0] >= len(wire) - 1


@pytest.mark.parametrize("line", [b"x" * 74 + b"\r\n", b"\r\n", b"\n", b"\r", b".\r\n", b"x"])
def test_cost_is_linear(line: bytes) -> None:
    segment = line * (65_536 // len(line))
    encoder = BodyEncoder()
    started = time.process_time()
    for _ in range(100):
        encoder.encode(segment)
    assert time.process_time() - started < 1.0
