"""Ciphertext on its way to OpenSSL, cut at the ends of TLS records (RFC 8446 §5.1). Pure.

Two things come of it. A memory BIO never shrinks, so it is given about one record at a time: a channel that is idle
after megabytes holds 53 KiB; given 128 KiB at once it would hold 200, for 410 µs a mebibyte instead of 530. And when
all records that went in have come out, nobody has to ask OpenSSL to hear that it wants more, which pyOpenSSL says with
an exception: blind slices of 16 KiB take 575 µs, and a command with its answer 10.6 instead of 9.9.
"""

from __future__ import annotations

SLICE_BYTES = 16384 + 512
"""About so much at once; more only if a single record is longer. The most that a record should have is 16,640 + 5."""

_HEADER_BYTES = 5


class Records:
    """`missing` is how much the record that went in last still lacks; 0 if it was whole."""

    __slots__ = ("_pending", "missing")

    def __init__(self) -> None:
        self._pending: bytes | memoryview = b""
        self.missing = 0

    def feed(self, data: bytes) -> None:
        """More from the peer; not copied if all before was taken."""
        self._pending = b"".join((self._pending, data)) if self._pending else data

    def clear(self) -> None:
        """Forget what was not taken."""
        self._pending = b""

    def take(self) -> tuple[bytes | memoryview, int]:
        """The next piece, and how many records it completes. b"" if there is none but the beginning of a header.

        A piece ends with a record, or with the bytes that are there.
        """
        pending = self._pending
        total = len(pending)
        end = self.missing
        whole = 1 if 0 < end <= total else 0
        while end + _HEADER_BYTES <= total:
            next_end = end + _HEADER_BYTES + (pending[end + 3] << 8 | pending[end + 4])
            if end and next_end > SLICE_BYTES:
                break
            end = next_end
            whole += end <= total
        self.missing = max(end - total, 0)
        if end >= total:
            self._pending = b""
            return pending, whole
        view = memoryview(pending)
        self._pending = view[end:]
        return view[:end], whole
