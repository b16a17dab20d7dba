"""Reports to senders: parsed by Python's email, and what must and must not be in them."""

from __future__ import annotations

import email
import re
from base64 import b64decode
from collections.abc import Iterable
from email.message import Message
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta_front.relay.dsn import HEADER_BYTES, Kind, Returned, Told, compose, gather
from mta_front.store.entry import Entry
from mta_front.store.message_id import LENGTH, derived_id

NOW = 1_700_000_000.0
MESSAGE = b"Received: from x\r\nSubject: Hello\r\nFrom: a@x.example\r\n\r\nThe body.\r\n"
FAILED = Told("b@y.example", "failed", "5.1.1", 550, "5.1.1 unknown", "mx.y.example:25", "smtp", NOW)


def envelope(**fields: Any) -> Entry:
    values: dict[str, Any] = {"mail_from": "a@x.example", "rcpt_to": ["b@y.example"], "helo": "client.x.example"}
    return Entry(id="0123456789abcdef", received_at=NOW - 60, **(values | fields))


def report(
    kind: Kind = "failure",
    told: Iterable[Told] = (FAILED,),
    returned: Returned | None = None,
    retry_until: float = 0.0,
    **fields: Any,
) -> tuple[Entry, bytes]:
    back = returned or Returned(MESSAGE, True)
    return compose(
        kind,
        envelope(**fields),
        list(told),
        back,
        attempt=2,
        name="front.example",
        now=NOW,
        retry_until=retry_until,
    )


def parts_of(raw: bytes) -> tuple[Message, list[Any]]:
    parsed = email.message_from_bytes(raw)
    assert parsed.get_content_type() == "multipart/report"
    assert parsed.get_param("report-type") == "delivery-status"
    known = [part for part in parsed.walk() if "global" not in part.get_content_type()]
    assert [part.defects for part in known if part.defects and part.get_content_type() != "text/plain"] == []
    return parsed, parsed.get_payload()  # type: ignore[return-value]


def status_of(part: Any) -> list[dict[str, str]]:
    """The groups of fields: that of the message, then those of the recipients."""
    assert part.get_content_type() == "message/delivery-status"
    return [dict(group.items()) for group in part.get_payload() if group.items()]


def test_a_failure() -> None:
    entry, raw = report()
    assert (entry.mail_from, entry.rcpt_to, entry.size_bytes) == ("", ["a@x.example"], len(raw))
    assert (entry.body_type, entry.smtp_utf8, entry.dsn) == ("7bit", False, None)
    parsed, (words, status, message) = parts_of(raw)
    assert parsed["To"] == "<a@x.example>"
    assert parsed["From"] == "Mail Delivery System <MAILER-DAEMON@front.example>"
    assert parsed["Auto-Submitted"] == "auto-replied"
    assert parsed["Message-ID"] == f"<{entry.id}@front.example>"
    assert "b@y.example" in words.get_payload()
    assert "mx.y.example:25 said: 550 5.1.1 unknown" in words.get_payload()
    first, second = status_of(status)
    assert first == {
        "Reporting-MTA": "dns; front.example",
        "Received-From-MTA": "dns; client.x.example",
        "Arrival-Date": "Tue, 14 Nov 2023 22:12:20 -0000",
    }
    assert second == {
        "Final-Recipient": "rfc822; b@y.example",
        "Action": "failed",
        "Status": "5.1.1",
        "Remote-MTA": "dns; mx.y.example",
        "Diagnostic-Code": "smtp; 550 5.1.1 unknown",
        "Last-Attempt-Date": "Tue, 14 Nov 2023 22:13:20 -0000",
    }
    assert message.get_content_type() == "message/rfc822"
    assert message.get_payload(0)["Subject"] == "Hello"
    assert MESSAGE in raw


def test_what_the_sender_said_comes_back() -> None:
    dsn = {"envid": "QQ314159", "rcpt": {"b@y.example": {"orcpt": "rfc822;Bob@list.example"}}}
    _, raw = report(dsn=dsn)
    first, second = status_of(parts_of(raw)[1][1])
    assert first["Original-Envelope-Id"] == "QQ314159"
    assert second["Original-Recipient"] == "rfc822; Bob@list.example"
    assert second["Final-Recipient"] == "rfc822; b@y.example"


def test_a_delay_says_until_when() -> None:
    told = Told("b@y.example", "delayed", "4.4.1", 0, "connect to mx:25: Connection refused", "mx:25", "smtp", NOW)
    _, raw = report("delay", [told], Returned(b"Subject: Hello\r\n", False), retry_until=NOW + 3600)
    _, (words, status, header) = parts_of(raw)
    assert "Tue, 14 Nov 2023 23:13:20" in words.get_payload()
    (_, second) = status_of(status)
    assert second["Action"] == "delayed"
    assert second["Will-Retry-Until"] == "Tue, 14 Nov 2023 23:13:20 -0000"
    assert second["Diagnostic-Code"].startswith("x-mta-front; connect to mx:25"), "no reply came"
    assert "Remote-MTA" not in second
    assert header.get_content_type() == "text/rfc822-headers"


def test_a_success_names_each_by_what_became_of_it() -> None:
    told = [
        Told("b@y.example", "delivered", "2.0.0", 250, "2.0.0 ok", "maildir", "maildir", NOW),
        Told("c@y.example", "relayed", "2.1.5", 250, "2.1.5 ok", "[192.0.2.1]:25", "smtp", NOW),
    ]
    _, raw = report("success", told, Returned(b"Subject: Hello\r\n", False))
    _, (words, status, _) = parts_of(raw)
    assert re.search(r"delivered to:\s+b@y.example\s+.*passed on.*\s+c@y.example", words.get_payload(), re.DOTALL)
    _, second, third = status_of(status)
    assert (second["Action"], third["Action"], third["Remote-MTA"]) == ("delivered", "relayed", "dns; [192.0.2.1]")
    assert "Remote-MTA" not in second


def test_the_id_follows_from_message_kind_and_attempt() -> None:
    assert report()[0].id == report()[0].id
    ids = {derived_id("0123456789abcdef", kind, n) for kind in ("failure", "delay") for n in range(50)}
    assert len(ids) == 100
    assert all(len(one) == LENGTH and one.startswith("01234567") for one in ids)


@pytest.mark.parametrize("foreign", ["", "short", "with/slash/16ch..", "\r\nX: y\r\n" * 2, "ünïcödë-16-chars"])
def test_the_id_of_a_strangers_message_is_one_of_ours(foreign: str) -> None:
    assert re.fullmatch(r"[0-9A-Za-z]{16}", derived_id(foreign, "failure", 1))


def test_eight_bit_bodies_go_back_as_they_are() -> None:
    content = MESSAGE + "Grüße\r\n".encode("latin-1")
    entry, raw = report(returned=Returned(content, True))
    assert entry.body_type == "8bitmime"
    parsed, (_, _, message) = parts_of(raw)
    assert parsed["Content-Transfer-Encoding"] == message["Content-Transfer-Encoding"] == "8bit"
    assert content in raw


def test_a_message_in_utf8_to_a_plain_sender_needs_no_smtputf8_on_its_way_back() -> None:
    """RFC 6533: the parts of type message/global may be encoded."""
    told = Told("gräfin@y.example", "failed", "5.1.1", 550, "5.1.1 nö", "mx:25", "smtp", NOW)
    content = "Subject: Grüße\r\n\r\nHallo\r\n".encode()
    entry, raw = report(told=[told], returned=Returned(content, True), smtp_utf8=True)
    assert raw.isascii()
    assert (entry.smtp_utf8, entry.body_type) == (False, "7bit")
    _, (words, status, message) = parts_of(raw)
    assert "gräfin@y.example" in words.get_payload(decode=True).decode()
    assert status.get_content_type() == "message/global-delivery-status"
    assert message.get_content_type() == "message/global"
    decoded = [b64decode(found) for found in re.findall(rb"base64\r\n\r\n([0-9A-Za-z+/=\r\n]+)", raw)]
    assert "Final-Recipient: utf-8; gräfin@y.example\r\n".encode() in decoded[1]
    assert decoded[2] == content


def test_a_sender_in_utf8_gets_utf8() -> None:
    content = "Subject: Grüße\r\n\r\nHallo\r\n".encode()
    entry, raw = report(returned=Returned(content, True), mail_from="ädam@x.example", smtp_utf8=True)
    assert (entry.smtp_utf8, entry.body_type, entry.rcpt_to) == (True, "8bitmime", ["ädam@x.example"])
    assert "To: <ädam@x.example>\r\n".encode() in raw
    assert b"message/global\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" + content in raw


def test_a_header_of_no_known_charset() -> None:
    _, raw = report(returned=Returned(b"Subject: Gr\xfc\xdfe\r\n", False))
    assert raw.isascii()
    _, (_, _, header) = parts_of(raw)
    assert header.get_content_type() == "text/rfc822-headers"
    assert header.get_payload(decode=True) == b"Subject: Gr\xfc\xdfe\r\n"


def test_a_message_that_is_lost() -> None:
    _, raw = report(returned=Returned(None, False))
    _, parts = parts_of(raw)
    assert len(parts) == 2
    assert "was lost" in parts[0].get_payload()


def test_requiretls_stays_on_the_way_back() -> None:
    assert report(require_tls=True)[0].require_tls


EVIL = "x\r\n\r\n.\r\nMAIL FROM:<e@evil>\r\nBcc: e@evil\0\x7f\u2028\udc80"


def test_no_line_ends_get_in_from_queue_or_next_hop() -> None:
    told = Told(EVIL, "failed", "5.1.1", 550, EVIL, EVIL, "smtp", NOW)
    dsn = {"envid": EVIL, "rcpt": {EVIL: {"orcpt": f"rfc822;{EVIL}"}}}
    _, raw = report(told=[told], mail_from=EVIL, helo=EVIL, dsn=dsn, returned=Returned(None, False))
    first: Any = email.message_from_bytes(raw).get_payload(0)
    text = raw + first.get_payload(decode=True)
    assert b"\nMAIL FROM" not in text
    assert b"\nBcc" not in text
    assert b"\0" not in text


@given(st.text(max_size=1500), st.text(max_size=1500), st.binary(max_size=300))
def test_whatever_is_in_the_queue_a_report_is_written(text: str, address: str, content: bytes) -> None:
    told = Told(address, "failed", "5.0.0", 550, text, text, "smtp", NOW)
    dsn = {"envid": text, "rcpt": {address: {"orcpt": text}}}
    _, raw = report(told=[told], mail_from=address or "a", helo=text, dsn=dsn, returned=Returned(content, True))
    ours = raw.replace(content, b"") if content else raw
    assert max(map(len, ours.split(b"\r\n"))) <= 998 + len(address.encode("utf-8", "surrogatepass"))
    assert b"\n" not in ours.replace(b"\r\n", b"") or b"\n" in content


def test_no_boundary_is_in_the_message_it_encloses() -> None:
    """Whoever writes a message cannot end the part that holds it."""
    _, raw = report()
    boundary = email.message_from_bytes(raw).get_boundary()
    inner = MESSAGE + b"--" + str(boundary).encode() + b"--\r\nevil\r\n"
    _, again = report(returned=Returned(inner, True))
    _, parts = parts_of(again)
    assert len(parts) == 3
    assert parts[2].get_payload(0).as_bytes().endswith(b"evil\n")


# -- what goes back ----------------------------------------------------------------------------------------------------


def segments(content: bytes, size: int = 10) -> Iterable[bytes]:
    return [content[start : start + size] for start in range(0, len(content), size)]


HEADER = b"Received: from x\r\nSubject: Hello\r\nFrom: a@x.example\r\n"


@pytest.mark.parametrize(
    ("kind", "fields", "whole"),
    [
        ("failure", {}, True),
        ("failure", {"dsn": {"ret": "FULL"}}, True),
        ("failure", {"dsn": {"ret": "HDRS"}}, False),
        ("failure", {"size_bytes": 1001}, False),
        ("failure", {"require_tls": True, "dsn": {"ret": "FULL"}}, False),
        ("failure", {"body_type": "binarymime"}, False),
        ("delay", {"dsn": {"ret": "FULL"}}, False),
        ("success", {"dsn": {"ret": "FULL"}}, False),
    ],
)
def test_how_much_goes_back(kind: Kind, fields: dict[str, Any], whole: bool) -> None:
    entry = envelope(**({"size_bytes": len(MESSAGE)} | fields))
    for size in (1, 7, 1000):
        found = gather(entry, lambda size=size: segments(MESSAGE, size), kind, 1000)  # type: ignore[misc]
        assert found == (Returned(MESSAGE, True) if whole else Returned(HEADER, False))


def test_of_a_large_message_only_the_beginning_is_read() -> None:
    read: list[int] = []

    def body() -> Iterable[bytes]:
        for number in range(1000):
            read.append(number)
            yield HEADER + b"\r\n" + b"x" * 65_000 if number == 0 else b"x" * 65_536

    assert gather(envelope(size_bytes=10**9), body, "failure", 50_000) == Returned(HEADER, False)
    assert len(read) == 1


def test_a_header_without_an_end_is_cut_at_a_line() -> None:
    lines = b"X-Line: 0123456789\r\n"
    found = gather(envelope(size_bytes=10**9), lambda: iter([lines * 1000] * 1000), "failure", 50_000)
    assert found.content is not None
    assert HEADER_BYTES - len(lines) <= len(found.content) <= HEADER_BYTES
    assert found.content.endswith(lines)
