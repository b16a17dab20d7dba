"""Which mechanisms the settings can verify, without a worker: for `check`. Reads the users file, asks nobody."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mta_front.policy.auth.backend import PASSWORD_METHODS, TOKEN_METHODS
from mta_front.policy.auth.file import UsersFileError, methods_of, read

if TYPE_CHECKING:
    from mta_front.settings.auth import Auth


@dataclass(frozen=True, slots=True)
class Offer:
    """`methods`: what some backend can verify. `faults`: what keeps them from starting. `remarks`: what is worth saying
    of mechanisms that only some users can use. One line each, nothing secret.
    """

    methods: frozenset[str]
    faults: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    def missing(self, wanted: frozenset[str]) -> frozenset[str]:
        """Those of a listener's mechanisms that nobody can verify, so that they are not advertised."""
        return wanted - self.methods


def offer_of(auth: Auth, hook_methods: frozenset[str] = frozenset()) -> Offer:
    """What these backends offer; `hook_methods`: what on_auth is asked for, empty if there is none."""
    methods: set[str] = set()
    faults: list[str] = []
    remarks: list[str] = []
    external = ["EXTERNAL"] if auth.certificates else []
    by_name: dict[str, set[str]] = {
        "redis": {*auth.redis.methods, *external},
        "http": set(auth.http.methods),
        "oauth2": set(TOKEN_METHODS),
        "dovecot": set(PASSWORD_METHODS),
        "hook": set(hook_methods),
    }
    for name in auth.backends:
        if name != "file":
            methods |= by_name[name]
        elif auth.file.path is not None:
            try:
                users, _ = read(auth.file.path)
            except UsersFileError as error:
                faults += error.faults
                continue
            held = methods_of(users, auth.certificates)
            methods |= held.keys()
            remarks += [
                f"{auth.file.path}: {held[method]} of {len(users.entries)} users can use {method}"
                for method in ("CRAM-MD5", "SCRAM-SHA-256")
                if 0 < held.get(method, 0) < len(users.entries)
            ]
    return Offer(frozenset(methods), tuple(faults), tuple(remarks))
