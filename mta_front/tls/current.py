"""The certificates of the moment: what a reload exchanges, whole, between two connections."""

from __future__ import annotations

from mta_front.tls.channel import Channel
from mta_front.tls.contexts import Contexts


class Current:
    """Holds one set of contexts; `swap` puts another in its place for the connections that come."""

    __slots__ = ("contexts",)

    def __init__(self, contexts: Contexts) -> None:
        self.contexts = contexts

    def channel(self) -> Channel:
        """A new connection with the present certificates, which it keeps."""
        return self.contexts.channel()

    def swap(self, contexts: Contexts) -> None:
        """Use these from now on. Connections that live keep theirs."""
        self.contexts = contexts
