"""Postfix as our next hop: it offers CHUNKING, DSN and SMTPUTF8, and passes on what it understood."""

from __future__ import annotations

import smtplib
from functools import partial
from pathlib import Path

from mta_front.relay.transports.opener import SmtpOptions, Target
from mta_front.relay.transports.smtp import SmtpTransport
from mta_front.settings.values import parse_bind
from tests.clients.postfix_relay import PostfixRelay
from tests.ports import free_port
from tests.relay.attempts import Noted, Try, deliver, pieces
from tests.relay.hub import eventually
from tests.sink import Sink

HEAD = b"From: a@x.example\r\nMessage-ID: <%d@x.example>\r\nDate: Thu, 1 Jan 2026 00:00:00 +0000\r\n\r\n"
BODIES = [
    b"one\r\n.\r\n..two\r\n",
    b"".join(b"%d\r\n.\r\n" % number for number in range(60_000)),
    b"last\r\n",
]


def test_what_postfix_understands_is_what_we_meant(tmp_path: Path, open_directory: Path) -> None:
    sink = Sink(tmp_path, free_port(), keep=True, offer=["DSN", "SMTPUTF8"]).start()
    postfix = PostfixRelay(open_directory, sink.port, "smtp").start()
    with smtplib.SMTP("127.0.0.1", postfix.port, "me.example", timeout=10.0) as client:
        client.ehlo()
        assert all(map(client.has_extn, ["chunking", "dsn", "smtputf8", "pipelining"]))
    noted = Noted()
    options = SmtpOptions("smtp", "me.example", 1, connect_timeout_s=10.0, timeout_s=20.0)
    transport = SmtpTransport([Target(parse_bind(f"127.0.0.1:{postfix.port}"))], options, noted)
    people = ["b@y.example", "ü@y.example"]
    each = {people[0]: {"notify": ["SUCCESS", "DELAY"], "orcpt": "rfc822;B+@y.example"}}
    each[people[1]] = {"notify": ["NEVER"], "orcpt": "utf-8;Ü@y.example"}
    messages = [HEAD % number + body for number, body in enumerate(BODIES)]
    tries = [
        Try(people, partial(pieces, body, 65_536), size_bytes=len(body), smtp_utf8=True, body_type="8bitmime",
            dsn={"ret": "HDRS", "envid": "id=1", "rcpt": each})
        for body in messages
    ]  # fmt: skip
    deliver(transport, *tries, timeout_s=30.0)
    transport.close()
    assert noted.faults == []
    for one in tries:
        assert one.outcomes
        assert [(outcome.kind, outcome.dsn_passed) for outcome in one.outcomes] == [("delivered", True)] * 2
    eventually(lambda: len(sink.deliveries()) == len(BODIES), 30.0, "Postfix has passed all on")
    contents = [path.read_bytes() for path in sink.kept.iterdir()]
    for message in messages:
        assert any(content.endswith(message) for content in contents)
    for delivery in sink.deliveries():
        assert delivery.rcpt_to == tuple(people)
        mail, first, second = (set(words.split()) for words in delivery.parameters)
        assert {"RET=HDRS", "ENVID=id+3D1", "BODY=8BITMIME", "SMTPUTF8"} <= mail
        assert first == {"NOTIFY=SUCCESS,DELAY", "ORCPT=rfc822;B+2B@y.example"}
        assert "NOTIFY=NEVER" in second
