"""Draws docs/STATE.svg from the tables of mta_front/smtp/state.py: `python -m tools.state_chart`.

The phases stand below each other in the order of their enum, which is that of a session's life. What leads to the next
phase is an arrow down; what goes on further, or back, joins a line beside the phases, one for each phase that it
leads to: on the right those forward, on the left those back. What leaves the phase as it is stands in its box.
Nothing here knows a phase or a verb by name, so new ones appear by themselves.
"""

from __future__ import annotations

import inspect
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from xml.sax.saxutils import escape

from mta_front.smtp import state
from mta_front.smtp.state import CONTINUES, HOLDS_REPLY, REFUSALS, TRANSITIONS, Phase, Verb

OUT = Path(__file__).resolve().parent.parent / "docs" / "STATE.svg"

# All in pixels. A letter of the fixed-width fonts below is 0.602 of their size wide.
FONT = 13
LETTER = FONT * 0.602
SMALL_LETTER = 11 * 0.602
LINE = 18  # from one line of text to the next
PORT = 26  # between two lines that end at the same side of a box
GAP = 54  # between two boxes
LANE = 24  # between two lines beside the boxes
MARGIN = 24
ROUND = 9
ACCEPTED, CONTINUED, REFUSED = "accepted", "continued", "refused"
TABLES = {ACCEPTED: TRANSITIONS, CONTINUED: CONTINUES, REFUSED: REFUSALS}

STYLE = """
  text { font: 13px 'DejaVu Sans Mono', Menlo, Consolas, monospace; fill: #1f2933; }
  .name { font-weight: bold; font-size: 15px; }
  .what, .stays, .legend { font-size: 11px; }
  .what, .legend { fill: #616e7c; }
  .stays { fill: #0b6e4f; }
  .held { font-style: italic; }
  rect { fill: #f5f8fc; stroke: #486581; stroke-width: 1.5; }
  .paper { fill: #ffffff; stroke: none; }
  .end { fill: #e4e7eb; }
  path { fill: none; stroke-width: 1.5; }
  .accepted { stroke: #0b6e4f; }
  .continued { stroke: #2251a3; }
  .refused { stroke: #ba2525; stroke-dasharray: 5 4; }
  text.accepted { fill: #0b6e4f; stroke: none; }
  text.continued { fill: #2251a3; stroke: none; }
  text.refused { fill: #ba2525; stroke: none; }
  .head-accepted { fill: #0b6e4f; stroke: none; }
  .head-continued { fill: #2251a3; stroke: none; }
  .head-refused { fill: #ba2525; stroke: none; }
"""


LEGEND = (
    (ACCEPTED, "our 2xx or 354 moves the session"),
    (CONTINUED, "our 334 moves it"),
    (REFUSED, "our 4xx or 5xx moves it; any other leaves it where it is; 421 closes it from everywhere"),
    ("", "↻ legal, and leaves it where it is; what is not shown at a phase is 503 there"),
    ("", '<tspan class="held">italic</tspan> the reply may wait for those to the commands behind it (RFC 2920)'),
    ("", "Drawn from mta_front/smtp/state.py by python -m tools.state_chart"),
)


@dataclass
class Track:
    """All moves of one kind to one phase from the same side: a line beside the boxes, or an arrow down."""

    kind: str
    target: Phase
    side: int  # -1: on the left, from below; 1: on the right, from above; 0: from the box just above
    sources: dict[Phase, list[Verb]] = field(default_factory=dict)
    lane: int = 0

    @property
    def span(self) -> tuple[int, int]:
        """The rows that it runs along."""
        rows = [*self.sources, self.target]
        return min(rows), max(rows)


@dataclass
class Box:
    """Where a phase stands, and what ends at its sides."""

    phase: Phase
    top: float = 0.0
    height: float = 0.0
    ports: dict[int, list[Track]] = field(default_factory=lambda: {-1: [], 1: []})

    def sort_ports(self) -> None:
        """Seen in the direction of the flow: what comes in, the nearest lane first, then what goes out, the farthest
        first. So lines cross as little as they can.
        """
        for side, ports in self.ports.items():
            ports.sort(key=lambda t: side * (t.lane - 1000 if t.target is self.phase else -t.lane))

    def port(self, track: Track) -> float:
        """The height at which a track touches the box."""
        ports = self.ports[track.side]
        first = self.top + self.height / 2 - PORT * (len(ports) - 1) / 2
        return first + PORT * ports.index(track)


def moves() -> tuple[dict[Phase, list[Verb]], list[Track]]:
    """What stays where it is, by phase; and all else as tracks."""
    stays: dict[Phase, list[Verb]] = defaultdict(list)
    tracks: dict[tuple[str, Phase, int], Track] = {}
    for kind, table in TABLES.items():
        for (number, verb), target in sorted(table.items()):
            source = Phase(number)
            if target is source:
                stays[source].append(Verb(verb))
                continue
            side = -1 if target < source else 1
            track = tracks.setdefault((kind, target, side), Track(kind, target, side))
            track.sources.setdefault(source, []).append(Verb(verb))
    for track in tracks.values():
        if len(track.sources) == 1 and min(track.sources) == track.target - 1:
            track.side = 0
    return stays, list(tracks.values())


def assign_lanes(tracks: Iterable[Track]) -> int:
    """Give each track of one side a lane of its own among those it runs along; short ones are nearest the boxes."""
    taken: list[list[Track]] = []
    for track in sorted(tracks, key=lambda t: (t.span[1] - t.span[0], t.kind, t.target)):
        low, high = track.span
        free = (lane for lane, there in enumerate(taken) if all(t.span[1] < low or t.span[0] > high for t in there))
        track.lane = next(free, len(taken))
        if track.lane == len(taken):
            taken.append([])
        taken[track.lane].append(track)
    return len(taken)


def place(stays: dict[Phase, list[Verb]], tracks: list[Track]) -> dict[Phase, Box]:
    """The boxes, each high enough for its text and for the lines that end at it."""
    boxes = {phase: Box(phase) for phase in Phase}
    for track in tracks:
        if track.side:
            for phase in (*track.sources, track.target):
                boxes[phase].ports[track.side].append(track)
    top = float(MARGIN)
    for box in boxes.values():
        box.sort_ports()
        lines = 2 + bool(stays.get(box.phase))
        ports = max(len(ports) for ports in box.ports.values())
        box.top = top
        box.height = max(lines * LINE + 16, ports * PORT + 8)
        top += box.height + GAP
    return boxes


def words(verbs: Iterable[Verb]) -> str:
    """Verbs as text; the held ones in italics."""
    return " ".join(f'<tspan class="held">{v.name}</tspan>' if v in HOLDS_REPLY else v.name for v in verbs)


def length(verbs: Iterable[Verb], letter: float = LETTER) -> float:
    """How wide that is."""
    return len(" ".join(verb.name for verb in verbs)) * letter


def descriptions() -> dict[str, str]:
    """The comments beside the phases."""
    return dict(re.findall(r"^    ([A-Z]+) = \d+  # (.+)$", inspect.getsource(state.Phase), re.MULTILINE))


def draw() -> str:
    """The picture."""
    stays, tracks = moves()
    beside = {side: [track for track in tracks if track.side == side] for side in (-1, 1)}
    lanes = {side: assign_lanes(of_side) for side, of_side in beside.items()}
    boxes = place(stays, tracks)
    room = {
        side: max((length(verbs) for track in of_side for verbs in track.sources.values()), default=0.0) + 30
        for side, of_side in beside.items()
    }
    described = max((len(text) for text in descriptions().values()), default=0) * SMALL_LETTER
    box_width = max(described, *(length(verbs, SMALL_LETTER) + 2 * LETTER for verbs in stays.values())) + 48
    left = MARGIN + lanes[-1] * LANE + room[-1]
    right = left + box_width
    width = right + room[1] + lanes[1] * LANE + MARGIN
    edges = {-1: left, 1: right}
    parts: list[str] = []
    for track in tracks:
        if track.side:
            x = edges[track.side] + track.side * (room[track.side] + (track.lane + 0.5) * LANE)
            parts += _beside(track, boxes, edges[track.side], x)
        else:
            parts += _down(track, boxes, left + box_width / 2)
    for box in boxes.values():
        parts += _box(box, stays.get(box.phase, []), left, box_width)
    bottom = max(box.top + box.height for box in boxes.values())
    parts += _legend(bottom + GAP)
    height = bottom + GAP + len(LEGEND) * LINE + MARGIN
    size = f'width="{_n(width)}" height="{_n(height)}" viewBox="0 0 {_n(width)} {_n(height)}"'
    body = "\n".join(parts)
    title = "The receiving side of SMTP and LMTP: phases, and what moves a session between them"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">\n<title>{title}</title>\n<style>{STYLE}</style>\n'
        f'<rect class="paper" width="100%" height="100%"/>\n{body}\n</svg>\n'
    )


def _box(box: Box, stays: list[Verb], left: float, width: float) -> list[str]:
    lines = [("name", box.phase.name), ("what", escape(descriptions().get(box.phase.name, "")))]
    if stays:
        lines.append(("stays", f"↻ {words(stays)}"))
    lines = [(kind, text) for kind, text in lines if text]
    middle, first = left + width / 2, box.top + box.height / 2 - LINE * (len(lines) - 1) / 2 + 4
    style = "end" if not any(phase == box.phase for phase, _ in TRANSITIONS) else "phase"
    rect = (
        f'class="{style}" x="{_n(left)}" y="{_n(box.top)}" width="{_n(width)}" height="{_n(box.height)}" rx="{ROUND}"'
    )
    return [
        f"<rect {rect}/>",
        *(
            f'<text class="{kind}" text-anchor="middle" x="{_n(middle)}" y="{_n(first + i * LINE)}">{text}</text>'
            for i, (kind, text) in enumerate(lines)
        ),
    ]


def _legend(top: float) -> list[str]:
    parts = []
    for i, (style, text) in enumerate(LEGEND):
        y = top + i * LINE
        if style:
            parts.append(f'<path class="{style}" d="M{MARGIN} {_n(y - 4)} h26"/>')
            parts.append(_head(style, MARGIN + 34, y - 4, 1, 0))
        parts.append(f'<text class="legend" x="{MARGIN + 44}" y="{_n(y)}">{text}</text>')
    return parts


def _down(track: Track, boxes: dict[Phase, Box], x: float) -> list[str]:
    ((source, verbs),) = track.sources.items()
    top, bottom = boxes[source].top + boxes[source].height, boxes[track.target].top
    return [
        f'<path class="{track.kind}" d="M{_n(x)} {_n(top)} V{_n(bottom - 8)}"/>',
        _head(track.kind, x, bottom, 0, 1),
        f'<text class="{track.kind}" x="{_n(x + 10)}" y="{_n((top + bottom) / 2 + 4)}">{words(verbs)}</text>',
    ]


def _beside(track: Track, boxes: dict[Phase, Box], edge: float, x: float) -> list[str]:
    side, end = track.side, boxes[track.target].port(track)
    anchor, near = ("start" if side > 0 else "end"), x - side * ROUND
    farthest = max(track.sources, key=lambda source: abs(boxes[source].port(track) - end))
    parts = [_head(track.kind, edge, end, -side, 0)]
    for source, verbs in track.sources.items():
        y = boxes[source].port(track)
        turn = ROUND if end > y else -ROUND
        line = f"M{_n(edge)} {_n(y)} H{_n(near)} Q{_n(x)} {_n(y)} {_n(x)} {_n(y + turn)}"
        if source is farthest:  # the others join its line
            line += f" V{_n(end - turn)} Q{_n(x)} {_n(end)} {_n(near)} {_n(end)} H{_n(edge + side * 8)}"
        at = f'text-anchor="{anchor}" x="{_n(edge + side * 12)}" y="{_n(y - 5)}"'
        parts.append(f'<path class="{track.kind}" d="{line}"/>')
        parts.append(f'<text class="{track.kind}" {at}>{words(verbs)}</text>')
    return parts


def _head(kind: str, x: float, y: float, dx: int, dy: int) -> str:
    """An arrow's head that points to (x, y)."""
    points = (
        (x, y),
        (x - dx * 10 + dy * 4.5, y - dy * 10 + dx * 4.5),
        (x - dx * 10 - dy * 4.5, y - dy * 10 - dx * 4.5),
    )
    return f'<polygon class="head-{kind}" points="{" ".join(f"{_n(a)},{_n(b)}" for a, b in points)}"/>'


def _n(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")


if __name__ == "__main__":
    OUT.write_text(draw(), "utf-8")
