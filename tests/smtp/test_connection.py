"""The core: bodies at any split, long lines, many small packets, and the contract between core and owner."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mta_front.smtp import replies
from mta_front.smtp.connection import Connection, ConnectionOptions
from mta_front.smtp.errors import LocalError, RemoteError
from mta_front.smtp.events import Event, Segment
from mta_front.smtp.state import REFUSALS, TRANSITIONS, Machine, Phase, Verb
from tests.smtp.owner import Owner, run

START = b"EHLO c\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@ours.example>\r\nDATA\r\n"


def stuffed(body: bytes) -> bytes:
    """As a client sends it: dots doubled, then the final dot."""
    return (b"\r\n" + body).replace(b"\r\n.", b"\r\n..")[2:] + b".\r\n"


def pieces(data: bytes, sizes: list[int]) -> list[bytes]:
    out = []
    for size in sizes:
        out.append(data[:size])
        data = data[size:]
    return [*out, data]


lines = st.lists(st.sampled_from([b"", b".", b"..", b".x", b"x", b"\x00\xff", b"a" * 70]), max_size=8)


@given(lines, st.lists(st.integers(1, 30), max_size=30))
@settings(deadline=None)
def test_a_body_comes_out_as_it_was_written_however_it_is_split(body_lines: list[bytes], sizes: list[int]) -> None:
    body = b"".join(line + b"\r\n" for line in body_lines)
    heard = run(pieces(START + stuffed(body) + b"QUIT\r\n", sizes))
    assert heard.messages == [body]
    assert heard.closed


@given(st.binary(max_size=300), st.lists(st.integers(1, 40), max_size=20))
@settings(deadline=None)
def test_any_bytes_split_or_whole_give_the_same_replies_and_messages(data: bytes, sizes: list[int]) -> None:
    stream = START + data + b"\r\n.\r\nQUIT\r\n"
    assert run(pieces(stream, sizes)) == run([stream])


wire = st.lists(
    st.sampled_from(
        [
            b"\r",
            b"\n",
            b".",
            b"\x00",
            b"x",
            b" ",
            b"\r\n",
            b"\r\n.\r\n",
            b"MAIL FROM:<a@b>\r\n",
            b"RCPT TO:<a@b>\r\n",
            b"DATA\r\n",
        ]
    ),
    max_size=60,
).map(b"".join)


@pytest.mark.parametrize("mode", ["normalize", "reject", "accept"])
@given(wire, st.lists(st.integers(1, 9), max_size=40))
@settings(deadline=None)
def test_only_crlf_dot_crlf_ends_a_message(mode: str, data: bytes, sizes: list[int]) -> None:
    owner = Owner(bare_newline=mode)
    owner.receive(START)
    for piece in pieces(data, sizes):
        owner.receive(piece)
    ended = (b"\r\n" + data).find(b"\r\n.\r\n") >= 0
    assert ("End" in owner.heard.names) == ended


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("normalize", b"a\r\nb\r\nc\r\nd\r\n"), ("accept", b"a\nb\rc\r\nd\r\n"), ("reject", None)],
)
def test_bare_newlines(mode: str, expected: bytes | None) -> None:
    heard = run([START + b"a\nb\rc\r\nd\r\n.\r\n"], bare_newline=mode)
    assert heard.messages == ([] if expected is None else [expected])
    assert heard.sent.endswith((replies.BARE_NEWLINE if expected is None else replies.OK).wire)


def test_a_dot_after_a_bare_newline_is_not_unstuffed() -> None:
    assert run([START + b"a\n..b\r\n.\r\n"]).messages == [b"a\r\n..b\r\n"]


@pytest.mark.parametrize("packet", [1460, 65536, 200_001])
def test_a_line_without_end_passes_in_pieces_of_bounded_size(packet: int) -> None:
    owner = Owner()
    owner.receive(START)
    body = b"x" * 1_000_000 + b"\r\n"
    stream = body + b".\r\n"
    largest = 0
    events: list[Event] = []
    for start in range(0, len(stream), packet):
        owner.connection.receive(stream[start : start + packet])
        largest = max(largest, owner.connection.buffered_bytes)
        while (event := owner.connection.next_event()) is not None:
            events.append(event)
            if not isinstance(event, Segment):
                owner.connection.reply(replies.OK)
    segments = [event for event in events if isinstance(event, Segment)]
    assert b"".join(segment.data for segment in segments) == body
    assert all(segment.partial for segment in segments[:-1])
    assert not segments[-1].partial
    assert largest <= 2 * 65536 + packet


def test_a_carriage_return_at_the_edge_of_a_piece_stays_with_its_line_feed() -> None:
    body = b"x" * 65535 + b"\r\n" + b".y\r\n"
    assert run([START, body[:65536], b"\n.", b".y\r\n.\r\n"]).messages == [body]


def test_an_answer_is_owed_before_the_next_event() -> None:
    connection = Connection(ConnectionOptions())
    with pytest.raises(LocalError):
        connection.next_event()
    connection.reply(replies.banner("mx"))
    with pytest.raises(LocalError):
        connection.reply(replies.OK)


def test_replies_of_a_group_wait_for_its_end() -> None:
    connection = Connection(ConnectionOptions())
    connection.reply(replies.banner("mx"))
    connection.receive(b"EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n")
    connection.next_event()
    connection.reply(replies.OK)
    assert connection.data_to_send()
    for reply in (replies.SENDER_OK, replies.RECIPIENT_OK):
        connection.next_event()
        connection.reply(reply)
        assert connection.data_to_send() == b""
    assert connection.next_event() is None
    assert connection.data_to_send() == replies.SENDER_OK.wire + replies.RECIPIENT_OK.wire


def test_a_refused_event_does_not_move_the_state() -> None:
    connection = Connection(ConnectionOptions())
    connection.reply(replies.banner("mx"))
    connection.receive(b"EHLO c\r\nMAIL FROM:<a@b>\r\n")
    connection.next_event()
    connection.reply(replies.OK)
    connection.next_event()
    connection.reply(replies.STORE_UNAVAILABLE)
    assert connection.phase is Phase.READY


@pytest.mark.parametrize("phase", list(Phase))
@pytest.mark.parametrize("verb", list(Verb))
def test_only_the_table_moves_the_state(phase: Phase, verb: Verb) -> None:
    for code in (250, 354, 450, 550, 421):
        machine = Machine()
        machine.phase = phase
        if not machine.allows(verb):
            continue
        machine.answered(verb, code)
        if code < 400:
            assert machine.phase is TRANSITIONS[phase, verb]
        elif code == 421:
            assert machine.phase is Phase.CLOSED
        else:
            assert machine.phase is REFUSALS.get((phase, verb), phase)


commands = st.lists(
    st.sampled_from(
        b"EHLO c|HELO c|MAIL FROM:<a@b>|RCPT TO:<a@b>|DATA|RSET|NOOP|VRFY x|HELP|QUIT".split(b"|")
        + b".|junk|MAIL FROM:<|RCPT TO:<>||\xff\x00".split(b"|")
    ),
    max_size=25,
)


@given(commands)
@settings(deadline=None)
def test_every_command_gets_exactly_one_reply_and_no_exception(sequence: list[bytes]) -> None:
    owner = Owner()
    for line in sequence:
        if owner.connection.closed:
            break
        before = owner.heard.sent
        in_body = owner.connection.phase is Phase.BODY
        owner.receive(line + b"\r\n")
        said = owner.heard.sent[len(before) :].count(b"\r\n")
        if in_body and line != b".":
            assert said == 0
        else:
            assert said >= 1


@given(st.binary(max_size=2000))
@settings(deadline=None)
def test_no_bytes_make_the_core_raise_anything_but_remote_error(data: bytes) -> None:
    owner = Owner(size_bytes=500, max_recipients=3)
    with contextlib.suppress(RemoteError):
        owner.receive(data)
