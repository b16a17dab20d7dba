"""Clients that come one after the other at a steady rate, each with a full handshake, EHLO and QUIT.

    python -m tests.clients.handshakes STARTTLS-PORT IMPLICIT-PORT RATE SECONDS CA-FILE

They take turns between the two ports. For each a line of JSON comes out: when it began (monotonic), the serial number
of the certificate that it was shown, in hexadecimal, and what went wrong, "" for nothing.
"""

from __future__ import annotations

import itertools
import json
import socket
import ssl
import sys
import threading
import time
from collections.abc import Iterator
from typing import IO

THREADS = 16
TIMEOUT_S = 20.0


class Clients:
    """All of them; `run()` returns when the last has gone."""

    def __init__(self, ports: tuple[int, int], rate: float, seconds: float, ca_file: str) -> None:
        self._ports = ports
        self._rate = rate
        self._numbers: Iterator[int] = iter(range(round(rate * seconds)))
        self._context = ssl.create_default_context(cafile=ca_file)
        self._context.check_hostname = False
        self._began = time.monotonic()
        self._lock = threading.Lock()

    def run(self) -> None:
        """Start the threads, wait for them."""
        threads = [threading.Thread(target=self._clients) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _clients(self) -> None:
        while True:
            with self._lock:
                number = next(self._numbers, None)
            if number is None:
                return
            time.sleep(max(0.0, self._began + number / self._rate - time.monotonic()))
            began_at, serial, fault = time.monotonic(), "", ""
            try:
                serial = self._visit(self._ports[number % 2], implicit=number % 2 == 1)
            except (OSError, AssertionError) as error:
                fault = f"{type(error).__name__}: {error}"
            with self._lock:
                sys.stdout.write(json.dumps({"began_at": began_at, "serial": serial, "fault": fault}) + "\n")

    def _visit(self, port: int, *, implicit: bool) -> str:
        with socket.create_connection(("127.0.0.1", port), TIMEOUT_S) as plain:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if not implicit:
                with plain.makefile("rb") as answers:
                    _expect(answers, b"220")
                    plain.sendall(b"EHLO client.example\r\n")
                    _expect(answers, b"250")
                    plain.sendall(b"STARTTLS\r\n")
                    _expect(answers, b"220")
            with self._context.wrap_socket(plain, server_hostname="mx.ours.example") as secured:
                certificate = secured.getpeercert()
                with secured.makefile("rb") as answers:
                    if implicit:
                        _expect(answers, b"220")
                    secured.sendall(b"EHLO client.example\r\n")
                    _expect(answers, b"250")
                    secured.sendall(b"QUIT\r\n")
                    _expect(answers, b"221")
        assert certificate is not None
        return str(certificate["serialNumber"])


def _expect(answers: IO[bytes], code: bytes) -> None:
    for line in itertools.chain(iter(answers.readline, b""), [b""]):
        assert line.startswith(code), f"{line!r} instead of {code!r}"
        if line[3:4] != b"-":
            return


def main() -> None:
    """The command line."""
    starttls, implicit, rate, seconds, ca_file = sys.argv[1:]
    Clients((int(starttls), int(implicit)), float(rate), float(seconds), ca_file).run()


if __name__ == "__main__":
    main()
