"""`mta-front queue`: what waits, why, and a hand in it.

It talks to the store itself, also to the embedded one of a running server. Exit codes: 0; 64 for what is no id, time or
state; 65 when there was no such message, a relay has it in hand, or the doctor found what it did not mend; 69 when the
store does not answer; 78 for settings.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mta_front.commandline import Exit, FileOption, load_settings, refuse, settings_file

if TYPE_CHECKING:
    from mta_front.store.inspection import Letter, QueueInspector, Wanted

queue_app = typer.Typer(
    help="The queue: what waits, why, and a hand in it.", no_args_is_help=True, rich_markup_mode=None
)
dead_app = typer.Typer(help="Dead letters: mail that was given up.", no_args_is_help=True, rich_markup_mode=None)
queue_app.add_typer(dead_app, name="dead")

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_STATES = ("waiting", "deferred", "in-hand")

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, times in Unix seconds.")]
CountOption = Annotated[int, typer.Option("-n", "--count", metavar="N", min=1, max=10_000, help="How many at most.")]
CursorOption = Annotated[str, typer.Option("--cursor", metavar="CURSOR", help="Where the last page ended.")]
SenderOption = Annotated[str, typer.Option("--sender", metavar="TEXT", help="Part of the sender's address.")]
RecipientOption = Annotated[str, typer.Option("--recipient", metavar="TEXT", help="Part of a recipient's address.")]
NextHopOption = Annotated[str, typer.Option("--next-hop", metavar="TEXT", help="Part of a next hop that was tried.")]
OlderOption = Annotated[str, typer.Option("--older", metavar="TIME", help="Older than this, as in 90s, 30m, 12h, 7d.")]
StateOption = Annotated[str, typer.Option("--state", metavar="STATE", help="waiting, deferred or in-hand.")]
AllOption = Annotated[bool, typer.Option("--all", help="All of them that the filters take, instead of IDs.")]
IdsArgument = Annotated[
    list[str] | None, typer.Argument(metavar="ID…", help="Ids, as in 250 2.0.0 queued as ID.", show_default=False)
]
IdArgument = Annotated[str, typer.Argument(metavar="ID", help="As in 250 2.0.0 queued as ID.", show_default=False)]


@queue_app.command("list")
def list_(
    config: FileOption = None,
    sender: SenderOption = "",
    recipient: RecipientOption = "",
    next_hop: NextHopOption = "",
    older: OlderOption = "",
    state: StateOption = "",
    count: CountOption = 100,
    cursor: CursorOption = "",
    as_json: JsonOption = False,
) -> None:
    """List messages in the queue, the oldest first, a page at a time."""
    _list(config, _wanted(sender, recipient, next_hop, older, state), cursor, count, as_json, dead=False)


@dead_app.command("list")
def list_dead(
    config: FileOption = None,
    sender: SenderOption = "",
    recipient: RecipientOption = "",
    older: OlderOption = "",
    count: CountOption = 100,
    cursor: CursorOption = "",
    as_json: JsonOption = False,
) -> None:
    """List dead letters, the oldest first, a page at a time."""
    _list(config, _wanted(sender, recipient, "", older, ""), cursor, count, as_json, dead=True)


@queue_app.command()
def show(message_id: IdArgument, config: FileOption = None, as_json: JsonOption = False) -> None:
    """Show a message, or a dead letter: envelope, header, and what became of each attempt."""
    from mta_front.queue_text import details

    with _inspecting(config) as inspector:
        letter = inspector.find(message_id) or inspector.find(message_id, dead=True)
        header = inspector.header(letter) if letter else ""
    if letter is None:
        refuse([f"{message_id}: there is no such message"], Exit.DATAERR)
    print(json.dumps(letter.as_json() | {"header": header}) if as_json else details(letter, header, time.time()))


@queue_app.command()
def retry(
    ids: IdsArgument = None,
    every: AllOption = False,
    config: FileOption = None,
    sender: SenderOption = "",
    recipient: RecipientOption = "",
    next_hop: NextHopOption = "",
) -> None:
    """Try deferred messages now."""
    wanted = _wanted(sender, recipient, next_hop, "", "deferred")
    _each(config, ids, every, wanted, "due now", lambda inspector, letter: bool(inspector.retry([letter])))


@queue_app.command()
def bury(
    ids: IdsArgument = None,
    every: AllOption = False,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why.")] = "buried by hand",
    config: FileOption = None,
    sender: SenderOption = "",
    recipient: RecipientOption = "",
    next_hop: NextHopOption = "",
) -> None:
    """Make dead letters of messages; their senders are not told."""
    wanted = _wanted(sender, recipient, next_hop, "", "")
    _each(config, ids, every, wanted, "buried", lambda inspector, letter: inspector.bury(letter, reason))


@queue_app.command()
def drop(
    ids: IdsArgument = None,
    every: AllOption = False,
    config: FileOption = None,
    sender: SenderOption = "",
    recipient: RecipientOption = "",
    next_hop: NextHopOption = "",
) -> None:
    """Throw messages away. Nobody is told."""
    wanted = _wanted(sender, recipient, next_hop, "", "")
    _each(config, ids, every, wanted, "dropped", lambda inspector, letter: inspector.drop(letter))


@dead_app.command("replay")
def replay(
    ids: IdsArgument = None,
    every: AllOption = False,
    config: FileOption = None,
    sender: SenderOption = "",
    recipient: RecipientOption = "",
) -> None:
    """Put dead letters back into the queue, for those who did not get them, as if they had come now."""
    wanted = _wanted(sender, recipient, "", "", "")
    _each(config, ids, every, wanted, "queued", lambda inspector, letter: inspector.replay(letter), dead=True)


@dead_app.command("drop")
def drop_dead(
    ids: IdsArgument = None,
    every: AllOption = False,
    config: FileOption = None,
    sender: SenderOption = "",
    recipient: RecipientOption = "",
) -> None:
    """Throw dead letters away."""
    wanted = _wanted(sender, recipient, "", "", "")
    _each(config, ids, every, wanted, "dropped", lambda inspector, letter: inspector.drop(letter), dead=True)


@queue_app.command()
def stats(config: FileOption = None, as_json: JsonOption = False) -> None:
    """How many messages there are, by shard, and how old the oldest one is."""
    from mta_front.queue_text import counts_table

    with _inspecting(config) as inspector:
        found = inspector.stats()
    print(json.dumps({"shards": found}) if as_json else counts_table(found))


@queue_app.command()
def doctor(
    fix: Annotated[bool, typer.Option("--fix", help="Mend what is found.")] = False,
    config: FileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Look for what nobody would ever deliver or free: stranded and stuck messages, orphans, marks without messages."""
    from dataclasses import asdict

    from mta_front.inspecting import examine
    from mta_front.queue_text import progress_bar

    with _inspecting(config) as inspector:
        total = int(sum(counts["length"] for counts in inspector.stats()))
        with progress_bar(total) as advance:
            found = list(examine(inspector, fix, progress=advance))
    if as_json:
        print(json.dumps({"findings": [asdict(one) for one in found]}))
    else:
        for one in found:
            print(f"{one.kind}: {one.what}{' (mended)' if one.mended else ''}")
        print(f"{total} messages, {len(found)} faults", file=sys.stderr)
    if not all(one.mended for one in found):
        raise typer.Exit(Exit.DATAERR)


# ----------------------------------------------------------------------------------------------------------------------


def _list(config: Path | None, wanted: Wanted, cursor: str, count: int, as_json: bool, dead: bool) -> None:
    from mta_front.queue_text import letters_table

    with _inspecting(config) as inspector:
        page = inspector.page(wanted, cursor, count, dead)
    if as_json:
        print(json.dumps({"items": [letter.as_json() for letter in page.letters], "cursor": page.cursor}))
        return
    print(letters_table(page.letters, time.time()))
    if page.cursor:
        print(f"there is more: --cursor '{page.cursor}'", file=sys.stderr)


def _each(
    config: Path | None,
    ids: Sequence[str] | None,
    every: bool,
    wanted: Wanted,
    done: str,
    change: Callable[[QueueInspector, Letter], bool],
    dead: bool = False,
) -> None:
    """Do something with messages that are named, or with all that are wanted."""
    if bool(ids) == every:
        refuse(["name the messages, or say --all"], Exit.USAGE)
    faults = []
    count = 0
    with _inspecting(config) as inspector:
        letters: Iterator[tuple[str, Letter | None]]
        if every:
            letters = ((letter.id, letter) for letter in list(inspector.every(wanted, dead)))
        else:
            letters = ((one, inspector.find(one, dead)) for one in ids or ())
        for message_id, letter in letters:
            if letter is None:
                faults.append(f"{message_id}: there is no such {'dead letter' if dead else 'message'}")
            elif change(inspector, letter):
                count += 1
            elif not every:
                faults.append(f"{message_id}: not {done}; it is {letter.state}")
    print(f"{count} {done}")
    if faults:
        refuse(faults, Exit.DATAERR)


def _wanted(sender: str, recipient: str, next_hop: str, older: str, state: str) -> Wanted:
    from mta_front.inspecting import Wanted

    found = re.fullmatch(r"([0-9]{1,9})([smhd])", older)
    if older and not found:
        raise typer.BadParameter("must be a time like 90s, 30m, 12h or 7d", param_hint="--older")
    if state and state not in _STATES:
        raise typer.BadParameter(f"must be one of {', '.join(_STATES)}", param_hint="--state")
    older_s = float(int(found[1]) * _UNITS_S[found[2]]) if found else 0.0
    return Wanted(sender, recipient, next_hop, state.replace("-", " "), older_s)


@contextmanager
def _inspecting(config: Path | None) -> Iterator[Any]:
    """An inspector of the store that these settings name; ends the process when it cannot do its work."""
    settings = load_settings(settings_file(config), {}).settings
    from mta_front.inspecting import AWAY, queue_inspector

    try:
        with queue_inspector(settings) as inspector:
            yield inspector
    except AWAY as error:
        refuse([f"the store: {error}"], Exit.UNAVAILABLE)
    except ValueError as error:
        refuse([str(error)], Exit.USAGE)
