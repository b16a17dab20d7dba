"""The line on which each key of a TOML document stands. The parser of the standard library does not tell.

Works on documents that `tomllib` has already accepted, so it only has to find where statements begin: it reads strings,
comments and brackets, and leaves the meaning of keys to `tomllib`. Keys inside inline tables and lists have no entry of
their own; the statement that holds them has.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator

KeyPath = tuple[str | int, ...]

_TOKEN = re.compile(
    r"""
      \"{3} (?: \\. | [^\\] )*? \"{3,5}   # multi-line basic string; up to two quotes may stand before its end
    | '{3} .*? '{3,5}                     # multi-line literal string
    | " (?: \\. | [^"\\] )* "             # basic string
    | ' [^']* '                           # literal string
    | \# [^\n]*                           # comment
    | \n
    | [\[{] | [\]}]
    | [^"'\#\n\[\]{}]+
    """,
    re.VERBOSE | re.DOTALL,
)
_KEY = re.compile(r"""(?: "(?:\\.|[^"\\])*" | '[^']*' | [A-Za-z0-9_-]+ | [ \t.] )+""", re.VERBOSE)


def lines_of(document: str) -> dict[KeyPath, int]:
    """For each table, element of an array of tables, and key: the number of the line where its statement begins."""
    found: dict[KeyPath, int] = {}
    counts: dict[KeyPath, int] = {}
    table: KeyPath = ()
    for line, statement in _statements(document):
        if statement.startswith("[["):
            array = _resolve(_key(statement[2:]), counts)
            counts[array] = counts.get(array, 0) + 1
            table = (*array, counts[array] - 1)
            found.setdefault(array, line)
            found[table] = line
        elif statement.startswith("["):
            table = _resolve(_key(statement[1:]), counts)
            found.setdefault(table, line)
        else:
            path = table
            for part in _key(statement):
                path = (*path, part)
                found.setdefault(path, line)
    return found


def _statements(document: str) -> Iterator[tuple[int, str]]:
    """Each statement with the number of its first line; comments left out."""
    line, first, depth = 1, 1, 0
    text = ""
    for match in _TOKEN.finditer(document.replace("\r\n", "\n") + "\n"):
        piece = match[0]
        if piece == "\n" and depth == 0:
            if text.strip():
                yield first, text.strip()
            text = ""
        elif not piece.startswith("#"):
            if not text.strip():
                first = line
            depth += (piece in "[{") - (piece in "]}")
            text += piece
        line += piece.count("\n")


def _key(text: str) -> list[str]:
    """The parts of a dotted key at the start of `text`."""
    match = _KEY.match(text)
    found: object = tomllib.loads(f"{match[0] if match else text} = 0")
    parts = []
    while isinstance(found, dict):
        [(part, found)] = found.items()
        parts.append(part)
    return parts


def _resolve(key: list[str], counts: dict[KeyPath, int]) -> KeyPath:
    """A header's key as a path: below an array of tables, the last element is meant."""
    path: KeyPath = ()
    for position, part in enumerate(key):
        path = (*path, part)
        if position < len(key) - 1 and path in counts:
            path = (*path, counts[path] - 1)
    return path
