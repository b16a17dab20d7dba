"""Why a header of the PROXY protocol is refused: a small closed set, so that it can be the label of a metric."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """What is wrong with a header. After any of these the connection ends; there is nobody to answer."""

    SIGNATURE = "signature"
    """The first octets are no header's."""
    VERSION = "version"
    """A binary header of a version that is not 2."""
    COMMAND = "command"
    """Neither LOCAL nor PROXY."""
    FAMILY = "family"
    """A family or transport that is unassigned, or is not a stream."""
    TOO_LONG = "too_long"
    """Version 1: no CRLF within 107 octets. Version 2: more than the listener takes."""
    TOO_SHORT = "too_short"
    """Version 2: its length has no room for its addresses."""
    MALFORMED = "malformed"
    """Version 1: not the words, single spaces and CRLF that the protocol has."""
    ADDRESS = "address"
    """Not an address of the family that it says."""
    PORT = "port"
    """Not a decimal number of 0 to 65535, without sign or leading zero."""
    TLV = "tlv"
    """A TLV that runs over the end, is too short or too long for its type, or comes twice."""
    TEXT = "text"
    """A text that is not printable, or not in its character set."""
    CHECKSUM = "checksum"
    """The CRC32C is not that of the header."""


class BadHeader(Exception):
    """The peer's header is not one; the connection must end (specification §2: "abort the connection").

    The text says more than `reason` does, and never repeats what the peer sent.
    """

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(text)
        self.reason = reason
