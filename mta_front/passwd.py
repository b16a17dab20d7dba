"""What `mta-front passwd` does: make a password's hash, and put it into a users file.

The file is replaced in one step, and has mode 0600 if it is new; an old one keeps its owner and its mode, but for what
others may do. Comments and the order of lines stay. Two who change the file at the same time wait for each other.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from getpass import getpass
from pathlib import Path
from typing import TextIO

from mta_front.policy.auth import usersfile
from mta_front.policy.auth.hashing import Argon2id, Bcrypt, Password, Plain, Scram, Scrypt
from mta_front.policy.auth.usersfile import Entry

SCHEMES: dict[str, type[Password]] = {
    "argon2id": Argon2id,
    "scrypt": Scrypt,
    "bcrypt": Bcrypt,
    "scram-sha-256": Scram,
    "plain": Plain,
}
DEFAULT_SCHEME = "argon2id"
MAX_PASSWORD_CHARS = 1024


class PasswdError(Exception):
    """One line for the user, without a password. `code`: the exit code (sysexits.h)."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.code = code


USAGE, NOUSER, CANTCREAT, CONFIG = 64, 67, 73, 78


def line_of(name: str, password: str, scheme: str = DEFAULT_SCHEME, addresses: Sequence[str] = ()) -> str:
    """The line of a users file for this user. Slow, as hashing is meant to be. Raises `PasswdError`."""
    kind = SCHEMES.get(scheme.lower())
    if kind is None:
        raise PasswdError(f"unknown scheme {scheme}; known are {', '.join(SCHEMES)}", USAGE)
    if not password or len(password) > MAX_PASSWORD_CHARS or any(char in password for char in "\0\r\n"):
        raise PasswdError(f"the password must have 1 to {MAX_PASSWORD_CHARS} characters, all in one line", USAGE)
    if kind is Plain and ":" in password:
        raise PasswdError("a plain password with a colon does not fit into a users file", USAGE)
    try:
        name = usersfile.check_name(name)
        checked = tuple(each for text in addresses for each in usersfile.parse_addresses(text))
        return Entry(name, kind.of(password), checked).text()
    except ValueError as error:
        raise PasswdError(str(error), USAGE) from None


def set_user(file: Path, line: str) -> bool:
    """Put the user's line into the file, in the place of an old one; True if there was one. Raises `PasswdError`.

    A line without addresses keeps those of the old one.
    """
    entry = usersfile.parse_line(line)
    with _locked(file) as (target, text):
        old = usersfile.parse(text, str(file)).entries.get(entry.name)
        if old and not entry.addresses:
            line = Entry(entry.name, entry.password, old.addresses).text()
        _write(target, usersfile.replaced(text, entry.name, line))
    return old is not None


def delete_user(file: Path, name: str) -> None:
    """Take the user's line out of the file. Raises `PasswdError`, also when there is no such user."""
    with _locked(file) as (target, text):
        try:
            _write(target, usersfile.replaced(text, usersfile.check_name(name), None))
        except KeyError:
            raise PasswdError(f"{file}: there is no user {name}", NOUSER) from None
        except ValueError as error:
            raise PasswdError(str(error), USAGE) from None


def read_password(stdin: TextIO = sys.stdin, ask: Callable[[str], str] = getpass) -> str:
    """From the terminal, twice and unseen; else the first line of `stdin`. Raises `PasswdError`."""
    if not stdin.isatty():
        return stdin.readline().removesuffix("\n").removesuffix("\r")
    try:
        password = ask("Password: ")
        if ask("Again: ") != password:
            raise PasswdError("the two are not the same", USAGE)
    except EOFError:
        raise PasswdError("no password was given", USAGE) from None
    return password


@contextlib.contextmanager
def _locked(file: Path) -> Iterator[tuple[Path, str]]:
    """The file that is meant (behind symbolic links) and its text, "" if there is none yet; nobody else changes it."""
    target = Path(os.path.realpath(file))
    try:
        directory = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise PasswdError(f"{target.parent}: {error.strerror}", CANTCREAT) from None
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)  # the directory: the file itself will be another one
        yield target, target.read_bytes().decode("utf-8-sig") if target.exists() else ""
        os.fsync(directory)
    except OSError as error:
        raise PasswdError(f"{file}: {error.strerror}", CANTCREAT) from None
    except UnicodeDecodeError:
        raise PasswdError(f"{file}: is not UTF-8", CONFIG) from None
    finally:
        os.close(directory)


def _write(target: Path, text: str) -> None:
    old = target.stat() if target.exists() else None
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)  # 0600
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            if old is not None:
                os.fchown(handle, old.st_uid, old.st_gid)
                os.fchmod(handle, stat.S_IMODE(old.st_mode) & ~0o007)
            file.write(text)
            file.flush()
            os.fsync(handle)
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
