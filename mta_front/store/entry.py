"""The envelope of a queue entry: what the front writes and the relay reads, as JSON with stable names.

The names are the layout (docs/queue.md): a reader ignores the fields it does not know and takes a missing one as its
default, so fields may be added without a new layout version; none is ever renamed or changes its meaning.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, TypedDict


class Outcome(TypedDict, total=False):
    """What became of one recipient in one attempt. `outcome` is required; the rest is for logs, reports and people."""

    outcome: str  # "delivered", "deferred" or "failed"
    code: int  # the SMTP reply code, 0 = none
    enhanced: str  # e.g. "5.1.1"
    text: str
    next_hop: str
    at: float  # unix seconds


class RcptDsn(TypedDict, total=False):
    """What the sender wants reported of one recipient (RFC 3461 §4.1, §4.2)."""

    notify: list[str]  # ["NEVER"], or some of "SUCCESS", "FAILURE", "DELAY"
    orcpt: str  # decoded: "rfc822;b@example.net"


class Dsn(TypedDict, total=False):
    """What the sender wants reported (RFC 3461 §4)."""

    ret: str  # "FULL" or "HDRS"
    envid: str  # decoded
    rcpt: dict[str, RcptDsn]  # by address, only those of whom something was said


DELIVERED, DEFERRED, FAILED = "delivered", "deferred", "failed"


@dataclass(slots=True, kw_only=True)
class Entry:
    """One message's envelope. `ValueError` from `from_json` when it cannot be read."""

    id: str
    received_at: float  # unix seconds
    listener: str = ""
    mail_from: str = ""  # "" = the null reverse-path
    rcpt_to: list[str] = field(default_factory=list)
    size_bytes: int = 0
    body_type: str = "7bit"  # "7bit", "8bitmime" or "binarymime"
    smtp_utf8: bool = False
    require_tls: bool = False
    client_address: str = ""
    client_name: str = ""
    helo: str = ""
    user: str = ""
    dsn: Dsn | None = None
    segments: int = 0  # elements of the body's list key; 0 = the body is a field of the entry

    def to_json(self) -> bytes:
        """Only what differs from its default, beside what every reader wants to find: most entries stay short."""
        shown: dict[str, Any] = {
            "id": self.id,
            "received_at": round(self.received_at, 6),
            "listener": self.listener,
            "mail_from": self.mail_from,
            "rcpt_to": self.rcpt_to,
            "size_bytes": self.size_bytes,
        }
        if self.body_type != "7bit":
            shown["body_type"] = self.body_type
        for name in ("smtp_utf8", "require_tls", "client_address", "client_name", "helo", "user", "dsn", "segments"):
            value = getattr(self, name)
            if value:
                shown[name] = value
        try:
            return _dump(shown).encode()
        except UnicodeEncodeError:  # lone surrogates: bytes that were no UTF-8; as \\udcxx they survive the trip
            return json.dumps(shown, separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, raw: bytes) -> Entry:
        """Read an envelope; `ValueError` says what is wrong with it."""
        try:
            found = json.loads(raw.decode())  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        except RecursionError:
            raise ValueError("the envelope is nested too deeply") from None
        if not isinstance(found, dict):
            raise ValueError("the envelope is not a JSON object")
        values: dict[str, Any] = {}
        for name, kind in _FIELDS.items():
            if name in found:
                value = found[name]
                if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
                    raise ValueError(f"{name} of the envelope is a {type(value).__name__}")
                values[name] = value
        for name in ("id", "received_at", "mail_from", "rcpt_to"):
            if name not in values:
                raise ValueError(f"{name} is missing in the envelope")
        if not values["rcpt_to"] or not all(isinstance(one, str) for one in values["rcpt_to"]):
            raise ValueError("rcpt_to of the envelope is not a list of addresses")
        if values.get("dsn") and not _is_dsn(values["dsn"]):
            raise ValueError("dsn of the envelope is not what it should be")
        return cls(**values)


def _is_dsn(found: dict[str, Any]) -> bool:
    """Whether what is known here has the types of `Dsn`."""
    each = found.get("rcpt", {})
    texts = [found.get("ret", ""), found.get("envid", "")]
    if not isinstance(each, dict) or not all(isinstance(said, dict) for said in each.values()):
        return False
    for said in each.values():
        notify = said.get("notify", [])
        texts += [said.get("orcpt", ""), *(notify if isinstance(notify, list) else [None])]
    return all(isinstance(text, str) for text in texts)


_dump = json.JSONEncoder(ensure_ascii=False, check_circular=False, separators=(",", ":")).encode

_FIELDS: dict[str, Any] = {
    "id": str,
    "received_at": (int, float),
    "listener": str,
    "mail_from": str,
    "rcpt_to": list,
    "size_bytes": int,
    "body_type": str,
    "smtp_utf8": bool,
    "require_tls": bool,
    "client_address": str,
    "client_name": str,
    "helo": str,
    "user": str,
    "dsn": (dict, type(None)),
    "segments": int,
}
