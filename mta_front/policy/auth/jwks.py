"""The keys with which an issuer signs its tokens: a JWK set (RFC 7517) behind a URL, kept here.

It is asked for anew when it is `refresh_s` old, and when a token names a key that is not in it, which is how a new key
of the issuer is noticed; but at most every `refresh_least_s`, since anybody can name keys that do not exist. If the
issuer does not answer, the keys of before go on.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from gevent.lock import BoundedSemaphore

from mta_front.policy.auth.backend import Unavailable
from mta_front.policy.auth.web import Web

MAX_KEYS = 64

FAMILIES = {"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}
"""Which kind of key (`kty`) an algorithm takes, by its first letters. Shared secrets (`oct`) are in none."""


class KeySet:
    """One issuer's keys."""

    def __init__(
        self,
        web: Web,
        *,
        refresh_s: float = 3600.0,
        refresh_least_s: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._web = web
        self._refresh_s = refresh_s
        self._refresh_least_s = refresh_least_s
        self._clock = clock
        self._keys: list[dict[str, Any]] | None = None
        self._asked_at = -refresh_s
        self._asking = BoundedSemaphore(1)

    def fitting(self, algorithm: str, kid: str | None) -> list[dict[str, Any]]:
        """The keys that may have signed a token with this header: by `kid`, or without one all of the right kind.

        Raises `Unavailable` when there never were any.
        """
        age_s = self._clock() - self._asked_at
        found = self._known(algorithm, kid)
        if self._keys is None or age_s >= self._refresh_s or (not found and age_s >= self._refresh_least_s):
            self._refresh()
            found = self._known(algorithm, kid)
        return found

    def close(self) -> None:
        """Close idle connections."""
        self._web.close()

    def _known(self, algorithm: str, kid: str | None) -> list[dict[str, Any]]:
        return [
            key
            for key in self._keys or ()
            if key.get("kty") == FAMILIES.get(algorithm[:2])
            and key.get("alg", algorithm) == algorithm
            and key.get("use", "sig") == "sig"
            and (kid is None or key.get("kid") == kid)
        ]

    def _refresh(self) -> None:
        came_at = self._clock()
        with self._asking:  # one asks for all who wait
            if self._asked_at >= came_at and self._keys is not None:
                return
            try:
                _, answer = self._web.ask("GET", None, {"accept": "application/json"}, (200,))
                self._keys = self._parsed(answer)
            except Unavailable:
                if self._keys is None:
                    raise
            self._asked_at = self._clock()

    def _parsed(self, answer: bytes) -> list[dict[str, Any]]:
        try:
            keys = json.loads(answer)["keys"]
            return [key for key in keys[:MAX_KEYS] if isinstance(key, dict)]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise self._web.doubt("its answer is no JWK set") from None
