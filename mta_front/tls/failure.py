"""How TLS with a peer can fail: one exception, a few reasons, and nothing of what the peer sent in any text."""

from __future__ import annotations

from typing import Literal, get_args

Reason = Literal[
    "plaintext",  # the peer's first bytes are text: it does not speak TLS, or takes the port for another
    "garbage",  # bytes that are no TLS record, or that do not decrypt
    "version",  # no protocol version in common, or a downgrade (RFC 7507)
    "no_shared_cipher",  # no cipher, group or signature algorithm in common
    "client_certificate",  # missing or not accepted; `detail` says why
    "refused",  # the peer sent a fatal alert: often it does not accept our certificate
    "unfinished",  # it went away inside the handshake
    "truncated",  # it went away later, without a close_notify (RFC 8446 §6.1)
    "protocol",  # any other fault
]
"""A closed set, fit to be a metric's label."""

REASONS: tuple[Reason, ...] = get_args(Reason)


class TlsFailure(ConnectionError):
    """TLS with this peer is over. Not a bug; `detail` is a constant of ours or of OpenSSL's, "" if there is none."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(f"TLS: {reason}: {detail}" if detail else f"TLS: {reason}")
        self.reason: Reason = reason
        self.detail = detail
