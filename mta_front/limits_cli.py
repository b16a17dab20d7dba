"""`mta-front limits`: what the fleet counts, who is banned or locked out, bans made and lifted.

It talks to the Redis of the limits itself, also to the embedded one of a running server. Exit codes: 0; 64 for what is
no address, user, group or time; 65 when there was no such ban; 69 when that Redis does not answer; 78 for settings.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from mta_front.commandline import Exit, FileOption, load_settings, refuse, settings_file

if TYPE_CHECKING:
    from mta_front.store.limits.admin import Inspector
    from mta_front.store.limits.items import Item

limits_app = typer.Typer(
    help="Limits of the fleet: what is counted, who is banned.", no_args_is_help=True, rich_markup_mode=None
)

BAN_MAX_S = 10 * 365 * 86_400
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, times in Unix seconds.")]
CountOption = Annotated[int, typer.Option("-n", "--count", metavar="N", min=1, max=1000, help="How many at most.")]
UserOption = Annotated[bool, typer.Option("--user", help="KEY is the name of a user, whatever it looks like.")]
GroupArgument = Annotated[
    str,
    typer.Argument(
        metavar="GROUP",
        help="bans, lockouts, connections, connection_rate, messages, recipients, bytes, failed_commands, handshakes or"
        " auth_failures.",
    ),
]
KeyArgument = Annotated[
    str, typer.Argument(metavar="KEY", help="An address, a network like 192.0.2.0/24, or a user.", show_default=False)
]


@limits_app.command("list")
def list_(
    group: GroupArgument = "bans",
    config: FileOption = None,
    count: CountOption = 100,
    cursor: Annotated[str, typer.Option("--cursor", metavar="CURSOR", help="Where the last page ended.")] = "",
    as_json_: JsonOption = False,
) -> None:
    """List bans, lock-outs, or what a group counts, a page at a time."""
    with _inspecting(config) as inspector:
        page = inspector.page(cast("Any", group), cursor, count)
        _print(page.items, as_json_, cursor=page.cursor)
    if page.cursor and not as_json_:
        print(f"there is more: --cursor {page.cursor}", file=sys.stderr)


@limits_app.command()
def top(
    group: GroupArgument = "connections",
    config: FileOption = None,
    count: CountOption = 10,
    as_json_: JsonOption = False,
) -> None:
    """Who uses most of what a group counts."""
    with _inspecting(config) as inspector:
        _print(inspector.top(cast("Any", group), count), as_json_)


@limits_app.command()
def show(key: KeyArgument, config: FileOption = None, as_json_: JsonOption = False) -> None:
    """Show all that is counted of an address, a network or a user."""
    with _inspecting(config) as inspector:
        _print(inspector.show(key), as_json_)


@limits_app.command()
def ban(
    key: KeyArgument,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for whoever asks.", show_default=False)],
    length: Annotated[str, typer.Option("--for", metavar="TIME", help="How long, as in 90s, 30m, 12h or 7d.")] = "1h",
    user: UserOption = False,
    config: FileOption = None,
    as_json_: JsonOption = False,
) -> None:
    """Refuse an address, a network or a user for some time, at once and in the whole fleet."""
    seconds = _seconds(length)
    with _inspecting(config) as inspector:
        made = inspector.ban(_subject(key, user), key, reason, seconds)
        _print([made], as_json_)
        if made.subject == "address" and inspector.exempts(made.key):
            print(f"{key}: is in exempt of [limits], so that this ban refuses nobody", file=sys.stderr)


@limits_app.command()
def unban(key: KeyArgument, user: UserOption = False, config: FileOption = None, as_json_: JsonOption = False) -> None:
    """Lift a ban."""
    with _inspecting(config) as inspector:
        found = inspector.unban(_subject(key, user), key)
    if as_json_:
        print(json.dumps({"found": found}))
    if not found:
        refuse([] if as_json_ else [f"{key}: there is no such ban"], Exit.DATAERR)


@contextmanager
def _inspecting(config: Path | None) -> Iterator[Inspector]:
    """An inspector of the limits that these settings name; ends the process when it cannot do its work."""
    settings = load_settings(settings_file(config), {}).settings
    from mta_front.inspecting import AWAY, inspector_of, options_of

    try:
        with inspector_of(options_of(settings)) as inspector:
            yield inspector
    except AWAY as error:
        refuse([f"the limits' Redis: {error}"], Exit.UNAVAILABLE)
    except ValueError as error:
        refuse([str(error)], Exit.USAGE)


def _subject(key: str, user: bool) -> Any:
    """What KEY is: a user, unless it is an address or a network."""
    from mta_front.settings.values import parse_network

    if user:
        return "user"
    try:
        parse_network(key)
    except ValueError:
        return "address" if re.fullmatch(r"[0-9a-fA-F.:]+(/[0-9]+)?", key) and re.search(r"[.:/]", key) else "user"
    return "address"


def _seconds(text: str) -> float:
    found = re.fullmatch(r"([0-9]{1,9})([smhd])", text)
    seconds = int(found[1]) * _UNITS_S[found[2]] if found else 0
    if not 1 <= seconds <= BAN_MAX_S:
        raise typer.BadParameter("must be a time like 90s, 30m, 12h or 7d, up to 3650d", param_hint="--for")
    return float(seconds)


def _print(items: Sequence[Item], json_wanted: bool, **more: Any) -> None:
    from mta_front.limits_text import as_json, tables_of

    if json_wanted:
        print(json.dumps({"items": [as_json(item) for item in items], **more}))
        return
    for table in tables_of(items, time.time()):
        print(table)
