"""The envelope: stable names, readable in any language, never a crash."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mta_front.store.entry import Entry


def test_every_field_survives() -> None:
    entry = Entry(
        id="0VbbnFvi00qPuvx5",
        received_at=1795262681.630668,
        listener="mx",
        mail_from="a@example.org",
        rcpt_to=["b@example.net", "ç@example.net"],
        size_bytes=70,
        body_type="8bitmime",
        smtp_utf8=True,
        require_tls=True,
        client_address="2001:db8::1",
        client_name="client.example.org",
        helo="client",
        user="dev",
        dsn={"ret": "HDRS", "envid": "x", "rcpt": {"ç@example.net": {"notify": ["NEVER"], "orcpt": "utf-8;ç@e.net"}}},
        segments=3,
    )
    assert Entry.from_json(entry.to_json()) == entry


def test_the_names_are_the_layout() -> None:
    entry = Entry(id="i", received_at=1.5, listener="mx", rcpt_to=["b@c"], size_bytes=2, segments=1, helo="h")
    assert json.loads(entry.to_json()) == {
        "id": "i",
        "received_at": 1.5,
        "listener": "mx",
        "mail_from": "",
        "rcpt_to": ["b@c"],
        "size_bytes": 2,
        "helo": "h",
        "segments": 1,
    }


def test_a_later_version_may_add_fields() -> None:
    raw = b'{"id":"i","received_at":1,"mail_from":"","rcpt_to":["b@c"],"later":[1]}'
    assert Entry.from_json(raw) == Entry(id="i", received_at=1, rcpt_to=["b@c"])


def test_what_an_earlier_version_knew_of_reports_is_read() -> None:
    raw = b'{"id":"i","received_at":1,"mail_from":"","rcpt_to":["b@c"],"dsn":{"ret":"FULL"}}'
    assert Entry.from_json(raw).dsn == {"ret": "FULL"}


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "Expecting value"),
        (b"{", "Expecting"),
        (b"\xff\xfe", "codec"),
        (b"[" * 100_000, "nested"),
        (b"[]", "not a JSON object"),
        (b'{"id":"i","received_at":1,"mail_from":""}', "rcpt_to is missing"),
        (b'{"id":"i","received_at":1,"mail_from":"","rcpt_to":[]}', "not a list of addresses"),
        (b'{"id":"i","received_at":1,"mail_from":"","rcpt_to":[1]}', "not a list of addresses"),
        (b'{"id":"i","received_at":1,"mail_from":"","rcpt_to":"b@c"}', "rcpt_to of the envelope is a str"),
        (b'{"id":"i","received_at":"1","mail_from":"","rcpt_to":["b@c"]}', "received_at"),
        (b'{"id":"i","received_at":1,"mail_from":"","rcpt_to":["b@c"],"segments":true}', "segments"),
        (b'{"id":"i","received_at":1,"mail_from":"","rcpt_to":["b@c"],"smtp_utf8":1}', "smtp_utf8"),
        (b'{"id":"i","received_at":NaN,"mail_from":"","rcpt_to":["b@c"],"dsn":[]}', "dsn"),
        (b'{"id":"i","received_at":1,"mail_from":"","rcpt_to":["b@c"],"dsn":{"ret":1}}', "dsn"),
        (b'{"id":"i","received_at":1,"mail_from":"","rcpt_to":["b@c"],"dsn":{"rcpt":["b@c"]}}', "dsn"),
        (b'{"id":"i","received_at":1,"mail_from":"","rcpt_to":["b@c"],"dsn":{"rcpt":{"b@c":"NEVER"}}}', "dsn"),
        (b'{"id":"i","received_at":1,"mail_from":"","rcpt_to":["b@c"],"dsn":{"rcpt":{"b@c":{"notify":"X"}}}}', "dsn"),
        (b'{"id":"i","received_at":1,"mail_from":"","rcpt_to":["b@c"],"dsn":{"rcpt":{"b@c":{"orcpt":[]}}}}', "dsn"),
    ],
)
def test_what_cannot_be_read_is_a_value_error_that_says_why(raw: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Entry.from_json(raw)


@example("\udcff\ud800", ["b@c"])
@given(st.text(), st.lists(st.text(), min_size=1))
def test_any_text_survives_also_bytes_that_were_no_utf_8(mail_from: str, rcpt_to: list[str]) -> None:
    entry = Entry(id="i", received_at=1.0, mail_from=mail_from, rcpt_to=rcpt_to)
    assert Entry.from_json(entry.to_json()) == entry


@given(st.binary())
def test_no_bytes_raise_anything_but_value_error(raw: bytes) -> None:
    with pytest.raises(ValueError):  # whichever
        Entry.from_json(raw)
