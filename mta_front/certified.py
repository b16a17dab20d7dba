"""TLS of the library: what may be said about it in a call, and the certificates that a server uses at the moment.

A server that is given neither key nor certificate makes itself a certificate for development, in memory, when it is
first needed.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypedDict

from mta_front.bounds import Check, bad, flag, unknown
from mta_front.tls.certificates import self_signed
from mta_front.tls.channel import Channel
from mta_front.tls.contexts import Contexts, TlsSettingsError, load
from mta_front.tls.current import Current
from mta_front.tls.options import NameOptions, TlsOptions, path_of

Pem = str | bytes | Path
"""PEM as text or bytes, or the path of a PEM file."""


class NameArguments(TypedDict, total=False):
    """What may be said about one name of `sni`. What is left out is as for all other names."""

    key: Pem | Sequence[Pem]
    cert: Pem | Sequence[Pem]
    ca: Pem | Sequence[Pem]
    request_cert: bool
    reject_unauthorized: bool
    ocsp_file: str | Path


class TlsArguments(NameArguments, total=False):
    """The options of `SMTPServer` that say which certificates, and for whom; see `mta_front.tls.options`."""

    min_version: str
    max_version: str
    ciphers: str
    tickets: bool
    sni: Mapping[str, NameArguments]


# -- what each may be ------------------------------------------------------------------------------------------------

_NO_PATH = re.compile(r".*\n.*|[A-Za-z0-9+/=]{100,}", re.DOTALL)
"""Text that would be taken for a path, and is rather a key that has lost its first and last line."""

_SOURCES = "PEM or the path of a PEM file, as text, bytes or Path, or a list of them"


def _sources(name: str, value: object) -> tuple[Pem, ...]:
    """Keys are among them, so what is wrong is never shown."""
    listed = isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping)
    found = tuple(value) if listed and isinstance(value, Iterable) else (value,)
    if not all(isinstance(source, str | bytes | Path) for source in found):
        raise TypeError(f"{name}=…: must be {_SOURCES}")
    if not found or any(
        not source or (isinstance(source, str) and _NO_PATH.fullmatch(path_of(source))) for source in found
    ):
        raise ValueError(f"{name}=…: must be {_SOURCES}")
    return found


def _words(name: str, value: object) -> str:
    if not isinstance(value, str):
        bad(TypeError, name, value, "text")
    return value


def _path(name: str, value: object) -> str:
    if not isinstance(value, str | Path):
        bad(TypeError, name, value, "the path of a file")
    return str(value)


def _names(name: str, value: object) -> dict[str, NameOptions]:
    allowed = 'a dictionary like {"mail.example.com": {"key": …, "cert": …}}'
    if not isinstance(value, Mapping):
        raise TypeError(f"{name}=…: must be {allowed}")
    made = {}
    for host, given in value.items():
        if not (isinstance(host, str) and isinstance(given, Mapping)):
            raise TypeError(f"{name}=…: must be {allowed}")
        where = f'{name}."{host}"'
        made[host] = NameOptions(**_values(where, given, _NAME_CHECKS, f"{where}."))
    return made


_NAME_CHECKS: dict[str, Check] = {
    "key": _sources,
    "cert": _sources,
    "ca": _sources,
    "request_cert": flag,
    "reject_unauthorized": flag,
    "ocsp_file": _path,
}

TLS_CHECKS: dict[str, Check] = {
    **_NAME_CHECKS,
    "min_version": _words,
    "max_version": _words,
    "ciphers": _words,
    "tickets": flag,
    "sni": _names,
}
"""The options in `TlsArguments`, and what each may be."""

TLS_RENAMED = {
    "sni_options": "sni",
    "certificate": "cert",
    "certfile": "cert",
    "private_key": "key",
    "keyfile": "key",
    "cafile": "ca",
}
"""Names that other libraries use, in snake case, and ours."""


def _values(owner: str, given: Mapping[Any, object], checks: Mapping[str, Check], prefix: str = "") -> dict[str, Any]:
    values = {}
    for name, value in given.items():
        if name not in checks:
            unknown(owner, name, checks, TLS_RENAMED)
        values[name] = checks[name](f"{prefix}{name}", value)
    return values


# -- the certificates of the moment ----------------------------------------------------------------------------------


class Certified:
    """The certificates of one server. `values`: checked options; `name`: the server's.

    Raises ValueError, with all that is wrong, when there is something in `values` that cannot be used.
    """

    def __init__(self, values: Mapping[str, Any], name: str) -> None:
        self._lock = threading.RLock()
        self._said = TlsOptions(**values)
        self._name = name
        self._development: tuple[bytes, bytes] | None = None
        self._current = Current(self._load(self._said)) if values else None

    def channel(self) -> Channel:
        """A new connection with the certificates of the moment, which it keeps."""
        current = self._current
        if current is None:
            with self._lock:
                current = self._current = self._current or Current(self._load(self._said))
        return current.channel()

    def update(self, given: Mapping[str, object]) -> None:
        """See `SMTPServer.update_secure_context`."""
        values = _values("update_secure_context", given, TLS_CHECKS)
        with self._lock:
            said = replace(self._said, **values)
            contexts = self._load(said)
            self._said = said
            if self._current is None:
                self._current = Current(contexts)
            else:
                self._current.swap(contexts)

    def _load(self, said: TlsOptions) -> Contexts:
        if not said.key and not said.cert:
            if self._development is None:
                self._development = self_signed(self._name)
            key, cert = self._development
            said = replace(said, key=key, cert=cert)
        try:
            return load(said)
        except TlsSettingsError as error:
            raise ValueError(str(error)) from None
