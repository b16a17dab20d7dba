"""Delivery to next hops that offer extensions: chunks, reports, limits, over real sockets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import pytest

from mta_front.relay.transports.opener import SmtpOptions, Target
from mta_front.relay.transports.smtp import SmtpTransport
from mta_front.settings.values import parse_bind
from mta_front.store.entry import Dsn
from tests.relay.attempts import BODY, Noted, Try, deliver, pieces
from tests.relay.hub import eventually
from tests.relay.scripted import ScriptedHop, Talk, polite

Make = Callable[..., SmtpTransport]
LARGE = b"".join(b"%d\r\n.\r\n" % number for number in range(60_000))


@pytest.fixture
def make() -> Iterator[Make]:
    """`make(next hop, max_connections=…, …)`"""
    made: list[SmtpTransport] = []
    noted = Noted()

    def transport(next_hop: ScriptedHop, protocol: str = "smtp", max_connections: int = 20) -> SmtpTransport:
        options = SmtpOptions(protocol, "me.example", max_connections, connect_timeout_s=5.0, timeout_s=5.0)
        made.append(SmtpTransport([Target(parse_bind(next_hop.address))], options, noted))
        return made[-1]

    yield transport
    for each in made:
        each.close()
    assert noted.faults == []


def offering(*extensions: str) -> bytes:
    lines = ["hop", *extensions]
    return "".join(f"250{' ' if each is lines[-1] else '-'}{each}\r\n" for each in lines).encode()


def hop(*extensions: str, chunk: bytes = b"250 counted\r\n") -> ScriptedHop:
    return ScriptedHop(partial(polite, offer=offering(*extensions), BDAT=chunk))


def verbs(talk: Talk) -> list[str]:
    return [line.split(b" ")[0].decode() for line in talk.heard]


# -- 8BITMIME ----------------------------------------------------------------------------------------------------------

EIGHT_BIT = b"Subject: x\r\n\r\n" + b"x" * 70_000 + "\r\nü\r\n".encode()


def test_an_8_bit_message_goes_only_where_8bitmime_is_offered(make: Make) -> None:
    with hop("PIPELINING") as old, hop("PIPELINING", "8BITMIME") as new:
        deliver(make(old), one := Try(body=lambda: pieces(EIGHT_BIT, 65_536), body_type="8bitmime"))
        assert str(one.only) == "554 5.6.3 The message is 8-bit, and the next hop does not offer 8BITMIME"
        assert one.only.kind == "failed"
        assert old.verbs == [["EHLO"]]
        deliver(make(new), one := Try(body=lambda: pieces(EIGHT_BIT, 65_536), body_type="8bitmime"))
        assert one.kinds == ["delivered"]


def test_one_that_only_says_so_goes_anywhere(make: Make) -> None:
    with hop("PIPELINING") as old:
        deliver(make(old), one := Try(body_type="8bitmime"))
        assert one.kinds == ["delivered"]
        assert b"MAIL FROM:<a@x.example>" in old.talks[0].heard


# -- chunks ------------------------------------------------------------------------------------------------------------


class InTurn(Talk):
    """Nothing may come before it has answered."""

    def say(self, data: bytes) -> None:
        assert not self.waits(), self.heard[-1]
        super().say(data)


@pytest.mark.parametrize("extensions", [["CHUNKING"], ["CHUNKING", "PIPELINING"]])
@pytest.mark.parametrize("protocol", ["smtp", "lmtp"])
def test_a_large_message_goes_in_chunks(make: Make, protocol: str, extensions: list[str]) -> None:
    script = partial(polite, offer=offering(*extensions))
    with ScriptedHop(script, talk=Talk if "PIPELINING" in extensions else InTurn) as next_hop:
        transport = make(next_hop, protocol)
        deliver(transport, one := Try(body=lambda: pieces(LARGE, 65_536)))
        deliver(transport, Try())
    assert one.kinds == ["delivered"]
    assert next_hop.bodies == [LARGE, BODY]
    commands = [line for line in next_hop.talks[0].heard if line.startswith(b"BDAT")]
    assert len(commands) == -(-len(LARGE) // 131_072) + 1
    assert all(len(line) < 20 for line in commands)


def test_a_message_and_the_next_envelope_leave_in_one_piece(make: Make) -> None:
    with hop("CHUNKING", "PIPELINING") as next_hop:
        transport = make(next_hop, max_connections=1)
        deliver(transport, Try())  # it is quick
        deliver(transport, *(Try() for _ in range(5)))
    assert len(next_hop.talks[0].writes) == 1 + 2 + 1 + 5
    assert next_hop.bodies == [BODY] * 6


@pytest.mark.parametrize("extensions", [["CHUNKING"], ["CHUNKING", "PIPELINING"]])
def test_a_refused_chunk_costs_that_message_only(make: Make, extensions: list[str]) -> None:
    with hop(*extensions, chunk=b"552 5.3.4 too big\r\n") as next_hop:
        transport = make(next_hop)
        deliver(transport, one := Try(body=lambda: pieces(LARGE, 65_536)))
        deliver(transport, two := Try())
    assert str(one.only) == "552 5.3.4 too big"
    assert one.kinds == ["failed"]
    assert two.kinds == ["delivered"]
    assert next_hop.bodies[-1] == BODY
    assert len(next_hop.talks) == 1
    assert verbs(next_hop.talks[0])[-4:] == ["RSET", "MAIL", "RCPT", "BDAT"]


@pytest.mark.parametrize("extensions", [["CHUNKING"], ["CHUNKING", "PIPELINING"]])
def test_a_refused_chunk_stops_the_others(make: Make, extensions: list[str]) -> None:
    """No more is read from the store for a message that is refused."""
    given = 0

    def segments() -> Iterator[bytes]:
        nonlocal given
        for piece in pieces(LARGE, 65_536):
            if given == 4:  # one chunk is out
                eventually(lambda: b"552" in next_hop.talks[0].said)
            given += 1
            yield piece

    with hop(*extensions, chunk=b"552 5.3.4 too big\r\n") as next_hop:
        deliver(make(next_hop), one := Try(body=segments))
    assert one.kinds == ["failed"]
    assert given <= 5
    assert verbs(next_hop.talks[0]).count("BDAT") == 1


def test_lone_newlines_of_text_become_line_ends_and_those_of_a_binary_message_stay(make: Make) -> None:
    body = b"one\n.\rtwo\r\n\nthree"
    with hop("CHUNKING", "BINARYMIME", "PIPELINING") as next_hop:
        transport = make(next_hop)
        deliver(transport, Try(body=body))
        deliver(transport, Try(body=body, body_type="binarymime"))
    assert next_hop.bodies == [b"one\r\n.\r\ntwo\r\n\r\nthree", body]
    assert b"MAIL FROM:<a@x.example> BODY=BINARYMIME" in next_hop.talks[0].heard


def test_a_binary_message_fails_where_it_would_be_spoilt(make: Make) -> None:
    with hop("CHUNKING", "PIPELINING") as next_hop:
        deliver(make(next_hop), one := Try(body_type="binarymime"))
    assert (one.only.kind, one.only.code, one.only.text[:5]) == ("failed", 554, "5.6.1")
    assert verbs(next_hop.talks[0]) == ["EHLO"]


# -- reports -----------------------------------------------------------------------------------------------------------

ASKED: Dsn = {"ret": "HDRS", "envid": "id 1", "rcpt": {"b@y": {"notify": ["FAILURE"], "orcpt": "rfc822;B@y"}}}


def test_what_the_queue_knows_of_reports_is_passed_on(make: Make) -> None:
    with hop("DSN", "PIPELINING") as next_hop:
        deliver(make(next_hop), one := Try(["b@y", "c@y"], dsn=ASKED))
    assert next_hop.talks[0].heard[1:4] == [
        b"MAIL FROM:<a@x.example> RET=HDRS ENVID=id+201",
        b"RCPT TO:<b@y> NOTIFY=FAILURE ORCPT=rfc822;B@y",
        b"RCPT TO:<c@y>",
    ]
    assert one.outcomes
    assert [outcome.dsn_passed for outcome in one.outcomes] == [True, True]


def test_and_not_to_who_does_not_offer_it(make: Make) -> None:
    with hop("PIPELINING") as next_hop:
        deliver(make(next_hop), one := Try(["b@y"], dsn=ASKED))
    assert next_hop.talks[0].heard[1:3] == [b"MAIL FROM:<a@x.example>", b"RCPT TO:<b@y>"]
    assert not one.only.dsn_passed


# -- limits (RFC 9422) -------------------------------------------------------------------------------------------------

PEOPLE = [f"r{number}@y.example" for number in range(7)]


@pytest.mark.parametrize("connections", [1, 20])
@pytest.mark.parametrize("protocol", ["smtp", "lmtp"])
def test_recipients_beyond_the_limit_go_in_transactions_of_their_own(
    make: Make, protocol: str, connections: int
) -> None:
    with hop("PIPELINING", "LIMITS RCPTMAX=3") as next_hop:
        if protocol == "lmtp":
            next_hop.script = lmtp_with_three
        transport = make(next_hop, protocol, max_connections=connections)
        deliver(transport, one := Try(PEOPLE))
        assert one.kinds == ["delivered"] * 7
        assert one.parts == 3
        assert transport.hops[0].next() is None
    heard = [line for talk in next_hop.talks for line in talk.heard]
    assert sorted(line for line in heard if line.startswith(b"RCPT")) == [b"RCPT TO:<%s>" % p.encode() for p in PEOPLE]
    assert sum(line.startswith(b"MAIL") for line in heard) == 3


def lmtp_with_three(talk: Talk) -> None:
    """Answers a message once for each recipient."""
    talk.say(b"220 hop\r\n")
    recipients = 0
    while True:
        verb = talk.hear()[:4]
        if verb == b"LHLO":
            talk.say(offering("PIPELINING", "LIMITS RCPTMAX=3"))
        elif verb == b"DATA":
            talk.say(b"354 go\r\n")
            talk.body()
            talk.say(b"250 stored\r\n" * recipients)
            recipients = 0
        else:
            recipients += verb == b"RCPT"
            talk.say(b"250 ok\r\n")


def test_each_part_has_the_outcome_of_its_own_transaction(make: Make) -> None:
    class Second(Talk):
        """Refuses the second message."""

        def say(self, data: bytes) -> None:
            refused = b"taken" in data and len(self.bodies) == 2
            super().say(b"451 4.3.0 later\r\n" if refused else data)

    with ScriptedHop(partial(polite, offer=offering("LIMITS RCPTMAX=1")), talk=Second) as next_hop:
        deliver(make(next_hop, max_connections=1), one := Try(PEOPLE[:3]))
    assert one.kinds == ["delivered", "deferred", "delivered"]


def test_a_part_that_is_no_longer_ours_is_let_go_and_the_other_stays_delivered(make: Make) -> None:
    asked = iter([True, False])
    with hop("LIMITS RCPTMAX=1") as next_hop:
        deliver(make(next_hop, max_connections=1), one := Try(PEOPLE[:2], may_finish=lambda: next(asked)))
    assert one.let_go
    assert [outcome.kind for outcome in one.found.values()] == ["delivered"]
    assert len(next_hop.bodies) == 1


def test_a_connection_carries_as_many_messages_as_the_next_hop_takes(make: Make) -> None:
    with hop("PIPELINING", "LIMITS MAILMAX=2") as next_hop:
        deliver(make(next_hop, max_connections=1), *(tries := [Try() for _ in range(5)]))
        assert {each.only.kind for each in tries} == {"delivered"}
        eventually(lambda: len(next_hop.talks) == 3 and next_hop.talks[1].ended)
    assert [verbs(talk).count("MAIL") for talk in next_hop.talks] == [2, 2, 1]
    assert verbs(next_hop.talks[0])[-1] == "QUIT"
