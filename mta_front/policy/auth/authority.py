"""Sender authority: which addresses a user may give in MAIL FROM. Pure.

A pattern is an address, `*@domain` or `@domain` (any local part at that very domain), or `*` (anything). Domains are
compared as `canonical_domain` makes them, so U-labels equal their A-labels. Local parts are compared without quotes and
without regard to the case of ASCII letters: they are case-sensitive by RFC 5321 §2.4, but nobody gives `Bob@` and
`bob@` to two people. Nothing beyond that is folded, since look-alikes are how one poses as another.
"""

from __future__ import annotations

import re
from typing import Any, Literal

from mta_front.domains import canonical_domain
from mta_front.smtp.address import Address

Unlisted = Literal["any", "own", "none"]
"""What users may send as of whom no addresses are listed: anything, the address that is their name, or nothing."""

_LOCAL_PART = re.compile(r'"(?:[^"\\\x00-\x1f\x7f]|\\[ -~])*"|[^\x00-\x20\x7f<>()\[\],;:\\"@]+')
_DOMAIN = re.compile(r"\[[^\x00-\x20\x7f\[\]\\]+\]|[^\x00-\x20\x7f<>()\[\],;:\\\"@*]+")
_LOWER = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz")


def check_pattern(pattern: str) -> str:
    """The pattern as it is. Raises ValueError when it is none."""
    local, at, domain = pattern.rpartition("@")
    if pattern == "*" or (
        at and _DOMAIN.fullmatch(domain) and (local in ("", "*") or ("*" not in local and _LOCAL_PART.fullmatch(local)))
    ):
        return pattern
    raise ValueError('must be an address, "*@domain", "@domain" or "*"')


def may_send_as(user: Any, address: Address, *, unlisted: Unlisted = "any", null_sender: bool = True) -> bool:
    """May `user` (whose `addresses`, if it has any, are patterns) give `address` in MAIL FROM?

    `null_sender`: whether `<>` is allowed to everybody: a mail program's read receipts and bounces have it.
    """
    if not address.domain:
        return null_sender
    patterns = tuple(getattr(user, "addresses", ()))
    if not patterns:
        if unlisted != "own":
            return unlisted == "any"
        patterns = (str(getattr(user, "id", user)),)
    asked = _canonical(address.local_part, address.domain)
    return any(_matches(pattern, asked) for pattern in patterns)


def _matches(pattern: str, asked: tuple[str, str]) -> bool:
    if pattern == "*":
        return True
    local, _, domain = pattern.rpartition("@")
    if local in ("", "*"):
        return bool(domain) and canonical_domain(domain) == asked[1]
    return _canonical(local, domain) == asked


def _canonical(local: str, domain: str) -> tuple[str, str]:
    if local.startswith('"') and local.endswith('"') and len(local) > 1:
        local = re.sub(r"\\(.)", r"\1", local[1:-1])
    return local.translate(_LOWER), canonical_domain(domain)
