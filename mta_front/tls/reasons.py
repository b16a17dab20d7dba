"""What OpenSSL's errors mean: which of our reasons, and what is wrong with a certificate."""

from __future__ import annotations

from OpenSSL import SSL

from mta_front.tls.failure import Reason, TlsFailure

_HANDSHAKE_RECORD = 0x16
"""ContentType handshake (RFC 8446 §5.1): what every TLS connection begins with."""

_BY_TEXT: dict[str, Reason] = {
    "http request": "plaintext",
    "https proxy request": "plaintext",
    "unsupported protocol": "version",
    "version too low": "version",
    "inappropriate fallback": "version",
    "no shared cipher": "no_shared_cipher",
    "no suitable key share": "no_shared_cipher",
    "no suitable groups": "no_shared_cipher",
    "no suitable signature algorithm": "no_shared_cipher",
    "no shared signature algorithms": "no_shared_cipher",
    "peer did not return a certificate": "client_certificate",
    "certificate verify failed": "client_certificate",
    "decryption failed or bad record mac": "garbage",
    "wrong version number": "garbage",
    "invalid record type": "garbage",
    "bad record type": "garbage",
    "packet length too long": "garbage",
    "encrypted length too long": "garbage",
    "record layer failure": "garbage",
    "tlsv1 alert protocol version": "version",
}
"""OpenSSL's words (ERR_reason_error_string), which are constants of its own."""

_NO_CERTIFICATE = "peer did not return a certificate"

_CODES = SSL.X509VerificationCodes
_WHY_UNVERIFIED = {
    _CODES.ERR_CERT_HAS_EXPIRED: "expired",
    _CODES.ERR_CERT_NOT_YET_VALID: "not yet valid",
    _CODES.ERR_UNABLE_TO_GET_ISSUER_CERT: "unknown issuer",
    _CODES.ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY: "unknown issuer",
    _CODES.ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE: "unknown issuer",
    _CODES.ERR_DEPTH_ZERO_SELF_SIGNED_CERT: "self-signed",
    _CODES.ERR_SELF_SIGNED_CERT_IN_CHAIN: "unknown issuer",
    _CODES.ERR_CERT_SIGNATURE_FAILURE: "bad signature",
    _CODES.ERR_INVALID_PURPOSE: "not for clients",
}


def why_unverified(code: int) -> str:
    """An X509_V_ERR_* code in a few words; "" for none."""
    return _WHY_UNVERIFIED.get(code, f"X.509 error {code}") if code else ""


def failure_of(error: SSL.Error, *, first: bytes, established: bool, unverified: str) -> TlsFailure:
    """What an error of pyOpenSSL means.

    `first` are the first bytes that the peer sent, `unverified` says what was wrong with its certificate.
    """
    if isinstance(error, SSL.SysCallError | SSL.ZeroReturnError):
        return TlsFailure("truncated" if established else "unfinished")
    if not established and first and first[0] != _HANDSHAKE_RECORD:
        return TlsFailure("plaintext" if _is_text(first) else "garbage")
    texts = [entry[2] for entry in error.args[0]] if error.args else []
    for text in texts:
        if text in _BY_TEXT:
            reason = _BY_TEXT[text]
            if reason == "client_certificate":
                return TlsFailure(reason, "missing" if text == _NO_CERTIFICATE else unverified)
            return TlsFailure(reason, text)
        if " alert " in text:
            return TlsFailure("refused", text)
    return TlsFailure("protocol", texts[0] if texts else "")


def _is_text(data: bytes) -> bool:
    return all(0x20 <= octet < 0x7F or octet in b"\r\n\t" for octet in data)
