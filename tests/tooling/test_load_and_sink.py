"""The load client and the next hop, held against each other: the tools that count are counted."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.load import Load
from tests.sink import Sink
from tests.smtp_talk import Closed, talk
from tests.wait import until


def test_every_message_is_accounted_for(tmp_path: Path, sink: Sink) -> None:
    load = Load(
        tmp_path,
        sink.port,
        messages=200,
        connections=5,
        sizes="1,5000",
        recipients="b@x.example,b@x.example+c@x.example",
    )
    assert load.start().wait(20.0) == 0
    attempts, deliveries = load.attempts(), sink.deliveries()
    assert [attempt.outcome for attempt in attempts] == ["accepted"] * 200
    assert {attempt.message_id for attempt in attempts} == {delivery.message_id for delivery in deliveries}
    assert all(delivery.intact for delivery in deliveries)
    assert {attempt.rcpt_to for attempt in attempts} == {delivery.rcpt_to for delivery in deliveries}


@pytest.mark.parametrize(
    ("mode", "outcome", "stage"),
    [
        ("defer", "refused", "dot"),
        ("defer_rcpt", "refused", "RCPT"),
        ("cut_before", "unknown", "dot"),
        ("cut_after", "unknown", "dot"),
        ("hang", "unknown", "dot"),
    ],
)
def test_a_message_is_sent_again_until_it_is_taken(
    mode: str, outcome: str, stage: str, tmp_path: Path, sink: Sink
) -> None:
    sink.do(mode)
    load = Load(tmp_path, sink.port, messages=1, connections=1, timeout_s=0.5).start()
    until(lambda: len(load.attempts()) >= 2, 10.0, "it is tried again")
    sink.do("deliver")
    assert load.wait(20.0) == 0
    *tries, last = load.attempts()
    assert {(attempt.outcome, attempt.stage) for attempt in tries} <= {(outcome, stage), ("unknown", "dot")}
    assert tries[0].outcome == outcome
    assert last.outcome == "accepted"
    assert len({attempt.message_id for attempt in [*tries, last]}) == 1
    assert len(sink.deliveries()) == (len(tries) + 1 if mode == "cut_after" else 1)


def test_a_refusal_for_good_is_not_argued_with(tmp_path: Path, sink: Sink) -> None:
    sink.do("reject")
    load = Load(tmp_path, sink.port, messages=3, connections=1).start()
    assert load.wait(20.0) == 1
    assert [(attempt.outcome, attempt.code) for attempt in load.attempts()] == [("refused", 550)] * 3


def test_nobody_there_is_a_cut(tmp_path: Path, sink: Sink) -> None:
    sink.kill()
    load = Load(tmp_path, sink.port, messages=1, connections=1, patience_s=0.5).start()
    assert load.wait(20.0) == 1
    assert {(attempt.outcome, attempt.stage) for attempt in load.attempts()} == {("cut", "connect")}


def test_the_sink_keeps_bytes(sink: Sink) -> None:
    for body in (b"", b"\r\n", b".\r\n", b"..\r\na\r\n.b\r\n", b"\r\n.\r\n\r\n", bytes(range(11, 256)) + b"\r\n"):
        with talk(("127.0.0.1", sink.port)) as session:
            assert session.send(body).code == 250
        kept = max(sink.kept.iterdir())
        assert kept.read_bytes() == body


def test_the_sink_logs_before_it_answers(sink: Sink) -> None:
    sink.do("cut_after")
    with talk(("127.0.0.1", sink.port)) as session:
        session.envelope("a@x.example", ["b@x.example"])
        with pytest.raises(Closed):
            session.body(b"Message-ID: <m@x>\r\nReceived: from a\r\n\tby b with ESMTP id Q1;\r\n\tnow\r\n\r\n")
    assert [(d.message_id, d.queue_id) for d in sink.deliveries()] == [("<m@x>", "Q1")]
