"""Verifying against stored passwords, wherever they are kept: a file, Redis.

Each `verify` with a password costs exactly one check, whether there is such a user or not: for one who is not there a
decoy of the same scheme and cost is checked, so that nobody learns by the clock who exists. In a chain each backend
costs its one, so it does not show either which of them knows a name.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Protocol

from mta_front.policy.auth.backend import PASSWORD_METHODS, Unavailable, User
from mta_front.policy.auth.hashing import CheckFailed, Password
from mta_front.policy.auth.offload import Threads
from mta_front.policy.auth.usersfile import Entry

if TYPE_CHECKING:
    from mta_front.hooks import Session
    from mta_front.smtp.credentials import Credentials
    from mta_front.smtp.scram import ScramKeys


class Source(Protocol):
    """Where stored passwords are."""

    @property
    def methods(self) -> frozenset[str]:
        """The mechanisms for which it has what they need."""

    def find(self, username: str) -> Entry | None:
        """The user of this name. Raises `Unavailable`; may wait."""

    def decoy(self, username: str) -> Password:
        """A password that nothing matches and that costs what those of users cost; the same for the same name."""

    def iterations(self, username: str) -> int:
        """How often SCRAM hashes for somebody who is not there: as for one of those who are."""

    def close(self) -> None:
        """Let go of connections."""


class PasswordBackend:
    """A backend over a source. A `KeyHolder`."""

    def __init__(self, name: str, source: Source, threads: Threads) -> None:
        self.name = name
        self._source = source
        self._threads = threads

    @property
    def methods(self) -> frozenset[str]:
        """What the source can verify."""
        return self._source.methods

    def verify(self, credentials: Credentials, session: Session) -> User | None:
        """PLAIN and LOGIN by any stored password, CRAM-MD5 by plain ones, EXTERNAL by being listed."""
        entry = self._source.find(credentials.username)
        if credentials.method == "EXTERNAL":  # the certificate is the proof; TLS has checked it
            return _user(entry)
        if credentials.method == "CRAM-MD5":
            password = entry.password if entry and entry.password.plain else None
            plain = password.plain if password else secrets.token_hex(16)  # the work is the same
            good = credentials.validate_password(plain) and password is not None
        elif credentials.method in PASSWORD_METHODS:
            good = self._matches(entry, credentials)
        else:
            return None
        return _user(entry) if good else None

    def scram_keys(self, username: str, session: Session) -> tuple[ScramKeys, User] | None:
        """The keys of a user who has some."""
        entry = self._source.find(username)
        user = _user(entry)
        return (entry.password.keys, user) if entry and user and entry.password.keys else None

    def scram_iterations(self, username: str) -> int:
        """For decoy keys."""
        return self._source.iterations(username)

    def close(self) -> None:
        """Close the source."""
        self._source.close()

    def _matches(self, entry: Entry | None, credentials: Credentials) -> bool:
        password = entry.password if entry else self._source.decoy(credentials.username)

        def check() -> bool:  # not a partial, whose repr would show the password
            return password.matches(credentials.password)

        try:
            good = self._threads.run(check) if password.slow else check()
        except (CheckFailed, MemoryError) as error:
            raise Unavailable(f"a password cannot be checked ({type(error).__name__})") from None
        return good and entry is not None


def _user(entry: Entry | None) -> User | None:
    return User(entry.name, entry.addresses) if entry else None
