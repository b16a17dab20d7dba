"""Whatever a next hop sends, in whatever pieces, the sending core

- raises nothing,
- calls no recipient delivered before it has sent the end of the message, or without a 2xx reply among what it heard,
- gives every recipient an outcome once the connection is over,
- sends nothing but CRLF line ends.
"""

from __future__ import annotations

import re

from mta_front.smtp.client import ClientConnection
from mta_front.smtp.transaction import Transaction

BODY = b"Subject: x\r\n\r\n.dot\r\nbare\nline\rends\r\n"

SEEDS = [
    b"220 a\r\n250-a\r\n250-PIPELINING\r\n250 SIZE 100\r\n250 b\r\n250 c\r\n250 d\r\n354 e\r\n250 f\r\n221 g\r\n",
    b"220 a\r\n250 a\r\n250 b\r\n550 5.1.1 c\r\n250 d\r\n354 e\r\n451 4.3.0 f\r\n",
    b"554 no\r\n",
    b"220-a\r\n220 b\r\n500 what\r\n250 helo\r\n250 ok\r\n452 4.5.3 many\r\n250 ok\r\n354 go\r\n250 ok\r\n",
    b"220 a\r\n250-a\r\n250-SMTPUTF8\r\n250 8BITMIME\r\n421 4.3.2 down\r\n",
    b"\r\n250\r\n2 0\r\n" + b"9" * 5000,
]


def one_input(data: bytes) -> None:
    """Two octets choose the protocol and the cuts; the rest is what the next hop sends."""
    settings, cut = (*data[:2], 0, 0)[:2]
    octets = data[2:]
    size = cut % 64 + 1
    client = ClientConnection("front.example", lmtp=bool(settings & 1))
    waiting = [
        Transaction("a@b.example", ["c@d.example", "e@f.example"], len(BODY), "8bitmime"),
        Transaction("", ["ü@d.example"], 0, "7bit", smtp_utf8=True),
        Transaction("g@h.example", ["i@j.example"]),
    ]
    begun: list[Transaction] = []
    sent = b""
    for at in range(0, len(octets), size):
        client.receive(octets[at : at + size])
        while client.can_begin and waiting:
            begun.append(waiting.pop(0))
            client.begin(begun[-1])
        if client.body_wanted is not None:
            client.write(BODY)
            client.finish()
        sent += client.data_to_send()
        for transaction in begun:
            early = [outcome for outcome in transaction.outcomes if outcome and outcome.kind == "delivered"]
            assert not early or (transaction.final_sent and re.search(rb"(?:^|\n)2", octets)), early
    client.lost("the end")
    for transaction in begun:
        assert transaction.done
        assert all(transaction.outcomes), transaction.outcomes
    assert sent.count(b"\r\n") == sent.count(b"\n") == sent.count(b"\r"), sent
