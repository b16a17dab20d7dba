"""One TLS connection as bytes: ciphertext in, ciphertext out, plaintext on the other side. No socket, no clock.

Whoever owns a channel does this:

    while not channel.handshake():       # False: it wants more from the peer
        send(channel.take())
        channel.feed(receive())          # or feed_eof()
    send(channel.take())

    data = channel.read(65536)           # None: it wants more; b"": the peer has said that it ends (close_notify)
    channel.write(reply); send(channel.take())

Everything that can go wrong with the peer is a TlsFailure, the same one at any split of its bytes. After a failure
there may be an alert to `take()` and send.

Memory BIOs keep the largest size that they ever had, so ciphertext goes in and comes out by about a record at a time.
"""

from __future__ import annotations

import contextlib
from socket import MSG_PEEK
from typing import Any

from OpenSSL import SSL, crypto

from mta_front.tls.facts import Facts, facts_of, has_extended_master_secret
from mta_front.tls.failure import TlsFailure
from mta_front.tls.reasons import failure_of, why_unverified
from mta_front.tls.records import Records

RECORD_BYTES = 16384
"""The most plaintext that a record carries (RFC 8446 §5.1)."""

_TAKE_BYTES = RECORD_BYTES + 2048
_FIRST_BYTES = 5  # a record's header
_FLIGHT_BYTES = 512  # more than a ServerHello of TLS 1.2

_BINDING_LABEL = b"EXPORTER-Channel-Binding"  # RFC 9266 §2
_BINDING_BYTES = 32


class Channel:
    """One connection. `facts` are None until the handshake is over.

    `owner` is kept as long as the channel: a connection goes on using the callbacks of the context that it began with,
    also after the SNI callback has put another one in its place, and pyOpenSSL would free them with that context.
    """

    __slots__ = (
        "_connection", "_ended", "_eof", "_failure", "_first", "_flight", "_out", "_owner", "_records", "_wants",
        "_whole", "facts",
    )  # fmt: skip

    def __init__(self, context: SSL.Context, *, owner: object = None, server: bool = True, name: str = "") -> None:
        self._connection = SSL.Connection(context, None)
        if server:
            self._connection.set_accept_state()
        else:
            self._connection.set_connect_state()
            if name:
                self._connection.set_tlsext_host_name(name.encode("ascii"))
        self._owner = owner
        self._records = Records()
        self._whole = 0  # records that OpenSSL has got and not yet given; never too few
        self._out: list[bytes] = []
        self._first = b""
        self._flight = b""
        self._failure: TlsFailure | None = None
        self._wants = False
        self._eof = False
        self._ended = False
        self.facts: Facts | None = None

    # -- ciphertext ---------------------------------------------------------------------------------------------------

    def feed(self, ciphertext: bytes) -> None:
        """Bytes from the peer; not empty. They are kept as they are until `handshake` or `read` asks for them."""
        if len(self._first) < _FIRST_BYTES:
            self._first += ciphertext[: _FIRST_BYTES - len(self._first)]
        self._records.feed(ciphertext)
        self._wants = False

    def feed_eof(self) -> None:
        """The peer sends nothing more."""
        self._eof = True
        self._wants = False

    def take(self) -> bytes:
        """Ciphertext to send, all that there is; b"" if there is none."""
        self._drain()
        out = self._out
        if len(out) == 1:
            return out.pop()
        taken = b"".join(out)
        out.clear()
        return taken

    def _drain(self) -> None:
        """Move what OpenSSL has written out of its BIO."""
        size = _TAKE_BYTES
        while size == _TAKE_BYTES:
            try:
                data = self._connection.bio_read(_TAKE_BYTES)
            except SSL.WantReadError:
                return
            size = len(data)
            self._out.append(data)

    def _push(self) -> bool:
        """Give OpenSSL the next piece of what was fed, or its end. False if there is none."""
        piece, whole = self._records.take()
        if piece:
            self._connection.bio_write(piece)
            self._whole += whole
            return True
        if self._eof:
            self._connection.bio_shutdown()
        return self._eof

    # -- the handshake ------------------------------------------------------------------------------------------------

    def handshake(self) -> bool:
        """Go on with it. True when it is over, False when it wants more from the peer. Raises TlsFailure."""
        connection = self._connection
        while True:
            try:
                connection.do_handshake()
            except SSL.WantReadError:
                if not self._flight:
                    self._keep_flight()
                if not self._push():
                    return False
            except SSL.Error as error:
                raise self._failed(error) from None
            else:
                self.facts = facts_of(connection, self._verify_error())
                if self.facts.version != "TLSv1.2":
                    self._flight = b""
                return True

    def _keep_flight(self) -> None:
        """The beginning of our first flight, for `channel_binding`."""
        self._drain()
        if self._out:
            self._flight = self._out[0][:_FLIGHT_BYTES]

    def _verify_error(self) -> int:
        """What the verify callback has noted on the connection (`mta_front.tls.contexts`)."""
        noted: Any = self._connection.get_app_data()
        return noted or 0

    def channel_binding(self) -> bytes | None:
        """tls-exporter (RFC 9266): 32 octets; None where it is not defined: TLS 1.2 without RFC 7627.

        The context is empty, not absent: the two differ in TLS 1.2 (RFC 5705 §4).
        """
        if self.facts is None or (self.facts.version == "TLSv1.2" and not has_extended_master_secret(self._flight)):
            return None
        return self._connection.export_keying_material(_BINDING_LABEL, _BINDING_BYTES, b"")

    def peer_chain(self) -> tuple[bytes, ...]:
        """The certificates that the peer showed, in DER, its own first; as it sent them, whether good or not."""
        shown = self._connection.get_peer_cert_chain() or []
        return tuple(crypto.dump_certificate(crypto.FILETYPE_ASN1, each) for each in shown)

    # -- plaintext ----------------------------------------------------------------------------------------------------

    def read(self, size_bytes: int) -> bytes | None:
        """At most so much plaintext, of one or more records. None: more ciphertext is wanted. b"": close_notify.

        Raises TlsFailure, once everything before it was read.
        """
        if self._wants:
            return None
        if self._failure is not None:
            raise self._failure
        recv = self._connection.recv
        pieces: list[bytes] = []
        left = size_bytes
        while left and not self._wants:
            size = min(left, RECORD_BYTES)
            try:
                piece = recv(size)
            except SSL.WantReadError:
                self._whole = 0
                self._wants = not self._push()
            except SSL.ZeroReturnError:
                if not pieces:
                    return b""
                break
            except SSL.Error as error:
                failure = self._failed(error)
                if not pieces:
                    raise failure from None
                break
            else:
                pieces.append(piece)
                left -= len(piece)
                if len(piece) < size or size == RECORD_BYTES:  # a record was used up
                    self._whole -= 1
                    if not self._whole:
                        self._wants = not self._push() and not self._records.missing
        if len(pieces) == 1:
            return pieces[0]
        return b"".join(pieces) or None

    def readable(self) -> bool:
        """Whether `read` has something to say without more ciphertext: plaintext, an end or a failure."""
        while not self._wants:
            try:
                self._connection.recv(1, MSG_PEEK)
            except SSL.WantReadError:
                self._wants = not self._push()
            except SSL.ZeroReturnError:
                return True
            except SSL.Error as error:
                self._failed(error)
                return True
            else:
                return True
        return False

    def write(self, plaintext: bytes) -> None:
        """Encrypt all of it; `take` gives the result. Only after the handshake. Raises TlsFailure after a failure."""
        if self._failure is not None:
            raise self._failure
        rest = memoryview(plaintext)
        while rest:
            try:
                # A record at a time: pyOpenSSL sets SSL_MODE_ENABLE_PARTIAL_WRITE. A memory BIO takes it whole, so
                # there is no retry with the same buffer.
                sent = self._connection.send(rest)
            except SSL.Error as error:
                raise self._failed(error) from None
            rest = rest[sent:]
            if rest:
                self._drain()

    def shutdown(self) -> None:
        """Say that nothing more comes from us (close_notify), once; `take` gives the alert. Never raises."""
        if self.facts is not None and self._failure is None and not self._ended:
            self._ended = True
            with contextlib.suppress(SSL.Error):
                self._connection.shutdown()

    def _failed(self, error: SSL.Error) -> TlsFailure:
        self._failure = failure_of(
            error,
            first=self._first,
            established=self.facts is not None,
            unverified=why_unverified(self._verify_error()),
        )
        self._records.clear()
        return self._failure
