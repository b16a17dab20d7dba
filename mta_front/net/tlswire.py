"""TLS over a dialled wire: the same methods, deadlines and errors, so that who speaks over it need not care."""

from __future__ import annotations

import contextlib
import time
from typing import Protocol

from mta_front.net.dialer import TIMED_OUT, Wire, WireError
from mta_front.net.stream import RECEIVE_BYTES
from mta_front.tls.channel import Channel
from mta_front.tls.facts import Facts
from mta_front.tls.failure import TlsFailure


class AnyWire(Protocol):
    """What `Wire` and `TlsWire` have in common."""

    def recv(self, timeout_s: float = ...) -> bytes:
        """Wait for bytes; b"" when the peer closed."""

    def recv_now(self) -> bytes | None:
        """What has come already; b"" when the peer closed, None when there is nothing."""

    def send(self, data: bytes, timeout_s: float = ...) -> None:
        """Send all of it."""

    def close(self) -> None:
        """Close it; any number of times."""


class TlsWire:
    """`wire` is this one's from now on. `handshake` comes first. Every failure is a WireError."""

    __slots__ = ("_channel", "_wire", "failure")

    def __init__(self, wire: Wire, channel: Channel) -> None:
        self._wire = wire
        self._channel = channel
        self.failure: TlsFailure | None = None
        """What went wrong in TLS itself, if that was it."""

    @property
    def channel(self) -> Channel:
        """The TLS connection, for its facts, its chain and its channel binding."""
        return self._channel

    def handshake(self, timeout_s: float) -> Facts:
        """Until it is over."""
        deadline_at = time.monotonic() + timeout_s
        try:
            while not self._channel.handshake():
                self._flush(deadline_at)
                self._fill(deadline_at)
        except TlsFailure as failure:
            raise self._failed(failure) from None
        self._flush(deadline_at)
        assert self._channel.facts is not None
        return self._channel.facts

    def recv(self, timeout_s: float = 300.0) -> bytes:
        """Wait for plaintext; b"" when the peer closed, whether it said so (close_notify) or not.

        SMTP has ends of its own, so nothing can be cut off unseen.
        """
        deadline_at = time.monotonic() + timeout_s
        while (data := self._read()) is None:
            self._flush(deadline_at)
            self._fill(deadline_at)
        return data

    def recv_now(self) -> bytes | None:
        """What has come already; b"" when the peer closed, None when there is nothing."""
        while (data := self._read()) is None:
            ciphertext = self._wire.recv_now()
            if ciphertext is None:
                return None
            self._feed(ciphertext)
        return data

    def send(self, data: bytes, timeout_s: float = 300.0) -> None:
        """Send all of it."""
        try:
            self._channel.write(data)
        except TlsFailure as failure:
            raise self._failed(failure) from None
        self._flush(time.monotonic() + timeout_s)

    def close(self) -> None:
        """Say that we end, if that can be said at once, and close; any number of times."""
        self._channel.shutdown()
        with contextlib.suppress(WireError):
            self._flush(time.monotonic() + 0.001)
        self._wire.close()

    def _read(self) -> bytes | None:
        try:
            return self._channel.read(RECEIVE_BYTES)
        except TlsFailure as failure:
            if failure.reason == "truncated":
                return b""
            raise self._failed(failure) from None

    def _fill(self, deadline_at: float) -> None:
        self._feed(self._wire.recv(_left_s(deadline_at)))

    def _feed(self, ciphertext: bytes) -> None:
        if ciphertext:
            self._channel.feed(ciphertext)
        else:
            self._channel.feed_eof()

    def _flush(self, deadline_at: float) -> None:
        ciphertext = self._channel.take()
        if ciphertext:
            self._wire.send(ciphertext, _left_s(deadline_at))

    def _failed(self, failure: TlsFailure) -> WireError:
        self.failure = failure
        with contextlib.suppress(WireError):
            self._flush(time.monotonic() + 0.1)  # an alert says to the other end what we say here
        return WireError(str(failure))


def _left_s(deadline_at: float) -> float:
    left_s = deadline_at - time.monotonic()
    if left_s <= 0:
        raise WireError(TIMED_OUT)
    return left_s
