"""docs/limits-attack.svg and docs/limits.md show what docs/limits-attack.json holds."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace

from tests.limits.attack import read
from tools import attack_chart

SVG = "{http://www.w3.org/2000/svg}"


def test_the_picture_is_drawn_from_the_figures() -> None:
    drawn = attack_chart.draw(read(attack_chart.DATA))
    assert attack_chart.OUT.read_text("utf-8") == drawn, "draw it anew: python -m tools.attack_chart"


def test_the_document_has_the_same_figures() -> None:
    text = (attack_chart.DOCS / "limits.md").read_text("utf-8")
    for sentence in attack_chart.sentences(read(attack_chart.DATA)):
        assert sentence in text


def test_it_shows_what_became_of_it() -> None:
    result = read(attack_chart.DATA)
    texts = [text.text for text in ET.fromstring(attack_chart.draw(result)).iter(f"{SVG}text")]
    assert texts[-4:] == attack_chart.sentences(result)
    assert attack_chart.draw(replace(result, tested=result.tested + 1)) != attack_chart.draw(result)
