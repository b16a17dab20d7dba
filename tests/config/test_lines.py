"""The line on which each key of a TOML document stands."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta_front.settings.lines import KeyPath, lines_of
from mta_front.settings.toml import toml_key, toml_text

DOCUMENT = '''\
# a comment with [brackets] and "a quote
top = 1                                    # "
[server]
name = "x # no comment"
"quoted key" = { inner = 1 }
dotted.key.path = 2
text = """
[not.a.table]
name = "five quotes follow"""""
literal = \'\'\'
key = '\'\'\'

  [[listeners]]   # indented
name = "a"
bind = [
  "x:1",   # ]
  "y:2",
]
after = 1
[listeners.tls]
cert = "c\\" ["
[[listeners]]
name = "b"
  [[listeners.inner]]
  deep = 1
  [[listeners.inner]]
  deep = 2
[relay]
routes = [{a = 1}, {a = 2}]
'''

EXPECTED = {
    ("top",): 2,
    ("server",): 3,
    ("server", "name"): 4,
    ("server", "quoted key"): 5,
    ("server", "dotted"): 6,
    ("server", "dotted", "key", "path"): 6,
    ("server", "text"): 7,
    ("server", "literal"): 10,
    ("listeners",): 13,
    ("listeners", 0): 13,
    ("listeners", 0, "name"): 14,
    ("listeners", 0, "bind"): 15,
    ("listeners", 0, "after"): 19,
    ("listeners", 0, "tls"): 20,
    ("listeners", 0, "tls", "cert"): 21,
    ("listeners", 1): 22,
    ("listeners", 1, "name"): 23,
    ("listeners", 1, "inner", 0): 24,
    ("listeners", 1, "inner", 0, "deep"): 25,
    ("listeners", 1, "inner", 1, "deep"): 27,
    ("relay",): 28,
    ("relay", "routes"): 29,
}


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_every_key_has_its_line(line_end: str) -> None:
    tomllib.loads(DOCUMENT)
    found = lines_of(DOCUMENT.replace("\n", line_end))
    assert {path: found.get(path) for path in EXPECTED} == EXPECTED


def test_keys_inside_inline_tables_have_none() -> None:
    assert ("relay", "routes", 0, "a") not in lines_of(DOCUMENT)


KEYS = st.text(min_size=1, max_size=6)
SCALARS = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.booleans(),
    st.floats(allow_nan=False),
    st.text(max_size=20),
    st.lists(st.text()),
)
TABLES = st.dictionaries(KEYS, st.one_of(SCALARS, st.dictionaries(KEYS, SCALARS, max_size=3)), max_size=5)


@given(TABLES)
def test_whatever_we_write_is_read_back_and_located(table: dict[str, Any]) -> None:
    """Any document that we write parses to what was written, and each key is found on the line that holds it."""
    written = list(_document(table))
    document = "\n".join(line for _, line in written)
    assert tomllib.loads(document) == table
    found = lines_of(document)
    for number, (path, _) in enumerate(written, start=1):
        assert found[path] == number


def _document(table: dict[str, Any]) -> Iterator[tuple[KeyPath, str]]:
    for key, value in table.items():
        if not isinstance(value, dict):
            yield (key,), f"{toml_key(key)} = {toml_text(value)}"
    for key, value in table.items():
        if isinstance(value, dict):
            yield (key,), f"[{toml_key(key)}]"
            for inner, scalar in value.items():
                yield (key, inner), f"{toml_key(inner)} = {toml_text(scalar)}"
