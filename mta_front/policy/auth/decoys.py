"""What is shown to somebody who names a user that does not exist: the same work, the same kind of answer, every time.

All that is drawn here follows from the name and a secret of the fleet, so that asking twice, or another front, shows
nothing either (RFC 5802 §9, DECISIONS W9).
"""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from mta_front.policy.auth.hashing import Argon2id
from mta_front.smtp.scram import ScramKeys, decoy_keys
from mta_front.smtp.secret import octets

ASK_AGAIN_S = 5.0

NOBODYS = Argon2id("$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5J3Mgc2FsdA$bm9ib2R5J3MgcGFzc3dvcmQsIG5vdCBldmVyIQ")
"""What a password costs as long as no user's is known."""

T = TypeVar("T")


class Decoys:
    """Draws by name. `fetch` gets the fleet's secret, and may raise what `failures` are: it is then asked again later,
    and until then this process has a secret of its own.
    """

    def __init__(self, fetch: Callable[[], bytes], failures: tuple[type[Exception], ...] = ()) -> None:
        self._fetch: Callable[[], bytes] | None = fetch
        self._failures = failures
        self._secret = secrets.token_bytes(32)
        self._ask_at = 0.0

    def drawn(self, username: str, among: Sequence[T]) -> T:
        """One of them; each has the same chance, over all names."""
        digest = hmac.digest(self._known_secret(), b"drawn:" + octets(username), "sha256")
        return among[int.from_bytes(digest, "big") % len(among)]

    def keys(self, username: str, iterations: int) -> ScramKeys:
        """SCRAM keys that no password fits."""
        return decoy_keys(self._known_secret(), username, iterations)

    def _known_secret(self) -> bytes:
        if self._fetch is not None and time.monotonic() >= self._ask_at:
            self._ask_at = time.monotonic() + ASK_AGAIN_S
            try:
                self._secret = self._fetch()
                self._fetch = None
            except self._failures:
                pass
        return self._secret
