"""Delivery status notifications: what a sender is told of a message (RFC 3461–3464, 6522, 6533). Pure.

A report has three parts: words for people, a status for programs, and the message or its header. It goes out as a
message of its own, with the null reverse-path, so that nothing is ever reported of a report (RFC 3464 §2).

All text in it comes from a queue that others may write to, or from next hops: none of it gets a control character
through, and none of it is long.
"""

from __future__ import annotations

import re
from base64 import encodebytes
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from email.utils import formatdate
from hashlib import blake2b
from typing import Literal

from mta_front.store.entry import Entry, RcptDsn
from mta_front.store.message_id import derived_id

Kind = Literal["failure", "delay", "success"]
Action = Literal["failed", "delayed", "delivered", "relayed"]  # RFC 3464 §2.3.3

HEADER_BYTES = 64 * 1024  # of a message's header; what is longer is cut at a line's end
TEXT_OCTETS = 600  # of what a next hop said; a line of a message has 998 at most (RFC 5322 §2.1.1)

_HEADER_END = re.compile(rb"\r?\n\r?\n")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_PLAIN = frozenset({"smtp", "lmtp", "http"})  # transports with somebody at the other end


@dataclass(slots=True)
class Told:
    """What is reported of one recipient. `status`: enhanced code; `code` 0: no reply; `at`: unix seconds."""

    recipient: str
    action: Action
    status: str
    code: int = 0
    text: str = ""
    next_hop: str = ""
    transport: str = ""
    at: float = 0.0


@dataclass(slots=True)
class Returned:
    """What goes back of the message. `whole`: all of it, else its header; None in `content`: nothing, it is lost."""

    content: bytes | None
    whole: bool


def gather(envelope: Entry, segments: Callable[[], Iterable[bytes]], kind: Kind, max_bytes: int) -> Returned:
    """Read as much of the message as is given back: all of one that failed and has no more than `max_bytes`, unless
    the sender wants its header only (RFC 3461 §4.3), or wanted TLS all the way (RFC 8689 §5); else its header.
    """
    ret = (envelope.dsn or {}).get("ret", "FULL")
    binary = envelope.body_type == "binarymime"  # it would need BINARYMIME all the way back
    small = envelope.size_bytes <= max_bytes
    if kind == "failure" and ret == "FULL" and small and not envelope.require_tls and not binary:
        return Returned(b"".join(segments()), True)
    header = bytearray()
    for segment in segments():
        header += segment
        end = _HEADER_END.search(header, max(0, len(header) - len(segment) - 4))
        if end is not None:
            return Returned(bytes(header[: end.start()]) + b"\r\n", False)
        if len(header) > HEADER_BYTES:
            break
    return Returned(bytes(header[: header.rfind(b"\n", 0, HEADER_BYTES) + 1]), False)


def compose(
    kind: Kind,
    envelope: Entry,
    told: Sequence[Told],
    returned: Returned,
    *,
    attempt: int,
    name: str,
    now: float,
    retry_until: float = 0.0,
) -> tuple[Entry, bytes]:
    """The report on some recipients of a message: the envelope and the message. The same arguments give the same
    id. `name`: our host's; `retry_until`: for a delay, when we give up. Times in unix seconds.
    """
    report_id = derived_id(envelope.id, kind, attempt)
    native = not envelope.mail_from.isascii()  # the way back needs SMTPUTF8 anyway (RFC 6533 §3)
    name = _clean(name)
    parts = [
        _text(_words(kind, told, returned, name, retry_until), native),
        _status(kind, envelope, told, name, retry_until, native),
    ]
    if returned.content is not None:
        parts.append(_enclosed(returned, envelope.smtp_utf8, native))
    boundary = _boundary(report_id, parts)
    eight_bit = native or not all(part.isascii() for part in parts)
    head = "\r\n".join(
        [
            f"From: Mail Delivery System <MAILER-DAEMON@{name}>",
            f"To: <{_clean(envelope.mail_from)}>",
            f"Subject: {_SUBJECTS[kind]}",
            f"Date: {formatdate(now)}",
            f"Message-ID: <{report_id}@{name}>",
            "Auto-Submitted: auto-replied",  # RFC 3834 §5: no answering machine answers it
            "MIME-Version: 1.0",
            f'Content-Type: multipart/report; report-type=delivery-status;\r\n boundary="{boundary}"',
            f"Content-Transfer-Encoding: {'8bit' if eight_bit else '7bit'}",
            "",
            "This is a report on the delivery of a message, in MIME format.",
            "",
        ]
    ).encode()
    mark = b"--" + boundary.encode()
    body = b"\r\n".join([head, *(mark + b"\r\n" + part for part in parts), mark + b"--\r\n"])
    report = Entry(
        id=report_id,
        received_at=now,
        mail_from="",
        rcpt_to=[envelope.mail_from],
        size_bytes=len(body),
        body_type="8bitmime" if eight_bit else "7bit",
        smtp_utf8=native,
        require_tls=envelope.require_tls,  # RFC 8689 §5
    )
    return report, body


_SUBJECTS: dict[Kind, str] = {
    "failure": "Your message could not be delivered",
    "delay": "Your message is delayed; it is still being tried",
    "success": "Your message was delivered",
}
_FIRST: dict[Action, str] = {
    "failed": "Your message could not be delivered to:",
    "delayed": "Your message could not be delivered yet to:",
    "delivered": "Your message was delivered to:",
    "relayed": "Your message was passed on, to a server that sends no reports, for:",
}


# -- the first part: for people ----------------------------------------------------------------------------------------


def _words(kind: Kind, told: Sequence[Told], returned: Returned, name: str, retry_until: float) -> str:
    lines = [f"This is the mail server {name}.", ""]
    for action, first in _FIRST.items():
        those = [one for one in told if one.action == action]
        if those:
            lines += [first, ""]
        for one in those:
            lines.append(f"    {_clean(one.recipient)}")
            if kind != "success":
                lines.append(f"        {_cut(_reason(one))}")
            lines.append("")
    if kind == "failure":
        lines.append("It will not be tried again.")
    elif kind == "delay":
        lines.append(f"You need not send it again. It will be tried until {formatdate(retry_until)}.")
    what = "Your message" if returned.whole else "The header of your message"
    lines.append("Your message was lost here." if returned.content is None else f"{what} is attached.")
    return "\r\n".join(lines) + "\r\n"


def _reason(one: Told) -> str:
    said = f"{one.code} {one.text}" if one.code else one.text
    return f"{one.next_hop} said: {said}" if one.code and _from_afar(one) else said


def _from_afar(one: Told) -> bool:
    """Whether the reply came from somebody else, as far as is known."""
    return one.transport in _PLAIN and bool(one.next_hop)


def _text(words: str, native: bool) -> bytes:
    if words.isascii():
        return b"Content-Type: text/plain; charset=us-ascii\r\n\r\n" + words.encode()
    return b"Content-Type: text/plain; charset=utf-8\r\n" + _encoded(words.encode(), native)


# -- the second part: for programs (RFC 3464 §2) -----------------------------------------------------------------------


def _status(kind: Kind, envelope: Entry, told: Sequence[Told], name: str, retry_until: float, native: bool) -> bytes:
    dsn = envelope.dsn or {}
    lines = [f"Original-Envelope-Id: {_cut(dsn['envid'])}"] if dsn.get("envid") else []
    lines.append(f"Reporting-MTA: dns; {name}")
    if envelope.helo:
        lines.append(f"Received-From-MTA: dns; {_cut(envelope.helo)}")
    lines += [f"Arrival-Date: {formatdate(envelope.received_at)}", ""]
    each = dsn.get("rcpt", {})
    for one in told:
        lines += _fields(kind, one, each.get(one.recipient, {}), retry_until)
        lines.append("")
    text = "\r\n".join(lines) + "\r\n"
    if text.isascii():
        return b"Content-Type: message/delivery-status\r\n\r\n" + text.encode()
    return b"Content-Type: message/global-delivery-status\r\n" + _encoded(text.encode(), native)


def _fields(kind: Kind, one: Told, said: RcptDsn, retry_until: float) -> list[str]:
    lines = []
    address_type, _, original = _clean(said.get("orcpt", "")).partition(";")
    if original:
        lines.append(f"Original-Recipient: {address_type}; {_cut(original)}")
    final = _cut(one.recipient)
    lines.append(f"Final-Recipient: {'rfc822' if final.isascii() else 'utf-8'}; {final}")
    lines += [f"Action: {one.action}", f"Status: {one.status}"]
    host = _host(one.next_hop)
    if one.code and _from_afar(one):
        if host:
            lines.append(f"Remote-MTA: dns; {host}")
        lines.append(f"Diagnostic-Code: smtp; {_cut(f'{one.code} {one.text}')}")
    elif one.text and kind != "success":
        lines.append(f"Diagnostic-Code: x-mta-front; {_cut(one.text)}")
    if one.at:
        lines.append(f"Last-Attempt-Date: {formatdate(one.at)}")
    if kind == "delay":
        lines.append(f"Will-Retry-Until: {formatdate(retry_until)}")
    return lines


def _host(next_hop: str) -> str:
    """The host of HOST:PORT; "" of a Unix socket."""
    if next_hop.startswith("unix:"):
        return ""
    return _cut(next_hop.rpartition(":")[0] or next_hop)


# -- the third part: the message ---------------------------------------------------------------------------------------


def _enclosed(returned: Returned, smtp_utf8: bool, native: bool) -> bytes:
    """`message/global` and its like are for headers in UTF-8 (RFC 6532 §3.7, RFC 6533 §4). They may be encoded,
    `message/rfc822` may not (RFC 2046 §5.2.1).
    """
    content = returned.content or b""
    end = _HEADER_END.search(content)
    header = content[: end.start()] if end else content
    plain = header.isascii() or not smtp_utf8
    if returned.whole:
        if plain:
            encoding = b"" if content.isascii() else b"Content-Transfer-Encoding: 8bit\r\n"
            return b"Content-Type: message/rfc822\r\n" + encoding + b"\r\n" + content
        return b"Content-Type: message/global\r\n" + _encoded(content, native)
    if header.isascii():
        return b"Content-Type: text/rfc822-headers\r\n\r\n" + content
    if plain:  # octets of nobody knows which charset (RFC 1428)
        return b"Content-Type: text/rfc822-headers; charset=unknown-8bit\r\n" + _encoded(content, native=False)
    return b"Content-Type: message/global-headers\r\n" + _encoded(content, native)


def _encoded(content: bytes, native: bool) -> bytes:
    if native:
        return b"Content-Transfer-Encoding: 8bit\r\n\r\n" + content
    return b"Content-Transfer-Encoding: base64\r\n\r\n" + encodebytes(content).replace(b"\n", b"\r\n")


def _boundary(report_id: str, parts: Sequence[bytes]) -> str:
    """One that is in no part; who wrote the message cannot know it, as it depends on all of it."""
    digest = blake2b(report_id.encode(), digest_size=12)
    for part in parts:
        digest.update(part)
    boundary = f"={report_id}/{digest.hexdigest()}"
    while any(boundary.encode() in part for part in parts):
        digest.update(b"again")
        boundary = f"={report_id}/{digest.hexdigest()}"
    return boundary


def _clean(text: str) -> str:
    """No control characters, so no line ends, and nothing that is not UTF-8."""
    return _CONTROL.sub("?", text)


def _cut(text: str) -> str:
    text = _clean(text)
    raw = text.encode()
    return text if len(raw) <= TEXT_OCTETS else raw[:TEXT_OCTETS].decode("utf-8", "ignore") + "…"
