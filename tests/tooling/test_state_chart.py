"""docs/STATE.svg shows the tables of the state machine as they are."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from mta_front.smtp.state import TRANSITIONS, Phase, Verb
from tools import state_chart

SVG = "{http://www.w3.org/2000/svg}"


def test_the_picture_is_drawn_from_the_tables_of_now() -> None:
    assert state_chart.OUT.read_text("utf-8") == state_chart.draw(), "draw it anew: python -m tools.state_chart"


def test_it_shows_each_phase_and_each_move() -> None:
    texts: dict[str, list[str]] = {}
    for text in ET.fromstring(state_chart.draw()).iter(f"{SVG}text"):
        texts.setdefault(text.attrib["class"], []).append("".join(text.itertext()))
    assert texts["name"] == [phase.name for phase in Phase]
    for kind, table in state_chart.TABLES.items():
        moving = [Verb(verb).name for (phase, verb), target in table.items() if phase != target]
        assert sorted(" ".join(texts[kind]).split()) == sorted(moving)
    staying = [Verb(v).name for table in state_chart.TABLES.values() for (phase, v), to in table.items() if phase == to]
    assert sorted(" ".join(texts["stays"]).replace("↻", "").split()) == sorted(staying)


@pytest.mark.parametrize(
    ("pair", "target"),
    [
        ((Phase.MAIL, Verb.DATA), Phase.CHUNKS),
        ((Phase.GREETING, Verb.QUIT), Phase.CLOSED),
        ((Phase.BODY, Verb.NOOP), Phase.BODY),
    ],
)
def test_another_row_of_the_table_is_another_picture(
    monkeypatch: pytest.MonkeyPatch, pair: tuple[int, int], target: Phase
) -> None:
    before = state_chart.draw()
    monkeypatch.setitem(TRANSITIONS, pair, target)
    assert state_chart.draw() != before
    monkeypatch.delitem(TRANSITIONS, pair)
    assert state_chart.draw() == before
