"""Asking an HTTP server of the operator's: kept-alive connections, one time-out for all of it, a circuit breaker.

urllib3 over gevent's patched sockets: only processes that have patched may import this module (DECISIONS P1). Nothing
that is sent or received stands in an exception, a report or a log. Redirects are not followed, since what we send is
for nobody else; proxies of the environment are not used for the same reason.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection, Mapping

import gevent
import urllib3
from urllib3.exceptions import HTTPError, ProtocolError

from mta_front.policy.auth.backend import Report, Unavailable, unheard
from mta_front.policy.auth.breaker import Breaker

MAX_ANSWER_BYTES = 1 << 18
_READ_BYTES = 1 << 14


class _Stale(Exception):
    """The server closed a kept-alive connection just when we used it; nothing was read."""


class Web:
    """One URL. Greenlets share its connections."""

    def __init__(
        self,
        name: str,
        url: str,
        *,
        timeout_s: float,
        connections: int = 10,
        failures: int = 5,
        open_s: float = 10.0,
        ca_file: str = "",
        report: Report = unheard,
    ) -> None:
        """`name`: for reports, e.g. "auth.http". `ca_file`: PEM certificates to trust; "" = those of the system."""
        self._name = name
        self._url = url
        self._timeout_s = timeout_s
        self._report = report
        self._breaker = Breaker(failures, open_s)
        self._pool = urllib3.PoolManager(
            num_pools=1,
            maxsize=connections,
            block=True,
            retries=False,
            cert_reqs="CERT_REQUIRED",
            ca_certs=ca_file or None,
        )

    def ask(
        self, method: str, body: bytes | None, headers: Mapping[str, str], answers: Collection[int]
    ) -> tuple[int, bytes]:
        """Status and body. `Unavailable` for every status that is not in `answers`, for what is no whole answer within
        the time-out, and at once while the breaker is open.
        """
        if not self._breaker.admits():
            raise Unavailable(f"{self._name}: does not answer, left alone for now")
        try:
            status, answer = self._ask_within(method, body, headers)
            if status not in answers:
                raise Unavailable(f"answered {status}")
        except Unavailable as error:
            raise self.doubt(error.reason) from None
        if self._breaker.succeeded():
            self._report(f"{self._name}: answers again")
        return status, answer

    def doubt(self, reason: str) -> Unavailable:
        """Count a failure, also one that the caller found in an answer; the exception to raise."""
        if self._breaker.failed():
            self._report(f"{self._name}: {reason}; left alone for a while")
        return Unavailable(f"{self._name}: {reason}")

    def close(self) -> None:
        """Close idle connections."""
        self._pool.clear()

    def _ask_within(self, method: str, body: bytes | None, headers: Mapping[str, str]) -> tuple[int, bytes]:
        deadline = time.monotonic() + self._timeout_s
        # urllib3's time-outs are for one silence each; a server that drips would hold us for ever
        with gevent.Timeout(self._timeout_s, Unavailable(f"no answer within {self._timeout_s:g} s")):
            for _ in range(2):
                with contextlib.suppress(_Stale):
                    return self._ask_once(method, body, headers, deadline)
        raise Unavailable("closes connections without an answer")

    def _ask_once(
        self, method: str, body: bytes | None, headers: Mapping[str, str], deadline: float
    ) -> tuple[int, bytes]:
        left_s = max(0.001, deadline - time.monotonic())
        response = None
        whole = False
        try:
            response = self._pool.request(
                method,
                self._url,
                body=body,
                headers=dict(headers),
                redirect=False,
                preload_content=False,
                decode_content=False,
                timeout=urllib3.Timeout(total=left_s),
                pool_timeout=left_s,
            )
            answer = bytearray()
            for piece in response.stream(_READ_BYTES):
                answer += piece
                if len(answer) > MAX_ANSWER_BYTES:
                    raise Unavailable(f"answered more than {MAX_ANSWER_BYTES} bytes")
                if time.monotonic() > deadline:
                    raise Unavailable(f"no answer within {self._timeout_s:g} s")
            whole = True
            return response.status, bytes(answer)
        except (HTTPError, OSError) as error:
            if response is None and isinstance(error, ProtocolError):
                raise _Stale from None
            raise Unavailable(_words(error)) from None
        finally:
            if response is not None:
                if whole:
                    response.release_conn()
                else:
                    response.close()  # what is left of this answer must not become the next one's


def _words(error: BaseException) -> str:
    """Our own words for what happened: those of libraries may quote what was sent."""
    return f"cannot be asked ({type(error).__name__})"
