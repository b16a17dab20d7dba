"""Base64 as SASL wants it: strictly (RFC 4954 §4, RFC 4648 §3)."""

from __future__ import annotations

import base64
import binascii


def decoded(text: str) -> bytes | None:
    """The octets; None for what no encoder writes: foreign characters, misplaced or missing pads, stray pad bits.

    One octet string has one text, so nothing can hide in the second way to write it.
    """
    try:
        octets = binascii.a2b_base64(text, strict_mode=True)
    except (binascii.Error, ValueError):
        return None
    return octets if encoded(octets) == text else None


def encoded(octets: bytes) -> str:
    """The one text for these octets."""
    return base64.b64encode(octets).decode("ascii")
