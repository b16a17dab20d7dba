"""The messages of XOAUTH2 (Google's) and OAUTHBEARER (RFC 7628): a bearer token instead of a password."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from mta_front.smtp.errors import BadSyntax
from mta_front.smtp.replies import AUTH_MALFORMED
from mta_front.smtp.scram import parse_gs2_header
from mta_front.smtp.secret import Secret

MAX_ERROR_BYTES = 9_000
"""Of an error challenge: 12,288 octets in Base64 with the code is the longest line of an exchange (RFC 4954 §4)."""

_PAIR = re.compile(r"([A-Za-z]+)=([\x20-\x7e\t\r\n]*)")
# RFC 6750 §2.1: no space and no control, so a token can go into an HTTP header as it is
_BEARER = re.compile(r"bearer +([\x21-\x7e]+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True, repr=False)
class Bearer(Secret):
    """`username` as sent, not prepared ("" for none: OAUTHBEARER only); `token` "" where the client only asks how."""

    username: str
    token: str


def parse_xoauth2(message: str) -> Bearer:
    """`user=NAME^Aauth=Bearer TOKEN^A^A`. Raises BadSyntax."""
    user, found, rest = message.partition("\x01")
    token = _BEARER.fullmatch(_pairs(found + rest).get("auth", ""))
    if not token or not user.startswith("user="):
        raise BadSyntax(AUTH_MALFORMED)
    return Bearer(user.removeprefix("user="), token[1])


def parse_oauthbearer(message: str) -> Bearer:
    """RFC 7628 §3.1: a GS2 header, then pairs; any other scheme than Bearer is a token of "". Raises BadSyntax."""
    _, authzid, at = parse_gs2_header(message)
    pairs = _pairs(message[at:])
    if "auth" not in pairs:
        raise BadSyntax(AUTH_MALFORMED)
    token = _BEARER.fullmatch(pairs["auth"])
    return Bearer(authzid, token[1] if token else "")


def error_challenge(data: Mapping[str, object]) -> bytes:
    """What the client is told when its token is not good, as JSON: `status`, `schemes`, `scope` (RFC 7628 §3.2.2).

    Raises TypeError or ValueError for what is no JSON, ValueError beyond 9,000 octets.
    """
    challenge = json.dumps(data, separators=(",", ":"), allow_nan=False).encode("ascii")
    if len(challenge) > MAX_ERROR_BYTES:
        raise ValueError(f"the error challenge has {len(challenge)} octets, more than {MAX_ERROR_BYTES}")
    return challenge


def _pairs(text: str) -> dict[str, str]:
    """RFC 7628 §3.1: kvsep *(key "=" value kvsep) kvsep, where kvsep is ^A; here the first is ahead of the pairs."""
    found: dict[str, str] = {}
    for pair in text[1:-2].split("\x01"):
        match = _PAIR.fullmatch(pair)
        if not match or match[1] in found:
            raise BadSyntax(AUTH_MALFORMED)
        found[match[1]] = match[2]
    if not text.startswith("\x01") or not text.endswith("\x01\x01"):
        raise BadSyntax(AUTH_MALFORMED)
    return found
