"""MTA-STS (RFC 8461): a domain says by HTTPS that its exchangers have TLS, which they are, and for how long that holds.

What was fetched holds for its `max_age`, also while the domain's DNS or web server is away: else whoever can keep them
from us could turn TLS off. It is fetched anew when the domain's TXT record has another id. It is kept in memory, and in
the store, so that a relay that starts knows what others knew.
"""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

import gevent
from gevent.event import Event

from mta_front.relay.dns import Dns
from mta_front.relay.web import Site, WebAnswer, WebConnection, WebError
from mta_front.store.errors import StoreError
from mta_front.tls.outbound import Outbound

MAX_POLICY_BYTES = 65_536
MAX_AGE_MAX_S = 31_557_600
"""A year, which is the most that a policy may say (§3.2)."""
FETCH_S = 15.0
"""For one fetch in all; §3.3 suggests a minute, for which mail to a domain that has no policy yet would wait."""
AGAIN_S = 300.0
"""After a fetch that failed none is tried for so long (§3.3)."""
KEPT_MAX = 10_000
FLEET_MAX_S = 30 * 86_400
"""In the store a policy stays for so long at most, however long it is good: nobody may ever write there again."""

Mode: TypeAlias = Literal["enforce", "testing", "none"]

_RECORD = re.compile(r"v=STSv1[ \t]*;[ \t]*id=([A-Za-z0-9]{1,32})[ \t]*(?:;.*)?", re.DOTALL)
_FIELD = re.compile(r"([A-Za-z0-9][A-Za-z0-9_.-]{0,31})[ \t]*:[ \t]*(.*?)[ \t]*")
_MX = re.compile(r"(?:\*\.)?[a-z0-9_](?:[a-z0-9_.-]{0,251}[a-z0-9_])?")


@dataclass(frozen=True, slots=True)
class Policy:
    """`mx`: names of exchangers; a star stands for one label, the first."""

    mode: Mode
    max_age_s: int
    mx: tuple[str, ...] = ()

    def names(self, host: str) -> bool:
        """Whether this exchanger is one of the policy's (§4.1)."""
        host = host.lower().removesuffix(".")
        return host in self.mx or f"*.{host.partition('.')[2]}" in self.mx


def parse_policy(text: str) -> Policy:
    """The body of a policy (§3.2). Raises ValueError."""
    found: dict[str, str] = {}
    mx: list[str] = []
    for line in re.split(r"\r?\n", text):
        match = _FIELD.fullmatch(line)
        if match is None:
            if line.strip():
                raise ValueError("a line without a key")
            continue
        key, value = match.groups()
        if key == "mx":
            if not _MX.fullmatch(value.lower()):
                raise ValueError("an exchanger that is no name")
            mx.append(value.lower())
        else:
            found.setdefault(key, value)  # of several the first counts
    mode, max_age = found.get("mode"), found.get("max_age", "")
    if found.get("version") != "STSv1" or mode not in ("enforce", "testing", "none"):
        raise ValueError("no STSv1 with a known mode")
    if not re.fullmatch(r"[0-9]{1,10}", max_age):
        raise ValueError("no max_age")
    if mode != "none" and not mx:
        raise ValueError("no exchangers")
    return Policy(mode, min(int(max_age), MAX_AGE_MAX_S), tuple(mx))  # type: ignore[arg-type]  # one of the three


@dataclass(slots=True)
class _Kept:
    """What is known of a domain. `version`: the id of the TXT record that led to it."""

    policy: Policy | None = None
    version: str = ""
    until_at: float = 0.0
    again_at: float = 0.0


class FleetPolicies(Protocol):
    """`mta_front.store.policies.Policies`. Methods may wait, and raise StoreError."""

    def load(self, domain: str) -> tuple[str, float] | None:
        """What is kept of a domain, and for how many seconds it is good."""

    def keep(self, domain: str, text: str, life_s: float) -> None:
        """Keep it for so long."""


class MtaSts:
    """Asks for policies and keeps them. `outbound`: whom to trust, those of the system; `clock`: monotonic seconds."""

    def __init__(
        self,
        dns: Dns,
        outbound: Callable[[], Outbound],
        port: int = 443,
        clock: Callable[[], float] = time.monotonic,
        fleet: FleetPolicies | None = None,
    ) -> None:
        self._dns = dns
        self._outbound = outbound
        self._port = port
        self._clock = clock
        self._fleet = fleet
        self._kept: dict[str, _Kept] = {}
        self._fetching: dict[str, Event] = {}

    def policy(self, domain: str) -> Policy | None:
        """What holds for this domain now; None: nothing."""
        version = self._version(domain)
        while (fetching := self._fetching.get(domain)) is not None:
            fetching.wait()
        kept = self._kept.get(domain)
        if kept is None or self._is_outdated(kept, version):
            self._fetching[domain] = Event()
            try:
                kept = self._refresh(domain, version, kept)
            finally:
                self._fetching.pop(domain).set()
        return kept.policy if self._clock() < kept.until_at else None

    def _is_outdated(self, kept: _Kept, version: str) -> bool:
        """Whether there is another policy to be had."""
        now = self._clock()
        known = now < kept.until_at and kept.version == version
        return bool(version) and not known and now >= kept.again_at

    def _version(self, domain: str) -> str:
        """The id in the TXT record; "" for none, or more than one, or one that cannot be read (§3.1)."""
        answer = self._dns.ask(f"_mta-sts.{domain}", "TXT")
        texts = [b"".join(record.strings).decode("ascii", "replace") for record in answer.records]
        texts = [text for text in texts if text.startswith("v=STSv1")]
        match = _RECORD.fullmatch(texts[0]) if len(texts) == 1 else None
        return match[1] if match else ""

    def _refresh(self, domain: str, version: str, kept: _Kept | None) -> _Kept:
        if kept is None or kept.version != version:
            kept = self._load(domain) or kept or _Kept()
        if domain not in self._kept and len(self._kept) >= KEPT_MAX:
            self._forget()
        self._kept[domain] = kept
        if not self._is_outdated(kept, version):
            return kept
        try:
            with gevent.Timeout(FETCH_S, WebError("no policy in time")):
                policy = self._fetch(domain)
        except (WebError, ValueError):
            # What is known stays good until its end (§5.1)
            kept.again_at = self._clock() + AGAIN_S
            return kept
        kept.policy, kept.version = policy, version
        kept.until_at = self._clock() + policy.max_age_s
        if self._fleet is not None:
            text = json.dumps({"id": version, "mode": policy.mode, "mx": policy.mx, "max_age": policy.max_age_s})
            with contextlib.suppress(StoreError):
                self._fleet.keep(domain, text, min(policy.max_age_s, FLEET_MAX_S))
        return kept

    def _load(self, domain: str) -> _Kept | None:
        """What another relay has fetched, or we before our restart."""
        try:
            found = self._fleet.load(domain) if self._fleet is not None else None
        except StoreError:
            return None
        if found is None:
            return None
        try:
            said = json.loads(found[0])
            policy = Policy(said["mode"], int(said["max_age"]), tuple(map(str, said["mx"])))
            return _Kept(policy, str(said["id"]), self._clock() + found[1])
        except (ValueError, KeyError, TypeError):
            return None

    def _fetch(self, domain: str) -> Policy:
        site = Site.of(f"https://mta-sts.{domain}:{self._port}/.well-known/mta-sts.txt")
        answers = [self._dns.ask(site.host, kind) for kind in ("A", "AAAA")]
        addresses = [record.address for answer in answers for record in answer.records]
        if not addresses:
            raise WebError("its web server has no address")
        connection = WebConnection(site, self._outbound(), FETCH_S, addresses)
        try:
            headers = {"User-Agent": "mta-front", "Connection": "close"}
            answer: WebAnswer = connection.request("GET", headers, None, FETCH_S, MAX_POLICY_BYTES)
        finally:
            connection.close()
        # No redirects (§3.3); and text/plain, so that no page that users can write is taken for a policy
        if answer.status != 200 or not answer.whole or answer.content_type != "text/plain":
            raise WebError(f"answered {answer.status} {answer.content_type}")
        return parse_policy(answer.body.decode("utf-8"))

    def _forget(self) -> None:
        """Make room: what has ended, or else what ends first."""
        by_end = sorted(self._kept, key=lambda domain: self._kept[domain].until_at)
        for domain in by_end[: max(KEPT_MAX // 10, 1)]:
            del self._kept[domain]
