"""What a next hop offers, and what is said of a transaction in its parameters."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta_front.smtp import grammar
from mta_front.smtp.dsnparams import mail_words, rcpt_words
from mta_front.smtp.offer import Offer
from mta_front.smtp.params import (
    MAX_ENVID_OCTETS,
    MAX_ORCPT_OCTETS,
    MailDsn,
    RcptDsn,
    mail_parameters,
    rcpt_parameters,
)

NOTIFY = st.just(("NEVER",)) | st.lists(st.sampled_from(["SUCCESS", "FAILURE", "DELAY"]), unique=True).map(tuple)
ASCII = st.text(st.characters(min_codepoint=32, max_codepoint=126))
PRINTABLE = st.text().filter(str.isprintable)


@given(st.sampled_from(["", "FULL", "HDRS"]), ASCII.filter(lambda text: len(mail_words(MailDsn("", text))) <= 106))
def test_what_is_said_with_mail_is_understood(ret: str, envid: str) -> None:
    words = mail_words(MailDsn(ret, envid))
    assert mail_parameters(grammar.parameters(words.encode())).dsn == MailDsn(ret, envid)


@given(NOTIFY, ASCII)
def test_what_is_said_with_rcpt_is_understood(notify: tuple[str, ...], address: str) -> None:
    words = rcpt_words(RcptDsn(notify, f"rfc822;{address}"), utf8=False)
    found = rcpt_parameters(grammar.parameters(words.encode()))
    assert found == RcptDsn(notify, f"rfc822;{address}" if "ORCPT" in words else "")
    assert ("ORCPT" in words) == bool(address) or len(address) > 150


@given(PRINTABLE, st.booleans())
def test_a_recipient_of_type_utf_8_is_understood_with_smtputf8_and_without(address: str, utf8: bool) -> None:
    words = rcpt_words(RcptDsn((), f"utf-8;{address}"), utf8)
    found = rcpt_parameters(grammar.parameters(words.encode()))
    assert found.orcpt == (f"utf-8;{address}" if "ORCPT" in words else "")
    assert ("ORCPT" in words) == bool(address) or len(address) > 50
    assert words.isascii() or utf8


def test_the_forms_of_rfc_6533() -> None:
    assert rcpt_words(RcptDsn((), "utf-8;ü+\\ =@y"), False) == " ORCPT=utf-8;\\x{FC}\\x{2B}\\x{5C}\\x{20}\\x{3D}@y"
    long = "ü" * 200
    assert rcpt_words(RcptDsn((), f"utf-8;{long}"), utf8=False) == ""
    assert rcpt_words(RcptDsn((), f"utf-8;{long}"), utf8=True) == f" ORCPT=utf-8;{long}"
    assert rcpt_words(RcptDsn((), "utf-8;" + "ü" * 250), utf8=True) == ""


@given(st.text(), st.text(), st.lists(st.text()), st.text())
def test_whatever_the_queue_holds_nothing_becomes_a_command_or_a_parameter(
    ret: str, envid: str, notify: list[str], orcpt: str
) -> None:
    said = mail_words(MailDsn(ret, envid)) + rcpt_words(RcptDsn(tuple(notify), orcpt), utf8=True)
    said.encode()
    assert not any(sign in said for sign in "\r\n\0\t")
    for word in said.split(" ")[1:]:
        name, _, value = word.partition("=")
        assert name in {"RET", "ENVID", "NOTIFY", "ORCPT"}
        assert "=" not in value
        assert len(value) <= {"ENVID": MAX_ENVID_OCTETS, "ORCPT": MAX_ORCPT_OCTETS}.get(name, 30)


@pytest.mark.parametrize(
    ("dsn", "words"),
    [
        (MailDsn("ALL", "x\r\ny"), ""),
        (MailDsn("", "é"), ""),
        (MailDsn("FULL", "y" * 101), " RET=FULL"),
        (RcptDsn(("NEVER", "SUCCESS"), "no type"), ""),
        (RcptDsn(("OFTEN",), "rf c;x"), ""),
        (RcptDsn(("FAILURE",), "rfc822;\n"), " NOTIFY=FAILURE"),
        (RcptDsn((), "utf-8;\udc80"), ""),
    ],
)
def test_what_cannot_be_said_is_left_out(dsn: MailDsn | RcptDsn, words: str) -> None:
    said = mail_words(dsn) if isinstance(dsn, MailDsn) else rcpt_words(dsn, utf8=True)
    assert said == words


# -- LIMITS (RFC 9422) -------------------------------------------------------------------------------------------------

PEOPLE = ["a@x", "b@y", "c@X", "d@z", "e@x"]


@pytest.mark.parametrize(
    ("limits", "fitting"),
    [
        ("", 5),
        ("RCPTMAX=2", 2),
        ("RCPTMAX=5", 5),
        ("rcptmax=1 OTHER=x RCPTDOMAINMAX=2", 1),
        ("RCPTDOMAINMAX=1", 1),
        ("RCPTDOMAINMAX=2", 3),
        ("RCPTDOMAINMAX=3", 5),
        ("RCPTMAX=0", 5),
        ("RCPTMAX=02", 5),
        ("RCPTMAX=1000000", 5),
        ("RCPTMAX=-1 RCPTMAX", 5),
    ],
)
def test_how_many_fit_in_a_transaction(limits: str, fitting: int) -> None:
    assert Offer([b"PIPELINING", f"LIMITS {limits}".encode()]).fitting(PEOPLE) == fitting


def test_how_many_messages_fit_on_a_connection() -> None:
    assert Offer([b"LIMITS MAILMAX=20 RCPTMAX=1"]).messages_max == 20
    assert Offer([b"LIMITS"]).messages_max == 0
