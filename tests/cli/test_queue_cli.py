"""`mta-front queue` at a running server: what waits is seen, tried again, buried, replayed and dropped."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.running import Result, run
from tests.front import Front
from tests.ports import free_port
from tests.settingsfile import smtp_route
from tests.sink import Sink
from tests.smtp_talk import talk
from tests.wait import until

BODY = b"Subject: hello \x1b[2J\r\n\r\nbody\r\n"


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[Sink]:
    with Sink(tmp_path, free_port()) as sink:
        sink.do("defer")
        yield sink


@pytest.fixture
def front(serve: Callable[..., Front], sink: Sink) -> Front:
    """A server with its embedded store; what is deferred waits for an hour."""
    return serve(smtp_route(sink.next_hop), relay={"schedule_s": [3600.0]})


def queue(front: Front, *arguments: str) -> Result:
    return run(front.directory, "queue", *arguments, "-c", str(front.file))


def items(front: Front, *arguments: str) -> list[dict[str, Any]]:
    result = queue(front, *arguments, "--json")
    assert result.code == 0, result.lines
    return list(json.loads(result.out)["items"])


def sent(front: Front, *senders: str) -> list[str]:
    """Ids, in the queue and deferred."""
    with talk(front.address) as session:
        ids = [session.send(BODY, mail_from=sender).text.rpartition(" ")[2] for sender in senders]
    until(lambda: front.queue()["later"] == len(ids), 10.0, "all are deferred")
    return ids


def test_what_waits_is_seen_and_tried_again(front: Front, sink: Sink) -> None:
    one, two = sent(front, "alice@x.example", "bob@x.example")
    assert [item["id"] for item in items(front, "list")] == [one, two]
    assert [item["id"] for item in items(front, "list", "--sender", "bob", "--state", "deferred")] == [two]
    assert items(front, "list", "--older", "1h") == []
    assert [item["id"] for item in items(front, "list", "--next-hop", sink.next_hop)] == [one, two]
    table = queue(front, "list", "-n", "1")
    head, row = table.out.splitlines()
    assert head.split() == ["ID", "STATE", "AGE", "OCTETS", "UNTIL", "SENDER", "RECIPIENTS", "REASON"]
    assert row.startswith(f"{one}  deferred")
    assert "there is more: --cursor" in "\n".join(table.lines)
    shown = queue(front, "show", one)
    assert "from <alice@x.example>" in shown.out
    assert "Subject: hello \\x1b[2J" in shown.out, "no control characters reach the terminal"
    assert "deferred by" in shown.out
    assert json.loads(queue(front, "stats", "--json").out)["shards"][0]["later"] == 2
    assert queue(front, "stats").out.split()[-6:-1] == ["0", "2", "2", "0", "0"]
    sink.do("deliver")
    assert queue(front, "retry", one).out == "1 due now\n"
    until(lambda: len(sink.deliveries()) == 1, 10.0, "it is delivered")
    assert queue(front, "retry", "--all").out == "1 due now\n"
    front.await_empty_queue()
    assert len(sink.deliveries()) == 2


def test_bury_replay_and_drop(front: Front, sink: Sink) -> None:
    one, two, three = sent(front, "a@x.example", "b@x.example", "c@x.example")
    assert queue(front, "bury", one, two, "--reason", "by me").out == "2 buried\n"
    assert [(item["id"], item["reason"]) for item in items(front, "dead", "list")] == [(one, "by me"), (two, "by me")]
    assert "by me" in queue(front, "show", one).out
    assert queue(front, "dead", "drop", two).out == "1 dropped\n"
    assert queue(front, "drop", three).out == "1 dropped\n"
    sink.do("deliver")
    assert queue(front, "dead", "replay", "--all").out == "1 queued\n"
    until(lambda: len(sink.deliveries()) == 1, 10.0, "it is delivered")
    assert sink.deliveries()[0].mail_from == "a@x.example"
    front.await_empty_queue()
    assert items(front, "dead", "list") == []


def test_the_doctor(front: Front) -> None:
    sent(front, "a@x.example")
    well = queue(front, "doctor")
    assert (well.code, well.out) == (0, "")
    with front.store() as store:
        store.zadd("mta:{0}:later", {"1-1": 2**45})
    ill = queue(front, "doctor")
    assert (ill.code, ill.out) == (65, "ghost: 1-1\n")
    mended = queue(front, "doctor", "--fix")
    assert (mended.code, mended.out) == (0, "ghost: 1-1 (mended)\n")
    assert queue(front, "doctor").code == 0


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("show", "nobody"), 65),
        (("retry", "nobody"), 65),
        (("retry",), 64),
        (("drop", "--all", "x"), 64),
        (("list", "--cursor", "x"), 64),
        (("list", "--older", "x"), 64),
        (("list", "--state", "x"), 64),
    ],
)
def test_what_cannot_be_done_is_said(front: Front, arguments: tuple[str, ...], code: int) -> None:
    result = queue(front, *arguments)
    assert result.code == code
    assert result.lines


def test_without_a_server(tmp_path: Path) -> None:
    (tmp_path / "f.toml").write_text("[server]\ndata_dir = 'none'\n")
    assert run(tmp_path, "queue", "list", "-c", "f.toml").code == 69
