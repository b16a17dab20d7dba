"""What is counted, as text for people and as JSON."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from mta_front.observe.log import printable
from mta_front.store.limits.items import Ban, Count, Item, Lockout

WIDE = 1000
"""Columns where nobody looks at a screen: no row is broken or cut."""

_COLUMNS: dict[type[Item], tuple[str, ...]] = {
    Ban: ("SUBJECT", "BANNED", "ENDS IN", "REASON"),
    Lockout: ("SUBJECT", "LOCKED OUT", "ENDS IN", "TIME"),
    Count: ("RULE", "KEY", "LISTENER", "USED", "LIMIT", "FREE IN"),
}


def as_json(item: Item) -> dict[str, Any]:
    """A ban, a lock-out or a count, with its kind."""
    return {"kind": type(item).__name__.lower()} | asdict(item)


def tables_of(items: Sequence[Item], now: float) -> Iterator[str]:
    """A table for each kind of thing among the items; "nothing" when there is none. `now`: Unix time in seconds."""
    if not items:
        yield "nothing"
    for kind, columns in _COLUMNS.items():
        rows = [_row(item, now) for item in items if isinstance(item, kind)]
        if rows:
            yield table_of(columns, rows)


def _row(item: Item, now: float) -> tuple[str, ...]:
    match item:
        case Ban():
            return item.subject, item.key, duration(item.ends_at - now), item.reason
        case Lockout():
            return item.subject, item.key, duration(item.ends_at - now), f"{item.stage}."
        case Count():
            ends = duration(item.ends_at - now) if item.ends_at else "-"
            return item.rule, item.key or "-", item.scope or "-", f"{item.used:g}", item.limit or "-", ends


def duration(seconds: float) -> str:
    """1d02h, 3h05m, 4m10s, 9s."""
    left = max(0, round(seconds))
    for size, unit, smaller, smaller_unit in ((86_400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if left >= size:
            return f"{left // size}{unit}{left % size // smaller:02}{smaller_unit}"
    return f"{left}s"


def table_of(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows under their heads. Control characters are escaped: keys and reasons come from the network."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    on_screen = sys.stdout.isatty()
    console = Console(file=io.StringIO(), width=None if on_screen else WIDE, force_terminal=on_screen)
    console.print(table)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return "\n".join(line.rstrip() for line in text.splitlines())
