"""Domains as they are compared: equal ones become equal text. Pure."""

from __future__ import annotations

import idna


def canonical_domain(domain: str) -> str:
    """Lower case, no dot at the end, U-labels as A-labels (RFC 5890).

    What IDNA does not allow stays as it is: it can then match nothing but itself.
    """
    domain = domain.lower().removesuffix(".")
    if domain.isascii():
        return domain
    try:
        return idna.encode(domain, uts46=True).decode("ascii")
    except UnicodeError:  # idna.IDNAError is one
        return domain
