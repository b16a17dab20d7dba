"""Whatever a next hop sends, in whatever pieces, the sending core

- raises nothing,
- calls no recipient delivered before it has sent the end of the message, or without a 2xx reply among what it heard,
- gives every recipient an outcome once the connection is over,
- says nothing that was not offered,
- sends a dialog that can be read without it: commands, each a line that ends with CRLF; after BDAT as many octets as it
  says; after DATA lines up to the dot; and no CR or LF outside CRLF but in a binary message.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from unittest.mock import patch

from mta_front.smtp import bodyencoder
from mta_front.smtp.client import ClientConnection
from mta_front.smtp.clientopening import Plan
from mta_front.smtp.params import MailDsn, RcptDsn
from mta_front.smtp.saslclient import CLIENT_METHODS, Login
from mta_front.smtp.transaction import Transaction

BODY = b"Subject: x\r\n\r\n.dot\r\nbare\nline\rends\r\n"
COMMAND = re.compile(rb"(?:EHLO|LHLO|HELO|STARTTLS|AUTH|MAIL|RCPT|DATA|RSET|BDAT|QUIT)(?: [^\r\n]*)?|[A-Za-z0-9+/]*=*")
NEEDS = {
    b"BDAT": "CHUNKING", b"BODY=BINARYMIME": "BINARYMIME", b"BODY=8BITMIME": "8BITMIME", b"SIZE=": "SIZE",
    b"SMTPUTF8": "SMTPUTF8", b"REQUIRETLS": "REQUIRETLS", b"RET=": "DSN", b"ENVID=": "DSN", b"NOTIFY=": "DSN",
    b"ORCPT=": "DSN", b"AUTH": "AUTH",
}  # fmt: skip
DSN = {"c@d.example": RcptDsn(("SUCCESS",), "rfc822;x+y\n"), "ü@d.example": RcptDsn((), "utf-8;ü@d.example")}

TOKENS = [
    "\r\n", "220 ", "221 ", "250 ", "250-", "354 ", "421 ", "450 ", "452 ", "500 ", "503 ", "550 ", "552 ", "5.5.3 ",
    "PIPELINING", "CHUNKING", "BINARYMIME", "8BITMIME", "SMTPUTF8", "DSN", "REQUIRETLS", "SIZE 10", "LIMITS ",
    "RCPTMAX=1", "RCPTDOMAINMAX=1", "MAILMAX=1", "STARTTLS", "AUTH ", "PLAIN", "LOGIN", "SCRAM-SHA-256", "-PLUS",
    "XOAUTH2", "334 ", "235 ", "535 ", "cj1ub25jZXgscz1RUT09LGk9NDA5Ng==",
]  # fmt: skip
SEEDS = [
    b"220 a\r\n250-a\r\n250-PIPELINING\r\n250 SIZE 100\r\n250 b\r\n250 c\r\n250 d\r\n354 e\r\n250 f\r\n221 g\r\n",
    b"220 a\r\n250 a\r\n250 b\r\n550 5.1.1 c\r\n250 d\r\n354 e\r\n451 4.3.0 f\r\n",
    b"554 no\r\n",
    b"220-a\r\n220 b\r\n500 what\r\n250 helo\r\n250 ok\r\n452 4.5.3 many\r\n250 ok\r\n354 go\r\n250 ok\r\n",
    b"220 a\r\n250-a\r\n250-SMTPUTF8\r\n250 8BITMIME\r\n421 4.3.2 down\r\n",
    b"\r\n250\r\n2 0\r\n" + b"9" * 5000,
    b"220 a\r\n250-a\r\n250-CHUNKING\r\n250-BINARYMIME\r\n250-DSN\r\n250 PIPELINING\r\n" + b"250 ok\r\n" * 30,
    b"220 a\r\n250-a\r\n250-CHUNKING\r\n250-LIMITS MAILMAX=2 RCPTMAX=1 RCPTDOMAINMAX=1\r\n250 SMTPUTF8\r\n"
    + b"250 ok\r\n" * 20,
    b"220 a\r\n250-REQUIRETLS\r\n250-CHUNKING\r\n250 PIPELINING\r\n250 b\r\n250 c\r\n250 d\r\n552 e\r\n503 f\r\n",
    b"220 a\r\n250-a\r\n250 CHUNKING\r\n250 b\r\n250 c\r\n250 d\r\n354 e\r\n",
    (
        b"\x1c\x00\x00"
        b"220 a\r\n250-a\r\n250 STARTTLS\r\n220 go\r\n250-a\r\n250 AUTH LOGIN\r\n"
        b"334 VQ==\r\n334 ok\r\n235 ok\r\n"
    ),
    (
        b"\x0a\x00\x00"
        b"220 a\r\n250-a\r\n250 AUTH SCRAM-SHA-256\r\n"
        b"334 cj1ub25jZXgscz1RUT09LGk9NDA5Ng==\r\n334 dj1R\r\n235 ok\r\n"
    ),
]


def messages() -> list[Transaction]:
    """One of each kind."""
    return [
        Transaction("a@b.example", ["c@d.example", "e@f.example"], len(BODY), "8bitmime", False, False,
                    MailDsn("FULL", "id 1"), DSN),
        Transaction("", ["ü@d.example"], 0, "7bit", True, rcpt_dsn=DSN),
        Transaction("g@h.example", ["i@j.example"], 0, "binarymime"),
        Transaction("g@h.example", ["i@j.example"], require_tls=True),
        Transaction("g@h.example", ["i@j.example"]),
    ]  # fmt: skip


def one_input(data: bytes) -> None:
    """Three octets choose the protocol, the cuts and the segments; the rest is what the next hop sends."""
    with patch.object(bodyencoder, "CHUNK_BYTES", 16):
        talk(data)


def talk(data: bytes) -> None:
    """One connection."""
    settings, cut, segment = (*data[:3], 0, 0, 0)[:3]
    octets = data[3:]
    size = cut % 64 + 1
    pieces = [BODY[start : start + segment % 40 + 1] for start in range(0, len(BODY), segment % 40 + 1)]
    login = Login("u,=", "secret", CLIENT_METHODS, insecure=bool(settings & 4)) if settings & 8 else None
    plan = Plan(("none", "may", "must")[settings // 16 % 3], login, "nonce")
    client = ClientConnection("front.example", lmtp=bool(settings & 1), plan=plan)
    if settings & 2:
        client.secured("verified", b"binding")
    waiting = messages()
    begun: list[Transaction] = []
    left: list[bytes] = []
    sent = b""
    for at in range(0, len(octets), size):
        client.receive(octets[at : at + size])
        if client.tls_wanted:
            client.secured("encrypted", b"binding" if settings & 4 else None)
        while client.can_begin and waiting and not client.spent:
            begun.append(waiting.pop(0))
            client.begin(begun[-1])
            assert 1 <= client.offer.fitting(begun[-1].recipients) <= len(begun[-1].recipients)
            left = list(pieces)
        while client.body_wanted is not None and not client.body_held:
            if left:
                client.write(left.pop(0))
            else:
                client.finish()
        sent += client.data_to_send()
        for transaction in begun:
            early = [outcome for outcome in transaction.outcomes if outcome and outcome.kind == "delivered"]
            assert not early or (transaction.final_sent and re.search(rb"(?:^|\n)2", octets)), early
    client.lost("the end")
    for transaction in begun:
        assert transaction.done
        assert all(transaction.outcomes), transaction.outcomes
    for said in spoken(sent):
        for word in said.split(b" "):
            for start, extension in NEEDS.items():
                assert not word.startswith(start) or extension in client.offer.extensions, said


def spoken(sent: bytes) -> Iterable[bytes]:
    """The commands of a dialog; AssertionError where it is none."""
    binary = in_data = False
    while sent:
        line, end, sent = sent.partition(b"\r\n")
        assert end, line
        assert not {*b"\r\n"} & {*line}, line
        if in_data:
            in_data = line != b"."
            continue
        if line == b"." or line.startswith(b"Subject:"):  # 354 was said: to nobody, and to somebody
            in_data = line != b"."
            continue
        assert COMMAND.fullmatch(line), line
        yield line
        if line.startswith(b"MAIL"):
            binary = b"BODY=BINARYMIME" in line
        elif line.startswith(b"BDAT"):
            count = int(line.split()[1])
            octets, sent = sent[:count], sent[count:]
            assert len(octets) == count
            assert binary or octets.count(b"\r\n") == octets.count(b"\n") == octets.count(b"\r"), octets
