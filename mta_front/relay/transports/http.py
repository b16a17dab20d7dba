"""Delivery by HTTP: each message is posted to one URL, itself as the body and its envelope as headers (docs/relay.md).

The answer's status is the outcome. HTTP counts the other way round than SMTP: 4xx says that the request is at fault, so
the message fails; 5xx that the server is, so it is tried again. What only the operator can mend (a wrong URL, a wrong
password) is tried again too, and bounces nobody's mail.
"""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote

from OpenSSL import SSL

from mta_front.observe.events import Events
from mta_front.relay.attempt import Attempt
from mta_front.relay.hop import Fleet, Hop, Unreachable, in_turn
from mta_front.relay.sharedpace import Turns, pace_of
from mta_front.relay.transports.carrier import IDLE_S
from mta_front.relay.transports.opener import Credentials, Trust
from mta_front.relay.web import Site, WebAnswer, WebConnection, WebError
from mta_front.smtp.secret import octets
from mta_front.smtp.transaction import Outcome
from mta_front.store.entry import Entry
from mta_front.store.errors import StoreBodyGone, StoreError
from mta_front.store.limits.rules import Rate

ANSWER_BYTES = 4096
TEXT_CHARS = 200
LATER = frozenset({401, 403, 404, 405, 407, 408, 421, 423, 425, 429})
"""Statuses of 4xx that are not the message's fault."""

_SAFE = "!#$&'*+-/=?^_`{|}~@.:[]()\" "
"""What may stand as it is in a header of ours: what addresses are made of, and neither comma nor percent."""


@dataclass(frozen=True, slots=True)
class HttpOptions:
    """What a route says. `credentials` without a username are a token."""

    url: str
    max_connections: int
    connect_timeout_s: float
    timeout_s: float
    credentials: Credentials | None
    trust: Trust
    rate: Rate | None = None
    turns: Turns | None = None
    fleet: Fleet | None = None


class HttpTransport:
    """One URL."""

    name = "http"
    recipients_max = 100
    by_domain = False

    def __init__(self, options: HttpOptions, events: Events) -> None:
        site = Site.of(options.url)
        self._hop = Hop(
            f"{site.authority}{site.target.partition('?')[0]}",
            options.max_connections,
            lambda hop: HttpCarrier(hop, site, options, events),
            lambda attempt, outcome: in_turn(attempt, time.monotonic(), outcome),
            events,
            pace=pace_of(options.rate, site.authority, options.turns),
            fleet=options.fleet,
        )

    def deliver(self, attempt: Attempt) -> None:
        """Post it, or defer it."""
        attempt.hops = [self._hop]
        in_turn(attempt, time.monotonic())

    def look(self, now: float) -> None:
        """Watch over it."""
        self._hop.look(now)

    def close(self) -> None:
        """Let idle connections end."""
        self._hop.close()


class HttpCarrier:
    """One connection, one message after the other."""

    def __init__(self, hop: Hop, site: Site, options: HttpOptions, events: Events) -> None:
        """Connect. Raises Unreachable."""
        self._hop = hop
        self._options = options
        self._events = events
        self._fresh = True
        try:
            outbound = options.trust.outbound if site.secure else None
            self._connection = WebConnection(site, outbound, options.connect_timeout_s)
        except WebError as error:
            raise Unreachable(error.reason) from None
        except (OSError, SSL.Error) as error:
            raise Unreachable(f"4.7.5 our own certificates cannot be read: {error}") from None

    def close(self) -> None:
        """Close the socket."""
        self._connection.close()

    def serve(self) -> None:
        """Post until nothing comes for a while, or the connection ends."""
        while True:
            attempt = self._hop.next()
            if attempt is None:
                if not self._hop.wait(IDLE_S):
                    return
            elif not self._post(attempt):
                return

    def _post(self, attempt: Attempt) -> bool:
        """Whether the connection is good for another."""
        hop = self._hop
        if not self._fresh and self._connection.stale():
            hop.again(attempt)
            return False
        began_at = time.monotonic()
        answer: WebAnswer | None = None
        outcome: Outcome | None
        try:
            hop.paid()
            answer = self._connection.request(
                "POST", self._headers(attempt), _until_ours(attempt), self._options.timeout_s, ANSWER_BYTES
            )
            outcome = outcome_of(answer)
        except _LetGo:
            outcome = None
        except WebError as error:
            if not error.sent and not attempt.again:
                hop.again(attempt)
                self._lost(error)
                return False
            outcome = Outcome("deferred", 0, error.reason, uncertain=error.sent)
            self._lost(error)
        except StoreBodyGone:
            outcome = Outcome("failed", 554, "5.3.0 The body of the message is lost")
        except StoreError as error:
            outcome = Outcome("deferred", 451, f"4.3.0 No body from the store: {error.reason}")
        except OSError as error:
            outcome = Outcome("deferred", 451, f"4.7.0 Cannot log in: {error.filename}: {error.strerror}")
        except Exception:
            attempt.report(attempt, [Outcome("deferred", 451, "4.3.0 Local error")] * len(attempt.recipients), hop.name)
            raise
        self._fresh = False
        now = time.monotonic()
        if answer is not None:
            hop.health.answered(now, now - began_at)
        if outcome is None:
            attempt.report(attempt, None, hop.name)
        else:
            self._events.attempted("http", outcome.kind, len(attempt.recipients), now - began_at)
            attempt.report(attempt, [outcome] * len(attempt.recipients), hop.name)
        return answer is not None and answer.kept

    def _lost(self, error: WebError) -> None:
        if self._hop.health.lost():
            self._hop.set_aside(Outcome("deferred", 0, error.reason))

    def _headers(self, attempt: Attempt) -> dict[str, str]:
        headers = headers_of(attempt.envelope, attempt.recipients)
        if self._options.credentials is not None:
            login = self._options.credentials.login()
            if login.username:
                pair = base64.b64encode(octets(f"{login.username}:{login.password}")).decode("ascii")
                headers["Authorization"] = f"Basic {pair}"
            else:
                headers["Authorization"] = f"Bearer {quote(login.password, safe=_VISIBLE)}"
        return headers


_VISIBLE = "!#$%&'*+-.^_`|~/=:,;@()[]{}<>?\\\""


class _LetGo(Exception):
    """The message is no longer surely ours."""


def _until_ours(attempt: Attempt) -> Iterator[bytes]:
    """The body; it breaks off before its end when the message is no longer surely ours."""
    yield from attempt.body()
    if not attempt.may_finish():
        raise _LetGo


def headers_of(envelope: Entry, recipients: list[str]) -> dict[str, str]:
    """The envelope. What a header cannot hold is percent-encoded UTF-8, as are commas and percent signs."""
    key = hashlib.sha256("\n".join((envelope.id, *sorted(recipients))).encode("utf-8", "surrogateescape")).hexdigest()
    said = {
        "Envelope-From": f"<{_header(envelope.mail_from)}>",
        "Envelope-To": ", ".join(f"<{_header(recipient)}>" for recipient in recipients),
        "Queue-Id": _header(envelope.id),
        "Received-At": f"{envelope.received_at:.3f}",
        "Listener": _header(envelope.listener),
        "Client-Address": _header(envelope.client_address),
        "Client-Name": _header(envelope.client_name),
        "Helo": _header(envelope.helo),
        "User": _header(envelope.user),
        "Body-Type": _header(envelope.body_type),
        "Smtputf8": "true" if envelope.smtp_utf8 else "",
    }
    return {
        "User-Agent": "mta-front",
        "Content-Type": "message/rfc822",
        "Idempotency-Key": f'"{key[:32]}"',
        **{f"X-Mail-{name}": value for name, value in said.items() if value},
    }


def _header(text: str) -> str:
    return quote(text.encode("utf-8", "surrogateescape"), safe=_SAFE).strip()


def outcome_of(answer: WebAnswer) -> Outcome:
    """What a status means for the message."""
    text = _words(answer)
    if answer.status // 100 == 2:
        return Outcome("delivered", 250, f"2.0.0 HTTP {answer.status}{text}")
    if answer.status // 100 == 4 and answer.status not in LATER:
        code, enhanced = (552, "5.3.4") if answer.status == 413 else (554, "5.0.0")
        return Outcome("failed", code, f"{enhanced} HTTP {answer.status}{text}")
    return Outcome("deferred", 451, f"4.0.0 HTTP {answer.status}{text}")


def _words(answer: WebAnswer) -> str:
    """The first line of the answer, where it is text."""
    if answer.content_type != "text/plain":
        return ""
    line = answer.body.decode("utf-8", "replace").strip().partition("\n")[0][:TEXT_CHARS].strip()
    shown = "".join(char if char.isprintable() else "?" for char in line)
    return f": {shown}" if shown else ""
