"""The backend `file`: a users file that is read again when it changes.

It is looked at, at most once a second, when somebody logs in; symbolic links are followed, so the swap of a Kubernetes
Secret counts. A file that has become faulty or unreadable changes nothing: the users of before go on, and the faults
are reported once.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from mta_front.policy.auth import usersfile
from mta_front.policy.auth.backend import PASSWORD_METHODS, SCRAM_METHODS, Report, unheard
from mta_front.policy.auth.decoys import NOBODYS, Decoys
from mta_front.policy.auth.hashing import Password
from mta_front.policy.auth.usersfile import Entry, Users
from mta_front.smtp.scram import DEFAULT_ITERATIONS

LOOK_AGAIN_S = 1.0

Signature = tuple[int, int, int, int]


class UsersFileError(Exception):
    """The file cannot be used. `faults`: one line each, which name file and line and nothing secret."""

    def __init__(self, faults: tuple[str, ...]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


def read(path: Path) -> tuple[Users, Signature]:
    """The users in a file, and what tells this state of it from others. Raises `UsersFileError`."""
    try:
        with path.open("rb") as file:
            signature = _signature(os.fstat(file.fileno()))  # before the content: what is written later is seen later
            text = file.read().decode("utf-8-sig")
    except OSError as error:
        raise UsersFileError((f"{path}: cannot be read: {error.strerror}",)) from None
    except UnicodeDecodeError as error:
        raise UsersFileError((f"{path}: is not UTF-8 (at byte {error.start})",)) from None
    users = usersfile.parse(text, str(path))
    if users.faults:
        raise UsersFileError(users.faults)
    return users, signature


def methods_of(users: Users, certificates: bool = False) -> dict[str, int]:
    """The mechanisms for which users have what is needed, and how many users have it."""
    held = Counter[str]()
    for entry in users.entries.values():
        held.update(PASSWORD_METHODS)
        held.update(SCRAM_METHODS if entry.password.keys else ())
        held.update(["CRAM-MD5"] if entry.password.plain else ())
        held.update(["EXTERNAL"] if certificates else ())
    return dict(held)


class FileUsers:
    """A `Source`."""

    def __init__(
        self,
        path: Path,
        decoys: Decoys,
        *,
        certificates: bool = False,
        report: Report = unheard,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises `UsersFileError`."""
        self._path = path
        self._decoys = decoys
        self._certificates = certificates
        self._report = report
        self._clock = clock
        self._take(*read(path))
        self._looked_at = clock()
        self._told: tuple[str, ...] = ()

    @property
    def methods(self) -> frozenset[str]:
        """Those for which at least one user has what is needed."""
        self._refresh()
        return self._methods

    def find(self, username: str) -> Entry | None:
        """By the exact name."""
        self._refresh()
        return self._users.entries.get(username)

    def decoy(self, username: str) -> Password:
        """Of the kind of one of the users, drawn by the name: names that do not exist cost what existing ones cost."""
        return self._decoys.drawn(username, self._passwords).decoy()

    def iterations(self, username: str) -> int:
        """Of one of the users that have SCRAM keys."""
        return self._decoys.drawn(username, self._iterations)

    def close(self) -> None:
        """Nothing is held."""

    def _take(self, users: Users, signature: Signature) -> None:
        self._users = users
        self._signature: Signature | None = signature
        self._methods = frozenset(methods_of(users, self._certificates))
        passwords = [entry.password for _, entry in sorted(users.entries.items())]
        self._passwords = passwords or [NOBODYS]
        self._iterations = [each.keys.iterations for each in passwords if each.keys] or [DEFAULT_ITERATIONS]

    def _refresh(self) -> None:
        now = self._clock()
        if now < self._looked_at + LOOK_AGAIN_S:
            return
        self._looked_at = now
        try:
            if _signature(os.stat(self._path)) == self._signature:  # noqa: PTH116
                return
        except OSError:
            self._signature = None  # whatever stands there next is new
        try:
            self._take(*read(self._path))
        except UsersFileError as error:
            if error.faults != self._told:
                self._told = error.faults
                for fault in error.faults:
                    self._report(f"{fault}; the users of before go on")
        else:
            self._told = ()
            self._report(f"{self._path}: read again, {len(self._users.entries)} users")


def _signature(stat: os.stat_result) -> Signature:
    return stat.st_dev, stat.st_ino, stat.st_mtime_ns, stat.st_size
