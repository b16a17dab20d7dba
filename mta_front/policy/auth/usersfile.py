"""The users file: one user on each line. Pure.

    # a comment
    ann:{ARGON2ID}$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$…
    bob@example.net:{SCRAM-SHA-256}15000,c2FsdHNhbHQ=,…,…:bob@example.net,sales@example.net,*@lists.example.net

A name, its password as in `hashing`, and perhaps the addresses that the user may send as (patterns of `authority`,
between commas; none = not listed). Names are compared exactly, after SASLprep. A line of Dovecot's passwd-file is taken
too (`name:{SCHEME}hash:uid:gid::home::extra`), unless its extra fields restrict something (`nologin`, `allow_nets`):
what we would not honour is a fault. `mta-front passwd` writes such files.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from mta_front.policy.auth import hashing
from mta_front.policy.auth.authority import check_pattern
from mta_front.policy.auth.hashing import Password
from mta_front.smtp.saslprep import prepared_name

DOVECOT_FIELDS = 8


@dataclass(frozen=True, slots=True)
class Entry:
    """One user; `line` is its number in the file."""

    name: str
    password: Password = field(repr=False)
    addresses: tuple[str, ...] = ()
    line: int = 0

    def text(self) -> str:
        """As a line of the file, without its end. Holds the hash."""
        return ":".join([self.name, self.password.stored(), *([",".join(self.addresses)] if self.addresses else [])])


@dataclass(frozen=True, slots=True)
class Users:
    """What a file says. `faults`: one line for each wrong line, which names file and line and shows nothing secret."""

    entries: dict[str, Entry]
    faults: tuple[str, ...] = ()


def parse(text: str, where: str) -> Users:
    """Read a whole file; `where` is its name, for faults."""
    entries: dict[str, Entry] = {}
    faults: list[str] = []
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.removesuffix("\r")
        if not line.strip() or line.startswith("#"):
            continue
        try:
            entry = parse_line(line, number)
            if entry.name in entries:
                raise ValueError(f"{entry.name} stands in line {entries[entry.name].line} already")
            entries[entry.name] = entry
        except ValueError as error:
            faults.append(f"{where}:{number}: {error}")
    return Users(entries, tuple(faults))


def parse_line(line: str, number: int = 0) -> Entry:
    """One user. Raises ValueError, without anything of the line but the user's name and scheme."""
    name, colon, rest = line.partition(":")
    if not colon:
        raise ValueError("must be NAME:{SCHEME}HASH or NAME:{SCHEME}HASH:ADDRESS,ADDRESS")
    name = check_name(name)
    # RFC 5803's form of SCRAM keys has colons in it
    match = re.match(r"\{SCRAM-SHA-256\}SCRAM-SHA-256\$[^:]*:[^:]*:[^:]*", rest, re.IGNORECASE)
    stored, _, rest = (match[0], "", rest[match.end() + 1 :]) if match else rest.partition(":")
    try:
        password = hashing.parse(stored)
    except ValueError as error:
        raise ValueError(f"the password of {name} {error}") from None
    return Entry(name, password, _addresses(name, rest), number)


def check_name(name: str) -> str:
    """The name, prepared (RFC 4013). Raises ValueError for what no client could say or no line could hold."""
    prepared = prepared_name(name)
    if not prepared or ":" in prepared or prepared[0] == "#" or prepared != prepared.strip():
        raise ValueError("the name must not be empty, nor have ':', control characters, a '#' or spaces at its ends")
    return prepared


def parse_addresses(text: str) -> tuple[str, ...]:
    """Patterns between commas. Raises ValueError."""
    return tuple(check_pattern(part) for part in map(str.strip, text.split(",")) if part)


def _addresses(name: str, rest: str) -> tuple[str, ...]:
    fields = rest.split(":", DOVECOT_FIELDS - 3)
    if len(fields) == 1:
        try:
            return parse_addresses(rest)
        except ValueError:
            raise ValueError(f'an address of {name} must be like "a@example.net", "*@example.net" or "*"') from None
    if len(fields) != DOVECOT_FIELDS - 2 or not all(re.fullmatch(r"\d*", number) for number in fields[:2]):
        raise ValueError(f"after the password of {name} come addresses, or the six other fields of Dovecot")
    extra = [word.partition("=")[0] for word in fields[-1].split()]
    restricting = [word for word in extra if not word.startswith("userdb_")]
    if restricting:
        shown = ", ".join(word if re.fullmatch(r"[a-z_]{1,32}", word) else "…" for word in restricting)
        raise ValueError(f"{name} has extra fields of Dovecot that would not be honoured: {shown}")
    return ()


def replaced(text: str, name: str, line: str | None) -> str:
    """The text of a file with the line of the user `name` replaced by `line`, added at its end, or (None) removed.

    All other lines stay as they are and where they are. Raises KeyError when there is nobody to remove.
    """
    lines = [each + "\n" for each in text.split("\n")]
    if lines[-1] == "\n":
        lines.pop()
    at = [number for number, each in enumerate(lines) if _is_of(each, name)]
    if line is None:
        if not at:
            raise KeyError(name)
        return "".join(_without(lines, at))
    if not at:
        return "".join([*lines, line + "\n"])
    lines[at[0]] = line + "\n"
    return "".join(_without(lines, at[1:]))


def _is_of(line: str, name: str) -> bool:
    return not line.startswith("#") and prepared_name(line.partition(":")[0]) == name


def _without(lines: list[str], numbers: Iterable[int]) -> list[str]:
    gone = set(numbers)
    return [line for number, line in enumerate(lines) if number not in gone]
