"""The files that routes name, tried as a relay would: for `check`, and before a start."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from OpenSSL import SSL

from mta_front.settings.routes import Route
from mta_front.tls.outbound import Outbound


def faults_of(routes: Sequence[Route]) -> Iterator[tuple[int, str, str]]:
    """The number of the route, the key, and what is wrong with its file."""
    for number, route in enumerate(routes):
        for path in route.tls_ca:
            if why := _why_useless(path, ca_files=(path,)):
                yield number, "tls_ca", why
        if route.tls_cert and route.tls_key:
            if why := _unreadable(route.tls_key):
                yield number, "tls_key", why
            elif why := _why_useless(route.tls_cert, identity=(route.tls_cert, route.tls_key)):
                yield number, "tls_cert", why
        if route.password_file is not None:
            if why := _unreadable(route.password_file):
                yield number, "password_file", why
            elif not route.password_file.read_bytes().rstrip(b"\r\n"):
                yield number, "password_file", "is empty"


def _why_useless(path: str, ca_files: Sequence[str] = (), identity: tuple[str, str] | None = None) -> str:
    if why := _unreadable(path):
        return why
    try:
        Outbound(ca_files, identity)
    except SSL.Error as error:
        words = "; ".join(dict.fromkeys(entry[2] for entry in error.args[0])) if error.args else ""
        return f"is no PEM that can be used: {words or 'OpenSSL does not say why'}"
    return ""


def _unreadable(path: str | Path) -> str:
    try:
        with Path(path).open("rb"):
            return ""
    except OSError as error:
        return f"cannot be read: {error.strerror}"
