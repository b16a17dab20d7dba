"""The backend `redis`: a hash for each user, in the store or another Redis.

    HSET mta:user:ann password '{ARGON2ID}$argon2id$…' addresses 'ann@example.net,*@lists.example.net'

Names are as `usersfile.check_name` has them. A new password counts at once. A user whose hash is not understood is
nobody, and reported once in a while.
"""

from __future__ import annotations

from collections import deque

from mta_front.policy.auth import hashing, usersfile
from mta_front.policy.auth.backend import Report, Unavailable, unheard
from mta_front.policy.auth.decoys import NOBODYS, Decoys
from mta_front.policy.auth.hashing import Password
from mta_front.policy.auth.usersfile import Entry
from mta_front.smtp.scram import DEFAULT_ITERATIONS
from mta_front.store.errors import StoreError
from mta_front.store.users import UserHashes

KINDS_REMEMBERED = 64


class RedisUsers:
    """A `Source`."""

    def __init__(self, hashes: UserHashes, methods: frozenset[str], decoys: Decoys, report: Report = unheard) -> None:
        self.methods = methods
        self._hashes = hashes
        self._decoys = decoys
        self._report = report
        self._passwords = deque[Password]([NOBODYS], maxlen=KINDS_REMEMBERED)
        self._iterations = deque[int]([DEFAULT_ITERATIONS], maxlen=KINDS_REMEMBERED)
        self._told = deque[str](maxlen=KINDS_REMEMBERED)

    def find(self, username: str) -> Entry | None:
        """One round trip, shared with others who ask at the same time."""
        try:
            found = self._hashes.find(username)
        except StoreError as error:
            raise Unavailable(error.reason) from None
        if found is None:
            return None
        try:
            password = hashing.parse(found.password)
            addresses = usersfile.parse_addresses(found.addresses)
        except ValueError:
            if username not in self._told:
                self._told.append(username)
                self._report(f"auth.redis: password or addresses of {username!r} are not understood")
            return None
        if password.slow:
            self._remember(password)
        return Entry(username, password, addresses)

    def decoy(self, username: str) -> Password:
        """Of the kinds that were seen last."""
        return self._decoys.drawn(username, self._passwords)

    def iterations(self, username: str) -> int:
        """Of the SCRAM keys that were seen last."""
        return self._decoys.drawn(username, self._iterations)

    def close(self) -> None:
        """Close the connection."""
        self._hashes.close()

    def _remember(self, password: Password) -> None:
        if self._passwords[0] is NOBODYS:
            self._passwords.clear()
        self._passwords.append(password.decoy())
        if password.keys:
            self._iterations.append(password.keys.iterations)
