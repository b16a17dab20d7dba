"""A message in several chunks (RFC 3030 §2): counted, answered each, and ended properly when one is refused."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta_front.smtp import bodyencoder
from mta_front.smtp.bodyencoder import CHUNK_BYTES, ChunkEncoder
from mta_front.smtp.client import ClientConnection
from mta_front.smtp.transaction import Transaction
from tests.smtp.client_dialogs import shown
from tests.smtp.test_client_body import BYTES, encode, normalised, received

ONE, TWO, LAST = b"BDAT 6\r\nfirst\n", b"BDAT 6\r\nsecond", b"BDAT 4 LAST\r\nlast"


@pytest.fixture(autouse=True, scope="module")
def _small_chunks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bodyencoder, "CHUNK_BYTES", 6)
        yield


def begun(pipelining: bool = True, lmtp: bool = False) -> tuple[ClientConnection, Transaction]:
    """A binary message for two, both accepted; its body is wanted."""
    client, transaction = ClientConnection("me.example", lmtp=lmtp), Transaction("a@x", ("b@y", "c@y"), 0, "binarymime")
    client.receive(b"220 hop\r\n")
    client.receive(b"250-hop\r\n250-CHUNKING\r\n250-BINARYMIME\r\n250 " + b"PIPELINING" * pipelining + b"\r\n")
    client.begin(transaction)
    for _ in range(3):
        client.data_to_send()
        client.receive(b"250 ok\r\n")
    assert client.body_wanted is transaction
    assert client.data_to_send() == b""
    return client, transaction


def states(client: ClientConnection) -> tuple[bool, bool]:
    """Whether the body has to wait, and whether the next message may begin."""
    return client.body_held, client.can_begin


def test_with_pipelining_chunks_wait_for_nothing() -> None:
    client, transaction = begun()
    for segment in (b"first\n", b"second", b"last"):
        client.write(segment)
        assert states(client) == (False, False)
    client.finish()
    assert client.data_to_send() == ONE + TWO + LAST
    assert states(client) == (False, False)
    client.receive(b"250 6 octets\r\n250 6 octets\r\n")
    assert states(client) == (False, True)
    assert not transaction.done
    client.receive(b"250 2.0.0 queued\r\n")
    assert shown(transaction) == ["delivered 250 2.0.0 queued"] * 2
    assert client.idle


def test_without_pipelining_each_is_answered_before_the_next() -> None:
    client, transaction = begun(pipelining=False)
    client.write(b"first\n")
    assert states(client) == (False, False)
    client.write(b"second")
    assert states(client) == (True, False)
    assert client.data_to_send() == ONE
    client.receive(b"250 ok\r\n")
    assert states(client) == (False, False)
    client.write(b"last")
    assert client.data_to_send() == TWO
    client.receive(b"250 ok\r\n")
    client.finish()
    assert client.data_to_send() == LAST
    client.receive(b"250 queued\r\n")
    assert shown(transaction) == ["delivered 250 queued"] * 2
    assert client.can_begin


@pytest.mark.parametrize("pipelining", [True, False])
def test_after_a_refused_chunk_no_other_follows_and_reset_clears(pipelining: bool) -> None:
    client, transaction = begun(pipelining)
    client.write(b"first\n")
    client.write(b"second")
    assert client.data_to_send() == ONE
    client.receive(b"552 5.3.4 too big\r\n")
    assert client.body_wanted is None
    client.write(b"last")
    client.finish()
    assert client.data_to_send() == b""
    assert shown(transaction) == ["failed 552 5.3.4 too big"] * 2
    assert transaction.done
    client.begin(Transaction("d@x", ("e@y",)))
    assert client.data_to_send().startswith(b"RSET\r\n")


def test_chunks_that_were_on_their_way_are_answered_too() -> None:
    client, transaction = begun()
    for segment in (b"first\n", b"second", b"last"):
        client.write(segment)
    assert client.data_to_send() == ONE + TWO
    client.receive(b"451 4.3.0 no room\r\n")
    assert client.body_wanted is None
    assert states(client) == (False, False)
    client.receive(b"503 5.5.1 what?\r\n")
    assert shown(transaction) == ["deferred 451 4.3.0 no room"] * 2
    assert states(client) == (False, True)


@pytest.mark.parametrize("final", [b"503 5.5.1 what?\r\n", b"250 ok\r\n"])
def test_a_refused_chunk_fails_the_message_whatever_is_said_to_the_last(final: bytes) -> None:
    client, transaction = begun()
    client.write(b"first\n")
    client.write(b"last")
    client.finish()
    client.data_to_send()
    client.receive(b"552 5.3.4 too big\r\n")
    assert not client.can_begin
    client.receive(final)
    assert shown(transaction) == ["failed 552 5.3.4 too big"] * 2
    client.begin(Transaction("d@x", ("e@y",)))
    assert client.data_to_send().startswith(b"RSET\r\n")


def test_a_refused_chunk_ends_an_lmtp_connection() -> None:
    """Some answer the chunk once, some once for each recipient: nobody knows what the next reply is to."""
    client, transaction = begun(lmtp=True)
    client.write(b"first\n")
    client.write(b"last")
    client.data_to_send()
    client.receive(b"552 5.3.4 too big\r\n552 5.3.4 too big\r\n")
    assert client.closed
    assert shown(transaction) == ["failed 552 5.3.4 too big"] * 2


def test_421_for_a_chunk_lets_another_connection_try() -> None:
    client, transaction = begun()
    client.write(b"first\n")
    client.write(b"last")
    client.receive(b"421 4.3.2 down\r\n")
    assert client.closed
    assert transaction.lost
    assert shown(transaction) == ["deferred 421 4.3.2 down"] * 2


def test_354_for_a_chunk_is_an_error() -> None:
    client, transaction = begun()
    client.write(b"first\n")
    client.write(b"last")
    client.receive(b"354 go on\r\n")
    assert client.reason == "protocol error: 354 in answer to BDAT"
    assert transaction.lost


# -- the encoder -------------------------------------------------------------------------------------------------------


def chunks(wire: bytes) -> list[tuple[bytes, bool]]:
    """The octets of each chunk, and whether it is the last."""
    found = []
    while wire:
        match = re.match(rb"BDAT ([0-9]+)( LAST)?\r\n", wire)
        assert match, wire[:40]
        end = match.end() + int(match[1])
        assert end <= len(wire)
        found.append((wire[match.end() : end], bool(match[2])))
        wire = wire[end:]
    return found


@given(st.lists(BYTES | st.binary(max_size=30), max_size=6), st.booleans())
def test_chunks_put_together_are_the_message(segments: list[bytes], binary: bool) -> None:
    encoder = ChunkEncoder(binary)
    sent = chunks(b"".join([*(encoder.encode(segment) for segment in segments), encoder.finish()]))
    assert [last for _, last in sent] == [False] * (len(sent) - 1) + [True]
    message = b"".join(octets for octets, _ in sent)
    body = b"".join(segments)
    assert message == (body if binary else re.sub(rb"\r\n|\r|\n", b"\r\n", body))
    if not binary and body:
        assert received(encode(*segments)) == normalised(message)  # DATA says the same, with a line end at the end


def test_segments_are_put_together_and_not_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodyencoder, "CHUNK_BYTES", CHUNK_BYTES)
    encoder = ChunkEncoder(binary=True)
    wire = b"".join([*(encoder.encode(b"x" * 65_536) for _ in range(5)), encoder.finish()])
    assert [len(octets) for octets, _ in chunks(wire)] == [131_072, 131_072, 65_536]
    assert ChunkEncoder(binary=False).finish() == b"BDAT 0 LAST\r\n"
