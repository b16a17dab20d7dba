"""The service extensions, in the order in which EHLO lists them. A hidden one still works; it is not advertised."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from mta_front.smtp.replies import Reply


def advertised(
    *,
    size_bytes: int,
    secure: bool = False,
    starttls: bool = False,
    auth: Sequence[str] = (),
    max_recipients: int = 0,
    max_messages: int = 0,
    hide_pipelining: bool = False,
    hide_size: bool = False,
    hide_8bitmime: bool = False,
    hide_enhancedstatuscodes: bool = False,
    hide_smtputf8: bool = False,
    hide_dsn: bool = False,
    hide_requiretls: bool = False,
    disabled_commands: frozenset[str] = frozenset(),
) -> tuple[str, ...]:
    """The lines after the first of an EHLO reply.

    `size_bytes` 0: "SIZE" without a number (RFC 1870 §3). REQUIRETLS is offered over TLS only (RFC 8689 §2). Limits
    that are 0 are none and not named (RFC 9422 §3). `auth`: mechanisms that may be used now (RFC 4954 §3).
    """
    limits = [f"MAILMAX={max_messages}"] * bool(max_messages) + [f"RCPTMAX={max_recipients}"] * bool(max_recipients)
    chunks = "BDAT" not in disabled_commands
    lines = (
        (not hide_pipelining, "PIPELINING"),
        (not hide_size, f"SIZE {size_bytes}" if size_bytes else "SIZE"),
        (not hide_8bitmime, "8BITMIME"),
        (not hide_enhancedstatuscodes, "ENHANCEDSTATUSCODES"),
        (bool(auth), " ".join(["AUTH", *auth])),
        (starttls, "STARTTLS"),
        (not hide_dsn, "DSN"),
        (not hide_smtputf8, "SMTPUTF8"),
        (secure and not hide_requiretls, "REQUIRETLS"),
        (chunks, "CHUNKING"),
        (chunks, "BINARYMIME"),
        (bool(limits), " ".join(["LIMITS", *limits])),
    )
    return tuple(line for offered, line in lines if offered)


@lru_cache(maxsize=256)  # a client says it twice where there is STARTTLS, and many have no name but their address
def hello_reply(greeting: str, extensions: tuple[str, ...]) -> Reply:
    """The answer to EHLO; to HELO with no extensions."""
    return Reply.of_lines(250, "", [greeting, *extensions])
