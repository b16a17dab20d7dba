"""The Received: header and the count of hops."""

from __future__ import annotations

import email.utils
import re
from email import message_from_bytes

import pytest

from mta_front.hooks import Envelope, Session
from mta_front.policy.trace import HopCount, received
from mta_front.smtp.address import Address


def session(**fields: object) -> Session:
    made = Session(
        "s.1", "mx", remote_address="192.0.2.7", host_name_appears_as="client.example", transmission_type="ESMTP"
    )
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def header(made: Session) -> str:
    message = message_from_bytes(received(made, "ID1", "mx.ours.example") + b"\r\nbody\r\n")
    assert list(message.keys()) == ["Received"], "one header, and nothing forged beside it"
    return re.sub(r"\s+", " ", str(message["Received"]))


def test_it_names_client_server_protocol_id_and_the_only_recipient() -> None:
    made = session(envelope=Envelope(rcpt_to=[Address("b", "ours.example")]))
    text, _, date = header(made).rpartition("; ")
    assert text == (
        "from client.example ([192.0.2.7]) by mx.ours.example (mta-front) with ESMTP id ID1 for <b@ours.example>"
    )
    assert email.utils.parsedate_to_datetime(date) is not None


def test_several_recipients_are_not_named() -> None:
    made = session(envelope=Envelope(rcpt_to=[Address("b", "ours.example"), Address("c", "ours.example")]))
    assert " for " not in header(made)


def test_a_reverse_name_an_ipv6_address_and_a_unix_socket() -> None:
    assert "(mail.example [192.0.2.7])" in header(session(client_hostname="mail.example"))
    assert "([IPv6:2001:db8::1])" in header(session(remote_address="2001:db8::1"))
    assert "([unix])" in header(session(remote_address=""))
    unknown = session(remote_address="", client_hostname="unknown", x_client={"ADDR": None})
    assert "(unknown [unknown])" in header(unknown)


@pytest.mark.parametrize("helo", ["a)(b", "x\r\nEvil: yes", "back\\slash", "ö"])
def test_what_the_client_says_of_itself_cannot_break_out(helo: str) -> None:
    assert header(session(host_name_appears_as=helo)).startswith("from ")


@pytest.mark.parametrize("cut", [1, 3, 16, 10_000])
def test_hops_are_counted_in_the_header_only(cut: int) -> None:
    message = b"Received: a\r\nX-Received: no\r\nRECEIVED: b\r\n\tReceived: folded\r\n\r\nReceived: body\r\n"
    lines = message.splitlines(keepends=True)
    count = HopCount()
    for start in range(0, len(lines), cut):
        count.feed(b"".join(lines[start : start + cut]))
    assert count.hops == 2


def test_a_message_without_a_header_has_no_hops() -> None:
    count = HopCount()
    count.feed(b"\r\nReceived: body\r\n")
    count.feed(b"Received: body\r\n")
    assert count.hops == 0
