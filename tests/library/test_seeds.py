"""Nothing that the libraries replaced promise is forgotten, and the defaults are theirs (DECISIONS W4)."""

from __future__ import annotations

import ast
import socket
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from mta_front import SMTPServer
from mta_front.arguments import Arguments, checked
from mta_front.hooks import HOOKS, Address, Envelope, Message, Session
from tests.library.seeds import CONFIGURATION, HOST, NONE, ROWS, Row

HERE = Path(__file__).parent


def marked() -> set[str]:
    """The rows that tests of this directory are marked with, read from their source."""
    found = set()
    for path in HERE.glob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.seed":
                found |= {ast.literal_eval(argument) for argument in node.args}
    return found


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.key)
def test_each_promise_has_a_test_or_says_with_what_it_comes(row: Row) -> None:
    if row.later:
        assert row.later.startswith("comes with ")
    else:
        assert row.key in marked(), f"no test is marked with {row.key!r}"


def test_marks_are_promises() -> None:
    """A misspelt mark would count for nothing."""
    assert marked() <= {row.key for row in ROWS}


def owners() -> dict[str, set[str]]:
    """Our names, by table."""
    options = {option.name for option in (*fields(type(checked(None, {}).session)), *fields(Arguments))}
    return {
        "configuration": options,
        "method": set(dir(SMTPServer)),
        "callback": {*HOOKS, "Reject"},
        "stream": set(dir(Message)),
        "session": {each.name for each in fields(Session)},
        "envelope": {each.name for each in fields(Envelope)},
        "address": set(dir(Address)),
    }


@pytest.mark.parametrize("row", [row for row in ROWS if not row.later], ids=lambda row: row.key)
def test_what_is_here_is_here(row: Row) -> None:
    assert row.ours in owners()[row.table]


def in_our_units(row: Row) -> Any:
    """Their default, as we would say it."""
    if row.default is HOST:
        return socket.gethostname()
    if row.theirs in ("socketTimeout", "closeTimeout"):
        return row.default / 1000
    if row.theirs == "disableReverseLookup":
        return not row.default
    if row.theirs == "disabledCommands":
        return frozenset(row.default)
    if row.default is NONE:
        return {"size": 0, "maxClients": 0, "authRequiredMessage": "", "resolver": None}[row.theirs]
    return row.default


@pytest.mark.parametrize("row", [row for row in CONFIGURATION if not row.later], ids=lambda row: row.theirs)
def test_the_defaults_are_theirs(row: Row) -> None:
    found = checked(None, {})
    owner = found if hasattr(found, row.ours) else found.session
    ours = getattr(owner, row.ours)
    assert ours == in_our_units(row)
    assert type(ours) is type(in_our_units(row))
