"""A client over TLS: so many messages, in so many sessions at once. Ends with status 1 at the first wrong answer.

    python -m bench.tlsload PORT starttls|implicit MESSAGES SESSIONS OCTETS [persistent]
    python -m bench.tlsload PORT starttls|implicit|plain idle SESSIONS

`persistent`: each session sends its share of the messages, else each message has a connection of its own, with a full
handshake of TLS 1.3. `idle`: the sessions stay where they are after EHLO; "idle" is printed, then they end with the
standard input.
"""

from __future__ import annotations

import socket
import ssl
import sys
import threading
from collections.abc import Iterator
from typing import Any

TIMEOUT_S = 60.0
LINE = b"x" * 74 + b"\r\n"


class Session:
    """One connection, up to EHLO."""

    def __init__(self, port: int, way: str, context: ssl.SSLContext) -> None:
        self._sock: Any = socket.create_connection(("127.0.0.1", port), TIMEOUT_S)
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if way == "implicit":
            self._sock = context.wrap_socket(self._sock)
        self._expect(b"220")
        self._ask(b"EHLO client.example\r\n", b"250")
        if way == "starttls":
            self._ask(b"STARTTLS\r\n", b"220")
            self._sock = context.wrap_socket(self._sock)
            self._ask(b"EHLO client.example\r\n", b"250")

    def send(self, body: bytes) -> None:
        """One message, command by command."""
        self._ask(b"MAIL FROM:<from@client.example>\r\n", b"250")
        self._ask(b"RCPT TO:<to@bench.example>\r\n", b"250")
        self._ask(b"DATA\r\n", b"354")
        self._ask(body, b"250")

    def close(self) -> None:
        """QUIT."""
        self._ask(b"QUIT\r\n", b"221")
        self._sock.close()

    def _ask(self, data: bytes, code: bytes) -> None:
        self._sock.sendall(data)
        self._expect(code)

    def _expect(self, code: bytes) -> None:
        answer = b""
        while not answer.endswith(b"\r\n") or answer.splitlines()[-1][3:4] == b"-":
            more = self._sock.recv(4096)
            if not more:
                raise ConnectionError(f"closed after {answer!r}")
            answer += more
        if not answer.startswith(code):
            raise ConnectionError(f"{answer!r} instead of {code!r}")


def main() -> int:
    """The command line."""
    port, way, what, sessions, *more = sys.argv[1:]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # the server made its certificate itself, and is no stranger
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    if what == "idle":
        kept = [Session(int(port), way, context) for _ in range(int(sessions))]
        print("idle", flush=True)
        sys.stdin.read()
        return 0 if kept else 1
    octets, persistent = int(more[0]), more[1:] == ["persistent"]
    head = b"From: <from@client.example>\r\nTo: <to@bench.example>\r\nSubject: bench\r\n\r\n"
    body = head + LINE * ((octets - len(head)) // len(LINE)) + b".\r\n"
    numbers: Iterator[int] = iter(range(int(what)))
    lock = threading.Lock()
    faults: list[Exception] = []

    def client() -> None:
        session = None
        try:
            while not faults:
                with lock:
                    if next(numbers, None) is None:
                        break
                session = session or Session(int(port), way, context)
                session.send(body)
                if not persistent:
                    session.close()
                    session = None
            if session:
                session.close()
        except (OSError, ValueError) as error:
            faults.append(error)

    threads = [threading.Thread(target=client) for _ in range(int(sessions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for fault in faults[:1]:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
