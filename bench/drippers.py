"""Clients that send one octet a second: half of them within a command, half within a message.

    python -m bench.drippers HOST PORT SESSIONS [LAST_S]

One process with one epoll, so that thousands cost little. Octets are spread evenly over each second. Prints one JSON
line when all sessions drip, and one when all have ended, or when LAST_S seconds have passed.
"""

from __future__ import annotations

import contextlib
import json
import resource
import select
import socket
import sys
import time
from dataclasses import dataclass

INTERVAL_S = 1.0
TICK_S = 0.001
CONNECTS_PER_TICK = 4
RECEIVE_BYTES = 4096

# What is sent after each complete answer; then the session drips.
COMMAND = (b"EHLO drip.example\r\n", b"NOOP ")
MESSAGE = (b"EHLO drip.example\r\n", b"MAIL FROM:<a@drip.example>\r\nRCPT TO:<b@bench.example>\r\nDATA\r\n", b"x")
_ANSWERS = {0: b"220 ", 1: b"\n250 ", 2: b"354 "}


@dataclass(slots=True)
class Dripper:
    """One session. `stage`: how many answers it has had; `lasted_s`: from its first dripped octet to its end."""

    sock: socket.socket
    script: tuple[bytes, ...]
    stage: int = 0
    heard: bytes = b""
    dripping_since: float = 0.0
    lasted_s: float = 0.0

    @property
    def timed_out(self) -> bool:
        """It was told why it ended."""
        return self.heard.rstrip().rpartition(b"\n")[2].startswith(b"421 4.4.2 ")


class Drippers:
    """`sessions` clients of the server at `address`."""

    def __init__(self, address: tuple[str, int], sessions: int) -> None:
        self._address = address
        self._to_connect = sessions
        self._epoll = select.epoll()
        self._open: dict[int, Dripper] = {}
        self._dripping: list[Dripper] = []
        self._turn = 0.0
        self.ended: list[Dripper] = []

    @property
    def dripping(self) -> int:
        """Sessions that drip now."""
        return len(self._dripping)

    @property
    def settled(self) -> bool:
        """All are connected and drip, or have ended."""
        return not self._to_connect and len(self._open) == len(self._dripping)

    @property
    def over(self) -> bool:
        """All have ended."""
        return not self._to_connect and not self._open

    def tick(self) -> None:
        """Connect some, hear who was answered, let those drip whose turn it is. Takes `TICK_S`."""
        began = time.monotonic()
        for _ in range(min(CONNECTS_PER_TICK, self._to_connect)):
            self._to_connect -= 1
            dripper = Dripper(socket.create_connection(self._address, 10.0), (COMMAND, MESSAGE)[self._to_connect % 2])
            dripper.sock.setblocking(False)
            self._open[dripper.sock.fileno()] = dripper
            self._epoll.register(dripper.sock, select.EPOLLIN)
        self._drip()
        while True:
            for number, _ in self._epoll.poll(max(0.0, began + TICK_S - time.monotonic()), 64):
                self._hear(self._open[number])
            if time.monotonic() >= began + TICK_S:
                return

    def close(self) -> None:
        """Go away."""
        for dripper in self._open.values():
            dripper.sock.close()
        self._epoll.close()

    def _drip(self) -> None:
        if not self._dripping:
            return
        self._turn += len(self._dripping) * TICK_S / INTERVAL_S
        while self._turn >= 1.0:
            self._turn -= 1.0
            # Round robin: the one that drips goes to the end.
            dripper = self._dripping.pop(0)
            self._dripping.append(dripper)
            with contextlib.suppress(OSError):  # its end is heard by reading
                dripper.sock.send(b"x")

    def _hear(self, dripper: Dripper) -> None:
        try:
            data = dripper.sock.recv(RECEIVE_BYTES)
        except OSError:
            data = b""
        if not data:
            self._end(dripper)
            return
        dripper.heard += data
        if dripper.stage < len(dripper.script) and _ANSWERS[dripper.stage] in dripper.heard:
            dripper.sock.send(dripper.script[dripper.stage])
            dripper.heard = b""
            dripper.stage += 1
            if dripper.stage == len(dripper.script):
                dripper.dripping_since = time.monotonic()
                self._dripping.append(dripper)

    def _end(self, dripper: Dripper) -> None:
        del self._open[dripper.sock.fileno()]
        if dripper.dripping_since:
            dripper.lasted_s = time.monotonic() - dripper.dripping_since
            self._dripping.remove(dripper)
        self._epoll.unregister(dripper.sock)
        dripper.sock.close()
        self.ended.append(dripper)


def main() -> None:
    """Drip until everybody was sent away, or for LAST_S seconds."""
    host, port, sessions, *rest = sys.argv[1:]
    last_s = float(rest[0]) if rest else 600.0
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    drippers = Drippers((host, int(port)), int(sessions))
    began = time.monotonic()
    said = False
    while not drippers.over and time.monotonic() < began + last_s:
        drippers.tick()
        if drippers.settled and not said:
            said = True
            print(json.dumps({"dripping": drippers.dripping, "refused": len(drippers.ended)}), flush=True)
    ended = [dripper for dripper in drippers.ended if dripper.timed_out]
    lasted = sorted(dripper.lasted_s for dripper in ended) or [0.0]
    left = int(sessions) - len(drippers.ended)
    drippers.close()
    print(json.dumps({"timed_out": len(ended), "left": left, "first_s": round(lasted[0], 1),
                      "last_s": round(lasted[-1], 1)}), flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
