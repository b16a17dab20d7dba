"""SASLprep: the examples of RFC 4013 §3, and what is made of the rest."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta_front.smtp.saslprep import prepared, prepared_name, prepared_password


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("I\u00adX", "IX"),
        ("user", "user"),
        ("USER", "USER"),
        ("\u00aa", "a"),
        ("\u2168", "IX"),
        ("\u0007", None),
        ("\u0627\u0031", None),
    ],
)
def test_the_examples_of_the_rfc(text: str, result: str | None) -> None:
    assert prepared(text) == result


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("", ""),
        ("a b", "a b"),
        ("a\u00a0b\u3000c", "a b c"),
        ("\u200b\ufeff", ""),
        ("\u0627\u0031\u0628", "\u0627\u0031\u0628"),
        ("\u0627a\u0628", None),
        ("\u06271", None),
        ("1\u0627", None),
        ("\u05d0\u05d1", "\u05d0\u05d1"),
        ("\U0001f511", "\U0001f511"),
        ("\ufdd0", None),
        ("\ue000", None),
        ("\u0340", "\u0300"),
        ("\u2ff0", None),
        ("\u200e", None),
        ("\U000e0001", None),
        ("\x7f", None),
    ],
)
def test_spaces_directions_and_what_is_prohibited(text: str, result: str | None) -> None:
    assert prepared(text) == result


def test_what_is_prohibited_is_no_name_and_may_be_a_password() -> None:
    assert prepared_name("a\tb") is None
    assert prepared_name("\u200b") is None
    assert prepared_name("") is None
    assert prepared_name("a\u2066b") is None
    assert prepared_password("a\tb") == "a\tb"
    assert prepared_password("\u200b") == "\u200b"
    assert prepared_password("a\u00a0½") == "a 1\u20442"


@given(st.text())
def test_any_text_has_an_answer(text: str) -> None:
    name, password = prepared_name(text), prepared_password(text)
    assert name is None or (name and not any(unicodedata.category(char).startswith("C") for char in name))
    assert bool(password) == bool(text)
    if text.isascii() and text.isprintable():
        assert password == text
