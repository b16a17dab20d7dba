"""Clients that connect at the same time: each makes a TLS handshake and goes."""

from __future__ import annotations

import socket
import ssl


def main(host: str, port: int, many: int) -> None:
    """All connect, then all shake hands."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    plain = [socket.create_connection((host, port), 20) for _ in range(many)]
    tls = [context.wrap_socket(each, do_handshake_on_connect=False) for each in plain]
    for each in tls:
        each.setblocking(False)
        _step(each)  # the hello
    for each in tls:
        each.settimeout(20)
        each.do_handshake()
    for each in tls:
        each.close()


def _step(tls: ssl.SSLSocket) -> None:
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        return
