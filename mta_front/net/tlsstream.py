"""A `Stream` whose bytes go through TLS: the same methods, so that a session does not care which of them it has."""

from __future__ import annotations

import _socket
import contextlib

import gevent

from mta_front.net.stream import RECEIVE_BYTES, YIELD_S, Stream
from mta_front.tls.channel import Channel
from mta_front.tls.facts import Facts
from mta_front.tls.failure import TlsFailure

CIPHERTEXT_BYTES = RECEIVE_BYTES
"""Received from the socket at once: reading record by record costs a mebibyte 10% more (DESIGN §7), and 128 KiB at a
time up to 40%, where the allocator takes each piece from the kernel (`mta_front.allocator`)."""

RECORDS_PER_TURN = 16
"""After so many reads without any plaintext others run: key updates carry none, and a client may send them for ever."""


class TlsStream:
    """TLS over `stream`, which it owns from now on. `handshake()` comes first.

    What the peer had sent before it, in clear, is not in here; who starts TLS refuses a peer that did (CVE-2011-0411).
    """

    __slots__ = ("_channel", "_cut", "_ending", "_stream", "_unsent")

    def __init__(self, stream: Stream, channel: Channel) -> None:
        self._stream = stream
        self._channel = channel
        self._cut = False
        self._ending = False
        self._unsent = False  # whether the channel may have something to send

    @property
    def socket(self) -> _socket.socket:
        """The socket, for its addresses."""
        return self._stream.socket

    @property
    def channel(self) -> Channel:
        """The TLS connection, for its facts and its channel binding."""
        return self._channel

    def handshake(self) -> Facts:
        """Until it is over; `cut()` ends the waiting. Others run before it returns.

        Raises TlsFailure; `close()` then sends the alert, if there is one.
        """
        channel = self._channel
        try:
            while not channel.handshake():
                self._flush()
                self._fill()
            assert channel.facts is not None
            if channel.facts.version == "TLSv1.2":
                self._flush()
            else:
                self._unsent = False  # all that is left is a ticket, which may as well travel with the first reply
        except TlsFailure:
            raise
        except OSError:
            raise TlsFailure("unfinished") from None
        gevent.sleep(YIELD_S)
        return channel.facts

    def recv(self, size_bytes: int = RECEIVE_BYTES) -> bytes:
        """At most so much plaintext; b"" when the peer has said that it ends, or after `cut()`.

        Raises OSError when the connection is broken, of which TlsFailure is one: the peer's TLS is, or it went away
        without saying so ("truncated").
        """
        read = self._channel.read
        turns = 0
        while True:
            data = read(size_bytes)
            if data is not None:
                return data
            if self._unsent:
                self._flush()
            self._fill()
            if self._cut:
                return b""
            turns += 1
            if turns % RECORDS_PER_TURN == 0:
                gevent.sleep(YIELD_S)

    def readable_within(self, timeout_s: float) -> bool:
        """Whether the peer sends something, or goes away, within so many seconds."""
        return self._channel.readable() or self._stream.readable_within(timeout_s)

    def send(self, data: bytes) -> None:
        """Send all of it. Raises OSError when the connection is broken."""
        self._channel.write(data)
        if self._ending:
            self._channel.shutdown()
        self._flush()

    def end(self) -> None:
        """What is sent next is the last: close_notify travels with it, which spares a system call."""
        self._ending = True

    def cut(self, *, write: bool = False) -> None:
        """Wake whoever waits here: reading ends (b""), with `write` sending too (OSError). Never raises."""
        self._cut = True
        self._stream.cut(write=write)

    def linger(self) -> None:
        """Say that we end, and read on for a little. Never raises."""
        self._channel.shutdown()
        self._say_last()
        self._stream.linger()

    def close(self) -> None:
        """Say that we end (close_notify), without waiting for anything, and close the socket. Never raises."""
        self._channel.shutdown()
        self._say_last()
        self._stream.close()

    def _fill(self) -> None:
        """More ciphertext, or the end of it, to the channel."""
        ciphertext = self._stream.recv(CIPHERTEXT_BYTES)
        if ciphertext:
            self._channel.feed(ciphertext)
        else:
            self._channel.feed_eof()
        self._unsent = True

    def _flush(self) -> None:
        self._unsent = False
        ciphertext = self._channel.take()
        if ciphertext:
            self._stream.send(ciphertext)

    def _say_last(self) -> None:
        """An alert, if the socket takes it at once."""
        ciphertext = self._channel.take()
        if ciphertext:
            with contextlib.suppress(OSError):
                _socket.socket.send(self._stream.socket, ciphertext)
