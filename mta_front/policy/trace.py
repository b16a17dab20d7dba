"""The trace header (RFC 5321 §4.4), and loops found by counting it (§6.3)."""

from __future__ import annotations

import re
import time
from email.utils import formatdate

from mta_front.hooks import Session

MAX_RECEIVED = 100
"""Received lines above which a message is in a loop; RFC 5321 §6.3 says at least 100."""

_UNSAFE = re.compile(r"[^A-Za-z0-9.:_\[\]-]")  # what would open a comment or a quoted string, or end the field's tokens
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

_date_second = 0
_date = ""


def _now() -> str:
    """The date of RFC 5322 §3.3, made once a second."""
    global _date_second, _date  # noqa: PLW0603
    second = int(time.time())
    if second != _date_second:
        _date = formatdate(second, localtime=True)
        _date_second = second
    return _date


def received(session: Session, message_id: str, server_name: str) -> bytes:
    """The Received: header of this hop. The recipient is named only when there is one: others are nobody's business."""
    envelope = session.envelope
    helo = _UNSAFE.sub("?", session.host_name_appears_as) or "unknown"
    address = session.remote_address
    name = session.client_hostname
    nowhere = "unknown" if "ADDR" in session.x_client else "unix"
    literal = f"IPv6:{address}" if ":" in address else address or nowhere
    client = f"{_UNSAFE.sub('?', name)} [{literal}]" if name and name[0] != "[" else f"[{literal}]"
    protocol = (
        f"UTF8{session.transmission_type.removeprefix('E')}" if envelope.smtp_utf8 else session.transmission_type
    )  # RFC 6531 §4.3
    to = f"\r\n\tfor <{_CONTROL.sub('?', envelope.rcpt_to[0].address)}>" if len(envelope.rcpt_to) == 1 else ""
    return (
        f"Received: from {helo} ({client})\r\n"
        f"\tby {server_name} (mta-front) with {protocol} id {message_id}{to};\r\n"
        f"\t{_now()}\r\n"
    ).encode()


class HopCount:
    """Counts Received lines in the header of a message that passes in segments."""

    __slots__ = ("_fresh_line", "_in_header", "hops")

    def __init__(self) -> None:
        self.hops = 0
        self._in_header = True
        self._fresh_line = True  # the next segment begins on a line

    def feed(self, segment: bytes) -> None:
        """Look at the next segment."""
        if not self._in_header:
            return
        end = segment.find(b"\r\n\r\n")
        if self._fresh_line and segment.startswith(b"\r\n"):
            end = 0
        header = segment[: end + 2] if end >= 0 else segment
        self._in_header = end < 0
        header = header.lower()
        self.hops += header.count(b"\r\nreceived:") + (self._fresh_line and header.startswith(b"received:"))
        self._fresh_line = segment.endswith(b"\r\n")
