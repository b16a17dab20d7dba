"""From what an operator says to checked values: keys that fit their certificates, authorities, suites, staples.

Nothing here raises for what is wrong with the options: each is a fault, and all faults are told at once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from OpenSSL import SSL

from mta_front.tls.certificates import Chain, Key, Unusable, certificates_in, chain_in, fits, key_in, staple_in
from mta_front.tls.options import NameOptions, Source, Sources, TlsOptions, each_of, path_of
from mta_front.tls.suites import DEFAULT_TLS12, DEFAULT_TLS13, STANDARD_NAMES

VERSIONS = {"TLSv1.2": SSL.TLS1_2_VERSION, "TLSv1.3": SSL.TLS1_3_VERSION}
"""Older ones are not to be used (RFC 8996)."""

Read = Callable[[str], bytes]
"""The content of the file at a path; raises OSError."""

Option = tuple[str, ...]
"""An option's keys, as in ("sni", "mail.example.com", "cert")."""

_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"(?:\*\.)?{_LABEL}(?:\.{_LABEL})*")


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong: with which option, and what."""

    option: Option
    text: str

    def __str__(self) -> str:
        keys = (f'"{key}"' if "." in key else key for key in self.option)
        return f"{'.'.join(keys)}: {self.text}"


@dataclass(frozen=True, slots=True)
class Expiry:
    """When something of ours ends. `name` is the SNI name, "" for the listener's own; `serial` in hexadecimal."""

    name: str
    source: str
    serial: str
    at: float
    """Unix time."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What a name is served with. `staple` is an OCSP response, good until `staple_until` (Unix time); b"" for none."""

    pairs: tuple[tuple[Chain, Key], ...]
    staple: bytes = b""
    staple_until: float = 0.0


@dataclass(frozen=True, slots=True)
class Clients:
    """What is asked of clients."""

    request: bool
    reject: bool
    authorities: tuple[x509.Certificate, ...]


def read_file(path: str) -> bytes:
    """The content of a file. Raises OSError."""
    return Path(path).read_bytes()


class Loading:
    """Reads and checks `options`; `faults` and `expires_at` fill up on the way."""

    def __init__(self, options: TlsOptions, read: Read, now: datetime) -> None:
        self._options = options
        self._read = read
        self._now = now
        self.faults: list[Fault] = []
        self.expires_at: list[Expiry] = []

    def _fault(self, option: Option, text: str) -> None:
        fault = Fault(option, text)
        if fault not in self.faults:  # what names inherit is looked at for each
            self.faults.append(fault)

    @contextmanager
    def _blaming(self, option: Option, source: str) -> Iterator[None]:
        """What is unusable or unreadable inside becomes a fault of this option."""
        try:
            yield
        except Unusable as unusable:
            self._fault(option, f"{source} {unusable}")
        except OSError as error:
            self._fault(option, f"{source} cannot be read: {error.strerror or type(error).__name__}")

    # -- what holds for all names -------------------------------------------------------------------------------------

    def versions(self) -> tuple[int, int]:
        """The oldest and the newest protocol version as OpenSSL counts them; 0 for no limit."""
        options = self._options
        oldest, newest = VERSIONS.get(options.min_version, 0), VERSIONS.get(options.max_version, 0)
        known = " or ".join(VERSIONS)
        if not oldest:
            self._fault(("min_version",), f"must be {known}, not {options.min_version!r}")
        if options.max_version and not newest:
            self._fault(("max_version",), f"must be {known}, not {options.max_version!r}")
        if newest and newest < oldest:
            self._fault(("max_version",), f"is older than min_version, which is {options.min_version}")
        return oldest, newest

    def suites(self) -> tuple[bytes, bytes]:
        """For TLS 1.2 and for TLS 1.3. What OpenSSL knows but `STANDARD_NAMES` does not is left out: it is weak."""
        words = [word for word in re.split(r"[:,\s]+", self._options.ciphers) if word]
        modern = [word for word in words if word.startswith("TLS_")]
        for word in modern:
            if word not in STANDARD_NAMES:
                self._fault(("ciphers",), f"{word} is no suite of TLS 1.3 that may be used")
        chosen = self._tls12([word for word in words if word not in modern])
        return chosen, ":".join(modern or DEFAULT_TLS13).encode("ascii", "replace")

    def _tls12(self, words: list[str]) -> bytes:
        wanted = SSL.Context(SSL.TLS_SERVER_METHOD)
        text = ":".join(words) or DEFAULT_TLS12
        try:
            wanted.set_cipher_list(text.encode("ascii", "replace"))
        except SSL.Error:
            self._fault(("ciphers",), f"OpenSSL knows no cipher of {text!r}")
            return b""
        offered = SSL.Connection(wanted, None).get_cipher_list()
        chosen = [name for name in offered if name in STANDARD_NAMES and not name.startswith("TLS_")]
        if not chosen:
            self._fault(("ciphers",), f"{text!r} names weak ciphers only")
        return ":".join(chosen).encode("ascii")

    def tickets(self, everybody: list[Clients]) -> bool:
        """Whether sessions may be resumed."""
        asked = self._options.tickets
        if asked and any(clients.request for clients in everybody):
            self._fault(("tickets",), "must be off where client certificates are asked for: resumption passes them by")
        return asked

    # -- what each name has -------------------------------------------------------------------------------------------

    def names(self) -> Iterator[tuple[str, Option, NameOptions]]:
        """Each usable name of `sni` in lower case, where its options are, and what they say."""
        seen = set()
        for name, options in self._options.sni.items():
            known = name.lower().removesuffix(".")
            where = ("sni", name)
            if not _NAME.fullmatch(known):
                self._fault(where, 'must be a host name in ASCII (xn--… for another), or "*." before one')
            elif known in seen:
                self._fault(where, "is there twice")
            else:
                seen.add(known)
                yield known, where, options

    def identity(self, options: NameOptions, name: str, where: Option) -> Identity:
        """Certificates with their keys, and the staple."""
        chains: list[Chain] = []
        for source, pem in self._pems(options.cert, (*where, "cert")):
            with self._blaming((*where, "cert"), source):
                chains.append(chain_in(pem, source, self._now))
        keys: list[tuple[str, Key]] = []
        for source, pem in self._pems(options.key, (*where, "key")):
            with self._blaming((*where, "key"), source):
                keys.append((source, key_in(pem)))
        pairs = self._paired(chains, keys, where) if chains and keys else ()
        self.expires_at += [Expiry(name, chain.source, f"{chain.serial:x}", chain.expires_at) for chain, _ in pairs]
        return self._stapled(pairs, options.ocsp_file, name, (*where, "ocsp_file"))

    def _pems(self, sources: Sources, option: Option) -> Iterator[tuple[str, bytes]]:
        """Where each is from, and its content."""
        given = list(each_of(sources))
        if not given:
            self._fault(option, "is missing")
        for source in given:
            path = path_of(source)
            with self._blaming(option, path):
                yield path or "PEM", self._content(source, path)

    def _content(self, source: Source, path: str) -> bytes:
        if path:
            return self._read(path)
        return source if isinstance(source, bytes) else str(source).encode("utf-8")

    def _paired(self, chains: list[Chain], keys: list[tuple[str, Key]], where: Option) -> tuple[tuple[Chain, Key], ...]:
        pairs = []
        kinds = set()
        for chain in chains:
            key = next((key for _, key in keys if fits(key, chain.leaf)), None)
            if key is not None:
                pairs.append((chain, key))
            elif any(fits(key, certificate) for _, key in keys for certificate in chain.certificates):
                self._fault((*where, "cert"), f"{chain.source} must begin with the server's own certificate")
            else:
                sources = ", ".join(source for source, _ in keys)
                self._fault((*where, "key"), f"{sources} does not belong to the certificate in {chain.source}")
            if chain.kind in kinds:
                self._fault((*where, "cert"), f"{chain.source} is a second {chain.kind} certificate: one of each kind")
            kinds.add(chain.kind)
        return tuple(pairs)

    def _stapled(self, pairs: tuple[tuple[Chain, Key], ...], path: str, name: str, option: Option) -> Identity:
        if not path or not pairs:
            return Identity(pairs)
        if len(pairs) > 1:
            self._fault(option, "can be about one certificate, and there are several")
        identity = Identity(pairs)
        with self._blaming(option, path):
            staple = self._read(path)
            leaf = pairs[0][0].leaf
            identity = Identity(pairs, staple, staple_in(staple, leaf))
            self.expires_at.append(Expiry(name, path, f"{leaf.serial_number:x}", identity.staple_until))
        return identity

    def clients(self, options: NameOptions, where: Option) -> Clients:
        """What is asked of clients; what `options` leave out is as the listener has it."""
        whole = self._options
        request = whole.request_cert if options.request_cert is None else options.request_cert
        reject = whole.reject_unauthorized if options.reject_unauthorized is None else options.reject_unauthorized
        own_ca = options.ca is not None and options is not whole
        authorities: list[x509.Certificate] = []
        for source in each_of((options.ca if own_ca else whole.ca) or ()):
            option = (*(where if own_ca else ()), "ca")
            path = path_of(source)
            with self._blaming(option, path or "PEM"):
                authorities += certificates_in(self._content(source, path))
        clients = Clients(bool(request), reject is not False, tuple(authorities))
        if clients.request and clients.reject and not authorities:
            self._fault((*where, "ca"), "is needed where request_cert and reject_unauthorized are on")
        return clients
