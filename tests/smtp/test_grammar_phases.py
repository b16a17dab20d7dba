"""Every phase against every verb: legal where the table says, else the right refusal; and the session goes on."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mta_front.smtp import commands, replies
from mta_front.smtp.connection import Connection, ConnectionOptions
from mta_front.smtp.events import Answered, Auth, Data, Event, Hello, Mail, Quit, Rcpt, Reset, Response, StartTls
from mta_front.smtp.replies import Reply
from mta_front.smtp.state import REFUSALS, TRANSITIONS, Phase, Verb
from tests.smtp.owner import Heard, Owner, run

HELLO, MAIL, RCPT = b"EHLO c.example\r\n", b"MAIL FROM:<a@b.example>\r\n", b"RCPT TO:<c@ours.example>\r\n"
TO_PHASE = {
    Phase.HELLO: [],
    Phase.READY: [HELLO],
    Phase.MAIL: [HELLO, MAIL],
    Phase.RCPT: [HELLO, MAIL, RCPT],
    Phase.CHUNKS: [HELLO, MAIL, RCPT, b"BDAT 1\r\nx"],
}
LINES = {
    Verb.EHLO: HELLO,
    Verb.HELO: b"HELO c.example\r\n",
    Verb.LHLO: b"LHLO c.example\r\n",
    Verb.MAIL: MAIL,
    Verb.RCPT: RCPT,
    Verb.DATA: b"DATA\r\n",
    Verb.BDAT: b"BDAT 1\r\nx",
    Verb.RSET: b"RSET\r\n",
    Verb.NOOP: b"NOOP\r\n",
    Verb.VRFY: b"VRFY c\r\n",
    Verb.EXPN: b"EXPN c\r\n",
    Verb.HELP: b"HELP\r\n",
    Verb.QUIT: b"QUIT\r\n",
    Verb.STARTTLS: b"STARTTLS\r\n",
    Verb.AUTH: b"AUTH PLAIN AHVzZXIAc2VjcmV0\r\n",
    Verb.UNKNOWN: b"XYZZY\r\n",
}
TAKEN = {
    Verb.STARTTLS: 220,
    Verb.AUTH: 235,
    Verb.DATA: 354,
    Verb.VRFY: 252,
    Verb.EXPN: 502,
    Verb.HELP: 214,
    Verb.QUIT: 221,
}
"""The code of what is legal, where it is not 250."""

OF_ITSELF = {Verb.NOOP, Verb.VRFY, Verb.EXPN, Verb.HELP}
EVENTS: dict[int, type[Event]] = {
    Verb.EHLO: Hello, Verb.HELO: Hello, Verb.LHLO: Hello, Verb.MAIL: Mail, Verb.RCPT: Rcpt, Verb.DATA: Data,
    Verb.BDAT: Data, Verb.RSET: Reset, Verb.QUIT: Quit, Verb.STARTTLS: StartTls, Verb.AUTH: Auth,
}  # fmt: skip


def owner_in(phase: Phase, lmtp: bool) -> Owner:
    owner = Owner(lmtp=lmtp)
    for line in TO_PHASE[phase]:
        owner.receive(line.replace(b"EHLO", b"LHLO") if lmtp else line)
    assert owner.connection.phase is phase
    return owner


def said(owner: Owner, line: bytes) -> bytes:
    before = len(owner.heard.sent)
    owner.receive(line)
    return owner.heard.sent[before:]


def exists(verb: Verb, lmtp: bool) -> bool:
    return verb.name.encode() in commands.verbs(lmtp)


def refusal(phase: Phase, verb: Verb, lmtp: bool) -> bytes:
    """What an illegal command hears."""
    if not exists(verb, lmtp):
        return replies.UNKNOWN_COMMAND.wire
    if phase is Phase.HELLO:
        return (replies.LHLO_FIRST if lmtp else replies.HELLO_FIRST).wire
    table = {
        (Phase.READY, Verb.RCPT): replies.NEED_MAIL,
        (Phase.READY, Verb.DATA): replies.NEED_RCPT,
        (Phase.READY, Verb.BDAT): replies.NEED_RCPT,
        (Phase.MAIL, Verb.DATA): replies.NEED_RCPT,
        (Phase.MAIL, Verb.BDAT): replies.NEED_RCPT,
        (Phase.MAIL, Verb.MAIL): replies.NESTED_MAIL,
        (Phase.RCPT, Verb.MAIL): replies.NESTED_MAIL,
        (Phase.CHUNKS, Verb.MAIL): replies.NESTED_MAIL,
        (Phase.CHUNKS, Verb.RCPT): replies.BAD_SEQUENCE,
        (Phase.CHUNKS, Verb.DATA): replies.BAD_SEQUENCE,
    }
    return table.get((phase, verb), replies.BAD_SEQUENCE).wire


@pytest.mark.parametrize("lmtp", [False, True], ids=["smtp", "lmtp"])
@pytest.mark.parametrize("verb", LINES, ids=lambda verb: verb.name)
@pytest.mark.parametrize("phase", TO_PHASE, ids=lambda phase: phase.name)
def test_a_verb_is_legal_only_where_the_table_says(phase: Phase, verb: Verb, lmtp: bool) -> None:
    owner = owner_in(phase, lmtp)
    answer = said(owner, LINES[verb])
    code = int(answer[:3])
    if exists(verb, lmtp) and (phase, verb) in TRANSITIONS:
        assert code == TAKEN.get(verb, 250)
        # EXPN is legal, and what it asks for does not exist here: a 5xx moves nothing.
        assert owner.connection.phase is (phase if verb is Verb.EXPN else TRANSITIONS[phase, verb])
    else:
        assert answer == refusal(phase, verb, lmtp)
        assert owner.connection.phase is phase


@pytest.mark.parametrize("verb", LINES, ids=lambda verb: verb.name)
@pytest.mark.parametrize("phase", TO_PHASE, ids=lambda phase: phase.name)
def test_after_any_verb_in_any_phase_a_new_transaction_works(phase: Phase, verb: Verb) -> None:
    owner = owner_in(phase, lmtp=False)
    said(owner, LINES[verb])
    if owner.connection.phase is Phase.CLOSED:
        assert verb is Verb.QUIT
        return
    if owner.connection.phase is Phase.BODY:
        assert said(owner, b".\r\n")[:3] == b"250"
    for line in (HELLO, MAIL, RCPT):
        assert said(owner, line)[:3] == b"250"
    before = len(owner.heard.messages)
    assert said(owner, b"DATA\r\n")[:3] == b"354"
    assert said(owner, b"the new one\r\n.\r\n")[:3] == b"250"
    assert owner.heard.messages[before:] == [b"the new one\r\n"]


@pytest.mark.parametrize("code", [250, 450, 550, 421])
@pytest.mark.parametrize("verb", [verb for verb in LINES if exists(verb, lmtp=False)], ids=lambda verb: verb.name)
@pytest.mark.parametrize("phase", TO_PHASE, ids=lambda phase: phase.name)
def test_the_reply_of_the_owner_moves_the_machine_and_nothing_else(phase: Phase, verb: Verb, code: int) -> None:
    """A legal command is one event, an illegal one is answered by the core; a 421 closes, whatever it answers."""
    connection = owner_in(phase, lmtp=False).connection
    legal = (phase, verb) in TRANSITIONS
    connection.receive(LINES[verb])
    event = connection.next_event()
    if type(event).__name__ == "Abandoned":
        event = connection.next_event()
    if not legal or verb in OF_ITSELF:
        assert isinstance(event, Answered)
        assert event.verb == verb
        return
    if (phase, verb) == (Phase.CHUNKS, Verb.BDAT):
        assert type(event).__name__ == "Segment"  # a further chunk is part of the message that was asked about
        return
    assert type(event) is EVENTS[verb]
    connection.reply(Reply(code, "", "as the owner says"))
    if code == 250:
        assert connection.phase is TRANSITIONS[phase, verb]
    elif verb is Verb.BDAT:
        assert connection.next_event() is not None  # the octets of the refused chunk are dropped, then it is answered
        assert connection.phase is (Phase.CLOSED if code == 421 else Phase.READY)
    else:
        assert connection.phase is (Phase.CLOSED if code == 421 else REFUSALS.get((phase, verb), phase))


def in_exchange() -> Owner:
    owner = owner_in(Phase.READY, lmtp=False)
    assert said(owner, b"AUTH LOGIN\r\n")[:3] == b"334"
    assert owner.connection.phase is Phase.AUTH
    return owner


@pytest.mark.parametrize("line", [*LINES.values(), b"*\r\n", b"\r\n", b"\xff\x00\r\n"])
def test_in_an_exchange_every_line_is_a_response(line: bytes) -> None:
    owner = in_exchange()
    connection = owner.connection
    connection.receive(line)
    event = connection.next_event()
    assert isinstance(event, Response)
    assert event.line == line.partition(b"\r\n")[0].decode("latin-1")


@pytest.mark.parametrize(
    ("code", "phase"), [(334, Phase.AUTH), (235, Phase.READY), (535, Phase.READY), (454, Phase.READY)]
)
def test_the_reply_to_a_response_goes_on_or_ends_the_exchange(code: int, phase: Phase) -> None:
    connection = in_exchange().connection
    connection.receive(b"eA==\r\n")
    assert isinstance(connection.next_event(), Response)
    connection.reply(Reply(code, "", "x"))
    assert connection.phase is phase


def test_a_response_has_its_limit() -> None:
    """RFC 4954 §4: 12,288 octets with CRLF."""
    for size, kept in ((12_286, True), (12_287, False), (100_000, False)):
        connection = in_exchange().connection
        connection.receive(b"A" * size + b"\r\n")
        event = connection.next_event()
        assert isinstance(event, Response)
        assert (event.line is not None) is kept


WORDS = [
    *(line for verb, line in LINES.items() if verb is not Verb.STARTTLS),  # what is behind it depends on packets
    b"BDAT 0 LAST\r\n",
    b"BDAT 7 LAST\r\n",
    b"BDAT 70 LAST\r\n",
    b"BDAT x\r\n",
    b"MAIL FROM:<> BODY=BINARYMIME\r\n",
    b"MAIL FROM:<\xc3\xbc@b.example> SMTPUTF8\r\n",
    b"RCPT TO:<\xc3\xbc@b.example>\r\n",
    b"GET / HTTP/1.1\r\n",
    b"x" * 600 + b"\r\n",
    b"MAIL FROM:<" + b"x" * 2100 + b">\r\n",
    b".\r\n", b"..\r\n", b"\r\n", b"\r", b"\n", b".", b"\x00", b"\xff", b" ", b"x",
]  # fmt: skip
streams = st.lists(st.one_of(st.sampled_from(WORDS), st.binary(max_size=12)), max_size=30).map(b"".join)
options = st.fixed_dictionaries(
    {
        "lmtp": st.booleans(),
        "bare_newline": st.sampled_from(["normalize", "reject", "accept"]),
        "size_bytes": st.sampled_from([0, 10]),
        "max_recipients": st.sampled_from([0, 2]),
        "lenient_address_parsing": st.booleans(),
        "disabled_commands": st.sampled_from([(), ("BDAT",), ("VRFY", "DATA")]),
    }
)


def pieces(stream: bytes, seed: int) -> list[bytes]:
    dice = random.Random(seed)
    largest = dice.choice([1, 3, 30, 300])
    cut, start = [], 0
    while start < len(stream):
        end = start + dice.randint(1, largest)
        cut.append(stream[start:end])
        start = end
    return cut


@given(streams, options, st.integers())
@settings(deadline=None, max_examples=300)
def test_however_a_stream_is_split_it_is_the_same_session(stream: bytes, chosen: dict[str, object], seed: int) -> None:
    start = HELLO.replace(b"EHLO", b"LHLO") if chosen["lmtp"] else HELLO
    whole: Heard = run([start + stream], **chosen)
    assert run(pieces(start + stream, seed), **chosen) == whole


@given(streams, options)
@settings(deadline=None, max_examples=200)
def test_each_line_is_answered_once_and_only_quit_or_http_ends_the_session(
    stream: bytes, chosen: dict[str, object]
) -> None:
    owner = Owner(**chosen)
    before = owner.connection.phase
    assert before is Phase.HELLO
    owner.receive(stream)
    if owner.heard.closed:
        assert owner.heard.sent.endswith((replies.BYE.wire, replies.NOT_HTTP.wire))
    elif owner.connection.phase not in (Phase.BODY, Phase.CHUNKS, Phase.AUTH):
        # In step again: what is left is at most half a line, or the rest of a chunk that nobody wanted.
        owner.receive(b"x" * 80 + b"\r\n")
        assert said(owner, b"NOOP\r\n").endswith(replies.OK.wire)


def test_a_connection_without_an_owner_does_nothing() -> None:
    connection = Connection(ConnectionOptions())
    connection.receive(HELLO)
    assert connection.phase is Phase.GREETING
    assert connection.data_to_send() == b""
