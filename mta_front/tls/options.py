"""What an operator says about TLS. Plain values: `mta_front.tls.contexts` reads and checks them.

Standard library only: the master, which holds no OpenSSL, asks `files()` what to read, and hands the bytes to workers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

Source = str | bytes | Path
"""PEM as text or bytes, or the path of a PEM file."""

Sources = Source | Sequence[Source]

_PEM_MARK = "-----BEGIN"


@dataclass(frozen=True, slots=True, kw_only=True)
class NameOptions:
    """What is said for one name. Certificates of several kinds (RSA, ECDSA, Ed25519) may be given, with their keys.

    A name of `TlsOptions.sni` that says neither `key` nor `cert` uses those of the listener; what it leaves None about
    client certificates is as the listener has it, so that a new name is never laxer by accident.
    """

    key: Sources = field(default=(), repr=False)
    cert: Sources = field(default=(), repr=False)
    """Each with its chain, the server's own certificate first."""

    ca: Sources | None = field(default=None, repr=False)
    """Who may have issued client certificates."""

    request_cert: bool | None = None
    """Ask clients for a certificate."""

    reject_unauthorized: bool | None = None
    """With `request_cert`: end the handshake of who shows none, or one that is not valid. None is True."""

    ocsp_file: str = ""
    """An OCSP response (DER, RFC 6960) about the certificate, stapled while it is valid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsOptions(NameOptions):
    """What is said for a listener. Its names share versions and ciphers, which are settled before the name is known."""

    min_version: str = "TLSv1.2"
    max_version: str = ""
    """The newest that there is, if empty."""

    ciphers: str = ""
    """OpenSSL's words for suites of TLS 1.2, names of suites of TLS 1.3, or both. Weak ones are left out."""

    tickets: bool = False
    """Let clients resume sessions. Not together with client certificates."""

    sni: Mapping[str, NameOptions] = field(default_factory=dict)
    """By name, or by `*.domain`, which stands for one label."""

    def files(self) -> tuple[str, ...]:
        """The paths of all files that are to be read, each once."""
        paths: dict[str, None] = {}
        for options in (self, *self.sni.values()):
            for sources in (options.key, options.cert, options.ca or ()):
                paths.update(dict.fromkeys(path_of(source) for source in each_of(sources)))
            paths[options.ocsp_file] = None
        paths.pop("", None)
        return tuple(paths)


def each_of(sources: Sources) -> Iterator[Source]:
    """One or several sources, one by one; an empty text is none."""
    if isinstance(sources, str | bytes | Path):
        if sources:
            yield sources
    else:
        yield from sources


def path_of(source: Source) -> str:
    """The path of the file that holds it; "" if it is PEM itself."""
    if isinstance(source, bytes) or (isinstance(source, str) and _PEM_MARK in source):
        return ""
    return str(source)
