"""Cutting ciphertext: nothing is lost or added, and pieces end where records do."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mta_front.tls.records import SLICE_BYTES, Records


def record(size: int) -> bytes:
    return b"\x17\x03\x03" + size.to_bytes(2, "big") + bytes(size)


@given(
    sizes=st.lists(st.integers(0, 17_000), min_size=1, max_size=20),
    lost=st.integers(0, 100),
    feeds=st.lists(st.integers(1, 60_000), max_size=10),
)
def test_pieces_are_the_bytes_and_records_are_counted(sizes: list[int], lost: int, feeds: list[int]) -> None:
    stream = b"".join(map(record, sizes))
    stream = stream[: max(len(stream) - lost, 1)]
    ends, at = set(), 0
    for size in sizes:
        at += 5 + size
        ends.add(at)
    records, out, whole, at = Records(), b"", 0, 0
    for length in [*feeds, len(stream)]:
        fed = stream[at : at + length]
        at += length
        if fed:
            records.feed(fed)
        while True:
            piece, complete = records.take()
            if not piece:
                break
            assert len(piece) <= SLICE_BYTES or len(piece) <= 17_005
            out += piece
            whole += complete
            assert whole == sum(end <= len(out) for end in ends)
            assert (records.missing == 0) == (len(out) in ends)
    assert stream.startswith(out)
    assert len(stream) - len(out) < 5  # only the beginning of a header is held back
