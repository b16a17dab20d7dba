"""SASLprep (RFC 4013): one form for what looks the same, so that names and passwords can be compared."""

from __future__ import annotations

import stringprep
import unicodedata

_PROHIBITED = (
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
)


def prepared(text: str) -> str | None:
    """The text as SASLprep has it; None where it holds what is prohibited (controls above all) or mixes directions.

    As a query string (RFC 3454 §7): characters younger than Unicode 3.2, such as most emoji, stay as they are.
    """
    if text.isascii() and text.isprintable():
        return text
    mapped = "".join(
        " " if stringprep.in_table_c12(char) else char for char in text if not stringprep.in_table_b1(char)
    )
    # RFC 3454 §4: the normalisation of Unicode 3.2, whatever Python knows today
    normal = unicodedata.ucd_3_2_0.normalize("NFKC", mapped)
    if any(prohibits(char) for char in normal for prohibits in _PROHIBITED):
        return None
    return normal if _one_direction(normal) else None


def prepared_name(text: str) -> str | None:
    """A user's name, prepared; None where SASLprep refuses it, and where nothing is left of it.

    Also without the invisible characters that Unicode got after 3.2 (direction isolates, U+2066): a name is shown in
    logs, and must look like what it is.
    """
    name = prepared(text)
    if not name or any(unicodedata.category(char)[0] == "C" for char in name):
        return None
    return name


def prepared_password(text: str) -> str:
    """A password, prepared, or as it is where SASLprep refuses it.

    So do PostgreSQL and what learned from it: the password with a tab in it works, on both sides.
    """
    return prepared(text) or text


def _one_direction(text: str) -> bool:
    """RFC 3454 §6: right-to-left text has no left-to-right letters in it, and begins and ends right-to-left."""
    if not any(stringprep.in_table_d1(char) for char in text):
        return True
    if any(stringprep.in_table_d2(char) for char in text):
        return False
    return stringprep.in_table_d1(text[0]) and stringprep.in_table_d1(text[-1])
