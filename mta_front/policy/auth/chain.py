"""The backends of one front, asked in their order: the first yes wins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from mta_front.policy.auth.backend import SCRAM_METHODS, Backend, KeyHolder, Unavailable
from mta_front.policy.auth.decoys import Decoys
from mta_front.policy.auth.hook import HookBackend
from mta_front.policy.auth.offload import Threads
from mta_front.smtp.scram import DEFAULT_ITERATIONS

if TYPE_CHECKING:
    from mta_front.hooks import Session
    from mta_front.smtp.credentials import Credentials


class Chain:
    """Itself a backend."""

    name = "chain"

    def __init__(self, backends: Sequence[Backend], decoys: Decoys, threads: Threads | None = None) -> None:
        """`threads`: what its backends hash in, closed with them."""
        self.backends = tuple(backends)
        self._decoys = decoys
        self._threads = threads

    @property
    def methods(self) -> frozenset[str]:
        """What at least one of them can verify: what may be advertised."""
        return frozenset[str]().union(*(backend.methods for backend in self.backends))

    def verify(self, credentials: Credentials, session: Session) -> Any:
        """The user: a `User`, or what the hook returned. None: nobody says yes, 535 5.7.8.

        Raises `Unavailable` (454 4.7.0) when nobody says yes and somebody could not know; what a hook raises; and, with
        SCRAM, what ends the exchange.
        """
        asked = [backend for backend in self.backends if credentials.method in backend.methods]
        if credentials.authzid not in ("", credentials.username):
            # To act as somebody else (RFC 4616 §2) is nothing that a backend could allow; a hook may
            asked = [backend for backend in asked if isinstance(backend, HookBackend)]
        if credentials.method in SCRAM_METHODS:
            return self._play(asked, credentials, session)
        down: Unavailable | None = None
        for backend in asked:
            try:
                user = backend.verify(credentials, session)
            except Unavailable as error:
                down = down or error
            else:
                if user is not None:
                    return user
        if down:
            raise down
        return None

    def rejection(self, method: str) -> dict[str, str]:
        """What the error challenge of XOAUTH2 and OAUTHBEARER says (RFC 7628 §3.2.2); {} for other methods."""
        for backend in self.backends:
            if method in backend.methods and hasattr(backend, "rejection"):
                return dict(backend.rejection(method))
        return {}

    def close(self) -> None:
        """Close all of them."""
        for backend in self.backends:
            backend.close()
        if self._threads is not None:
            self._threads.close()

    def _play(self, asked: Sequence[Backend], credentials: Credentials, session: Session) -> Any:
        """There is one exchange, so it is played with the keys of the first backend that has some, or with a decoy."""
        down: Unavailable | None = None
        iterations = DEFAULT_ITERATIONS
        for backend in asked:
            try:
                if isinstance(backend, HookBackend):  # it plays by itself
                    user = backend.verify(credentials, session)
                    if user is not None or credentials.ask is None:
                        return user
                    continue
                holder = cast("KeyHolder", backend)
                found = holder.scram_keys(credentials.username, session)
                iterations = holder.scram_iterations(credentials.username)
            except Unavailable as error:
                down = down or error
                continue
            if found:
                keys, known = found
                return known if credentials.scram(keys) else None
        if down:
            raise down
        if asked:
            credentials.scram(self._decoys.keys(credentials.username, iterations))
        return None
