"""Who may do more at the admin port than ask whether we are well (DECISIONS W13).

Operations, and pages that show addresses, need the token of `[admin]`, as `Authorization: Bearer TOKEN`. The Host must
be an address or one of our names: a page in an operator's browser whose name was made to lead here (DNS rebinding)
comes with a name of its own.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
from collections.abc import Iterable, Mapping
from typing import Any


class Access:
    """`token`: "" lets nobody in. `hosts`: names by which clients may call us, beside localhost and any address."""

    def __init__(self, token: str = "", hosts: Iterable[str] = ()) -> None:
        self._digest = _digest(token) if token else b""
        self._hosts = {"localhost", *(host.lower() for host in hosts)}

    @property
    def open(self) -> bool:
        """Whether there is a token at all."""
        return bool(self._digest)

    def host_known(self, environ: Mapping[str, Any]) -> bool:
        """Whether the client calls us by a name, or an address, that may be ours."""
        host = _without_port(str(environ.get("HTTP_HOST", "")).strip()).lower()
        if host.removesuffix(".") in self._hosts:
            return True
        try:
            ipaddress.ip_address(host)
        except ValueError:
            return False
        return True

    def token_shown(self, environ: Mapping[str, Any]) -> bool:
        """Whether the client has the token. Takes as long for a near miss as for any other."""
        scheme, _, given = str(environ.get("HTTP_AUTHORIZATION", "")).partition(" ")
        right = hmac.compare_digest(_digest(given.strip()), self._digest or _digest(""))
        return right and self.open and scheme.lower() == "bearer"


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def _without_port(host: str) -> str:
    found = re.fullmatch(r"\[([0-9a-f:.]+)\](?::[0-9]*)?|([^:]*)(?::[0-9]*)?", host, re.IGNORECASE)
    return (found[1] or found[2]) if found else ""
