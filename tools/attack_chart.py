"""Draws docs/limits-attack.svg from docs/limits-attack.json: `python -m tools.attack_chart`.

With `--play` the attack is played anew first (40 s, needs redis-server): what it came to goes into the JSON, and from
there into the picture and, by hand, into docs/limits.md. The story is in tests/limits/attack.py.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from tests.limits.attack import Result, Sample, attack, read

DOCS = Path(__file__).resolve().parent.parent / "docs"
DATA = DOCS / "limits-attack.json"
OUT = DOCS / "limits-attack.svg"

# All in pixels.
WIDTH, HEIGHT = 760, 420
LEFT, RIGHT, TOP, BOTTOM = 70, 130, 30, 130
STEPS = 4  # of each axis

STYLE = """
  text { font: 13px 'DejaVu Sans', Verdana, sans-serif; fill: #1f2933; }
  .tick { font-size: 11px; fill: #616e7c; }
  .paper { fill: #ffffff; }
  .grid { stroke: #e4e7eb; stroke-width: 1; }
  path { fill: none; stroke-width: 2.5; }
  .made { stroke: #ba2525; }
  .tested { stroke: #2251a3; }
  text.made { fill: #ba2525; stroke: none; }
  text.tested { fill: #2251a3; stroke: none; }
"""


def sentences(result: Result) -> list[str]:
    """What became of it, in words: below the picture, and in docs/limits.md."""
    minutes = result.duration_s / 60
    attackers = f"{result.addresses:,} addresses at {result.users} users"
    known = f"{result.known:,} logins from known addresses, {result.known_refused} refused"
    new = f"{result.new} first visits from new ones, {result.new_refused} refused"
    return [
        f"{result.guesses:,} guesses from {attackers} in {minutes:.0f} minutes.",
        f"{result.tested:,} of them were tested against a password, {result.through} were right.",
        f"Meanwhile {known}; {new}.",
        f"{result.new_delayed} of these were answered late, by at most {result.new_delay_s:.0f} s.",
    ]


def draw(result: Result) -> str:
    """The picture."""
    parts = [f'<rect class="paper" width="{WIDTH}" height="{HEIGHT}"/>']
    for step in range(STEPS + 1):
        share = step / STEPS
        x, y, minutes = _x(share), _y(share), share * result.duration_s / 60
        parts += [
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>',
            f'<text class="tick" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{share * result.guesses:,.0f}</text>',
            f'<text class="tick" x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{minutes:.0f} min</text>',
        ]
    for kind, text in (("made", "guesses made"), ("tested", "tested")):
        points = [(_x(0.0), _y(0.0)), *(_point(sample, kind, result) for sample in result.samples)]
        line = " L ".join(f"{x:.1f} {y:.1f}" for x, y in points)
        parts.append(f'<path class="{kind}" d="M {line}"/>')
        parts.append(f'<text class="{kind}" x="{WIDTH - RIGHT + 8}" y="{points[-1][1] + 4:.1f}">{text}</text>')
    for number, sentence in enumerate(sentences(result)):
        parts.append(f'<text class="what" x="{LEFT - 50}" y="{HEIGHT - BOTTOM + 50 + 20 * number}">{sentence}</text>')
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}">\n'
        f"<style>{STYLE}</style>\n{body}\n</svg>\n"
    )


def _point(sample: Sample, kind: str, result: Result) -> tuple[float, float]:
    count = sample.guesses if kind == "made" else sample.tested
    return _x(min(1.0, sample.at_s / result.duration_s)), _y(count / result.guesses)


def _x(share: float) -> float:
    return LEFT + share * (WIDTH - LEFT - RIGHT)


def _y(share: float) -> float:
    return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)


def main() -> None:
    """Draw, after playing when asked to."""
    parser = argparse.ArgumentParser(prog="python -m tools.attack_chart")
    parser.add_argument("--play", action="store_true", help="play the attack anew first")
    if parser.parse_args().play:
        from tests.stores import Store

        with tempfile.TemporaryDirectory() as directory:
            store = Store("redis", Path(directory, "redis"), appendfsync="no").start()
            try:
                attack(Path(directory), store.socket, 300.0)
                DATA.write_bytes(Path(directory, "attack.json").read_bytes())
            finally:
                store.end()
    result = read(DATA)
    OUT.write_text(draw(result), "utf-8")
    print(OUT, *sentences(result), sep="\n")


if __name__ == "__main__":
    main()
