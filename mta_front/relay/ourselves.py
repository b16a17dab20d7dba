"""Are we who a mail exchanger's record names? Mail for whom we are the best exchanger would come back for ever."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import ip_address

from mta_front.domains import canonical_domain
from mta_front.settings.values import Bind


class Ourselves:
    """`names` that we greet with; `binds`: where our listeners are."""

    def __init__(self, names: Iterable[str] = (), binds: Iterable[Bind] = ()) -> None:
        self._names = {canonical_domain(name) for name in names if name}
        self._places: set[tuple[str, int]] = set()
        self._everywhere: set[tuple[int, int]] = set()  # IP version and port
        for bind in binds:
            if bind.kind != "tcp":
                continue
            try:
                address = ip_address(bind.host)
            except ValueError:
                continue
            if address.is_unspecified:
                self._everywhere.add((address.version, bind.port))
            else:
                self._places.add((str(address), bind.port))

    def named(self, host: str) -> bool:
        """Whether this is one of our names."""
        return canonical_domain(host) in self._names

    def serves(self, address: str, port: int) -> bool:
        """Whether one of our listeners is there."""
        if (str(ip_address(address)), port) in self._places:
            return True
        return (ip_address(address).version, port) in self._everywhere and _is_of_this_host(address)


@lru_cache(maxsize=1000)
def _is_of_this_host(address: str) -> bool:
    """Only an address of our own can be bound."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True
