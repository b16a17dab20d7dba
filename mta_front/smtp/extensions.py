"""The service extensions, in the order in which EHLO lists them. A hidden one still works; it is not advertised."""

from __future__ import annotations

from mta_front.smtp.replies import Reply


def advertised(
    *,
    size_bytes: int,
    hide_pipelining: bool = False,
    hide_size: bool = False,
    hide_8bitmime: bool = False,
    hide_enhancedstatuscodes: bool = False,
    hide_smtputf8: bool = False,
) -> tuple[str, ...]:
    """The lines after the first of an EHLO reply. `size_bytes` 0: "SIZE" without a number (RFC 1870 §3)."""
    lines = (
        (hide_pipelining, "PIPELINING"),
        (hide_size, f"SIZE {size_bytes}" if size_bytes else "SIZE"),
        (hide_8bitmime, "8BITMIME"),
        (hide_enhancedstatuscodes, "ENHANCEDSTATUSCODES"),
        (hide_smtputf8, "SMTPUTF8"),
        (False, "CHUNKING"),
    )
    return tuple(line for hidden, line in lines if not hidden)


def hello_reply(greeting: str, extensions: tuple[str, ...]) -> Reply:
    """The answer to EHLO; to HELO with no extensions."""
    return Reply.of_lines(250, "", [greeting, *extensions])
