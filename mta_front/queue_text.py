"""Messages of the queue as text for people."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mta_front.limits_text import duration, table_of
from mta_front.observe.log import printable

if TYPE_CHECKING:
    from mta_front.store.inspection import Letter

LONG = 1000
"""So many messages are worth a progress bar."""


def letters_table(letters: Sequence[Letter], now: float) -> str:
    """A line for each; "nothing" when there is none. `now`: Unix time in seconds."""
    if not letters:
        return "nothing"
    rows = []
    for letter in letters:
        envelope = letter.envelope
        recipients = envelope.rcpt_to if envelope else []
        more = f" +{len(recipients) - 1}" if len(recipients) > 1 else ""
        rows.append(
            (
                letter.id,
                letter.state,
                duration(now - (envelope.received_at if envelope else letter.entered_at)),
                str(letter.size_bytes),
                duration(letter.until - now) if letter.until else "",
                f"<{envelope.mail_from}>" if envelope else "unreadable",
                f"{recipients[0]}{more}" if recipients else "",
                letter.reason,
            )
        )
    return table_of(("ID", "STATE", "AGE", "OCTETS", "UNTIL", "SENDER", "RECIPIENTS", "REASON"), rows)


def counts_table(shards: Sequence[Mapping[str, float]]) -> str:
    """How the shards stand."""
    rows = [
        (
            str(shard),
            *(f"{counts[name]:.0f}" for name in ("length", "later", "leased", "dead")),
            duration(counts["oldest_age_s"]),
        )
        for shard, counts in enumerate(shards)
    ]
    return table_of(("SHARD", "MESSAGES", "DEFERRED", "IN HAND", "DEAD", "OLDEST"), rows)


def details(letter: Letter, header: str, now: float) -> str:
    """All of one message but its body."""
    envelope = letter.envelope
    lines = [f"{letter.id}  {letter.state}, entry {letter.entry_id} of shard {letter.shard}"]
    if letter.until:
        lines.append(f"until in {duration(letter.until - now)}, after {letter.attempts} deferrals")
    if letter.reason:
        lines.append(f"reason: {letter.reason}")
    if envelope is None:
        lines.append("its envelope cannot be read")
    else:
        lines.append(f"from <{envelope.mail_from}> by {envelope.listener} {envelope.user or envelope.client_address}")
        lines.append(f"{duration(now - envelope.received_at)} old, {envelope.size_bytes} octets, {envelope.body_type}")
        lines += [f"to {one}: {letter.settled.get(one, 'not yet')}" for one in envelope.rcpt_to]
    lines += ["", *header.split("\r\n")] if header else ["", "the message has no header, or is lost"]
    for one in letter.history:
        said = f"{one.get('code') or ''} {one.get('text', '')}".strip()
        ago = duration(now - float(one.get("at") or now))
        lines.append(f"{ago} ago: {one.get('recipient')} {one.get('outcome')} by {one.get('next_hop')}: {said}")
    return "\n".join(printable(line) for line in lines)


@contextmanager
def progress_bar(total: int) -> Iterator[Callable[[int], None]]:
    """Shows on a screen how far a long work is: what it yields is told how many are done."""
    if total < LONG or not sys.stderr.isatty():
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("messages", total=total)
        yield lambda done: progress.update(task, completed=done)
