"""docs/migrating.md names only what exists, and forgets nothing that the seeds have."""

from __future__ import annotations

import re
from dataclasses import fields
from typing import Any

import pytest

import mta_front
from mta_front.arguments import RENAMED, Options
from mta_front.bounds import snake_case
from mta_front.hooks import HOOKS, Address, Credentials, Envelope, Message, Session
from tests.library.seeds import CONFIGURATION, CREDENTIALS, Row
from tests.processes import ROOT

TEXT = (ROOT / "docs" / "migrating.md").read_text("utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in re.findall(r"^\|.*\|$", TEXT, re.MULTILINE)
    if not line.startswith(("|---", "| theirs"))
]

FIELDS = {
    "session": {each.name for each in fields(Session)},
    "envelope": {each.name for each in fields(Envelope)},
    "address": set(dir(Address)),
    "message": set(dir(Message)),
    "credentials": set(dir(Credentials)),
}
NAMES = {*Options.__annotations__, *HOOKS, *dir(mta_front.SMTPServer), *mta_front.__all__, "message"}


def exists(name: str) -> bool:
    """Whether a name of our column is there: an option, a hook, a method, an exported class, `session.field`."""
    owner, dot, field = name.partition(".")
    return field in FIELDS[owner] if dot else name in NAMES


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0].strip("`"))
def test_our_column_names_what_exists(row: list[str]) -> None:
    assert len(row) in (2, 3), row
    ours = row[1]
    names = re.findall(r"`([^`]+)`", ours)
    if ours == "–":
        return
    assert names, f"nothing of ours in {row}"
    assert [name for name in names if not exists(name)] == []


def test_each_option_of_the_seeds_is_there() -> None:
    theirs = {name for row in ROWS for name in re.findall(r"`(\w+)`", row[0])}
    assert {row.theirs for row in CONFIGURATION} - theirs == set()
    assert [row.theirs for row in CREDENTIALS if f"`auth.{row.theirs}" not in TEXT] == []


@pytest.mark.parametrize("row", CONFIGURATION, ids=lambda row: row.theirs)
def test_an_option_in_their_spelling_is_answered_with_ours(row: Row) -> None:
    if row.theirs == row.ours:
        return
    assert RENAMED.get(snake_case(row.theirs), snake_case(row.theirs)) == row.ours
    given: dict[str, Any] = {row.theirs: None}
    with pytest.raises(TypeError, match=f"did you mean '{row.ours}'"):
        mta_front.SMTPServer(**given)


def test_no_name_of_others_leads_nowhere() -> None:
    assert set(RENAMED.values()) <= {*Options.__annotations__, "hooks"}
    assert not set(RENAMED) & set(Options.__annotations__)
