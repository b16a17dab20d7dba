"""A ClientHello of TLS 1.2 that offers compression, which no TLS library does any more."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct

from tests.smtp_talk import Talk

DEFLATE, NULL = 1, 0
_RANDOM_BYTES = 32
_HEADERS_BYTES = 5 + 4  # of the record and of the handshake message


def compression_chosen(address: tuple[str, int], *, starttls: bool) -> int:
    """What the server at `address` chooses when it is offered DEFLATE and null (RFC 3749 §2)."""
    with Talk(address) as talk:
        if starttls:
            talk.greeting()
            talk.expect("STARTTLS", 220)
        talk.raw(_hello())
        answer = _record(talk.sock)
    assert answer[0] == 2, f"no ServerHello: {answer!r}"
    session = 4 + 2 + _RANDOM_BYTES
    return answer[session + 1 + answer[session] + 2]  # behind the session id and the suite


def _hello() -> bytes:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    out = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), out).do_handshake()
    hello = out.read()
    at = _HEADERS_BYTES + 2 + _RANDOM_BYTES
    at += 1 + hello[at]  # the session id
    at += 2 + int.from_bytes(hello[at : at + 2], "big")  # the suites
    assert hello[at : at + 2] == bytes([1, NULL])
    body = hello[_HEADERS_BYTES:at] + bytes([2, DEFLATE, NULL]) + hello[at + 2 :]
    message = b"\x01" + len(body).to_bytes(3, "big") + body
    return hello[:3] + struct.pack(">H", len(message)) + message


def _record(sock: socket.socket) -> bytes:
    header = _exactly(sock, 5)
    return _exactly(sock, int.from_bytes(header[3:], "big"))


def _exactly(sock: socket.socket, octets: int) -> bytes:
    data = b""
    while len(data) < octets:
        more = sock.recv(octets - len(data))
        assert more, f"the server ended after {data!r}"
        data += more
    return data
