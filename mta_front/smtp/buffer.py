"""Received bytes that nobody has taken yet.

Goal: a byte is copied and looked at a bounded number of times, however it arrives; a peer that sends one octet per
packet, or a line that never ends, costs O(n) time and at most `HOLD_BYTES` + one receive of memory.

Plan: what arrives in an empty buffer is used as it is, without a copy (the usual case: one packet, whole commands).
Else it is put aside, and joined with the rest only when it can matter: it completes a CRLF, or so much is put aside
that something must be done. `fresh` says that `data` changed since its reader last found nothing in it.
"""

from __future__ import annotations

HOLD_BYTES = 65536
_HOLD_PIECES = 64  # also join after so many: bounds the objects that tiny packets leave


class ReceiveBuffer:
    """`data[pos:]` is what can be parsed; the owner moves `pos` as it takes."""

    __slots__ = ("_aside", "aside_bytes", "data", "fresh", "pos")

    def __init__(self) -> None:
        self.data = b""
        self.pos = 0
        self.fresh = False
        self._aside: list[bytes] = []
        self.aside_bytes = 0

    def __len__(self) -> int:
        return len(self.data) - self.pos + self.aside_bytes

    def receive(self, data: bytes) -> None:
        """Add what the socket gave."""
        if not self._aside:
            if self.pos >= len(self.data):
                self.data = data
                self.pos = 0
                self.fresh = True
                return
            ends_in_cr = self.data[-1] == 13
        else:
            ends_in_cr = self._aside[-1][-1] == 13
        self._aside.append(data)
        self.aside_bytes += len(data)
        if (
            b"\r\n" in data
            or (ends_in_cr and data[:1] == b"\n")
            or self.aside_bytes >= HOLD_BYTES
            or len(self._aside) >= _HOLD_PIECES
        ):
            self._join()

    def _join(self) -> None:
        self.data = b"".join([self.data[self.pos :], *self._aside])
        self.pos = 0
        self.fresh = True
        self._aside.clear()
        self.aside_bytes = 0

    def take(self, at_most: int) -> bytes:
        """Take that many octets, or what there is."""
        self.settle()
        data, pos = self.data, self.pos
        taken = data[pos : pos + at_most] if pos or at_most < len(data) else data
        self.pos = pos + len(taken)
        return taken

    def settle(self) -> None:
        """Join what is put aside: whoever reads now wants all there is."""
        if self._aside:
            self._join()
        self.fresh = True
