"""A worker's certificates: contexts for each listener, made of the bytes that the master read, and made anew."""

from __future__ import annotations

from collections.abc import Mapping

from mta_front.observe.events import Events
from mta_front.tls.contexts import Contexts, TlsSettingsError, load
from mta_front.tls.current import Current
from mta_front.tls.options import TlsOptions


class Keyring:
    """`options`: of each listener that has TLS, by its name. Raises TlsSettingsError when they cannot be used."""

    def __init__(self, options: Mapping[str, TlsOptions], files: Mapping[str, bytes], sink: Events) -> None:
        self._options = options
        self._sink = sink
        self._held = {name: Current(_contexts(said, files)) for name, said in options.items()}
        for name, current in self._held.items():
            self._tell(name, current.contexts)

    def of(self, listener: str) -> Current | None:
        """The certificates of a listener; None: it has no TLS."""
        return self._held.get(listener)

    def update(self, files: Mapping[str, bytes]) -> None:
        """The files changed: new connections get what they say now. What cannot be used is reported, and the old one
        goes on serving.
        """
        for name, said in self._options.items():
            try:
                contexts = _contexts(said, files)
            except TlsSettingsError as error:
                self._sink.tls_reloaded(name, False, str(error))
                continue
            self._held[name].swap(contexts)
            self._sink.tls_reloaded(name, True, "")
            self._tell(name, contexts)

    def _tell(self, listener: str, contexts: Contexts) -> None:
        for expiry in contexts.expires_at:
            self._sink.certificate(listener, expiry.name, expiry.serial, expiry.at)


def _contexts(options: TlsOptions, files: Mapping[str, bytes]) -> Contexts:
    def read(path: str) -> bytes:
        if path not in files:
            raise FileNotFoundError(2, "cannot be read", path)
        return files[path]

    return load(options, read=read)
