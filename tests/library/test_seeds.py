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
from mta_front.certified import TLS_CHECKS
from mta_front.hooks import HOOKS, Address, Credentials, Envelope, Message, Session
from mta_front.tls.options import TlsOptions
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
def test_each_promise_has_a_test(row: Row) -> None:
    assert row.key in marked(), f"no test is marked with {row.key!r}"


def test_marks_are_promises() -> None:
    """A misspelt mark would count for nothing."""
    assert marked() <= {row.key for row in ROWS}


def owners() -> dict[str, set[str]]:
    """Our names, by table."""
    options = {option.name for option in (*fields(type(checked(None, {}).session)), *fields(Arguments))}
    return {
        "configuration": options | set(TLS_CHECKS),
        "method": set(dir(SMTPServer)),
        "callback": {*HOOKS, "Reject"},
        "stream": set(dir(Message)),
        "session": {each.name for each in fields(Session)},
        "envelope": {each.name for each in fields(Envelope)},
        "address": set(dir(Address)),
        "auth": set(dir(Credentials)),
    }


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.key)
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
    if row.theirs == "authMethods":
        return tuple(row.default)
    return NOT_GIVEN[row.theirs] if row.default is NONE else row.default


NOT_GIVEN: dict[str, Any] = {
    "size": 0, "maxClients": 0, "authRequiredMessage": "", "resolver": None,
    "key": (), "cert": (), "ca": None, "requestCert": None, "rejectUnauthorized": None, "minVersion": "TLSv1.2",
    "maxVersion": "", "sniOptions": {},
}  # fmt: skip
"""What an option is for which they name no default."""


@pytest.mark.parametrize("row", CONFIGURATION, ids=lambda row: row.theirs)
def test_the_defaults_are_theirs(row: Row) -> None:
    found = checked(None, {})
    [owner] = [each for each in (found, found.session, TlsOptions()) if hasattr(each, row.ours)]
    ours = getattr(owner, row.ours)
    assert ours == in_our_units(row)
    assert type(ours) is type(in_our_units(row))
