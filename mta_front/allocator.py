"""How much freed memory the C library keeps for the next allocation.

By default glibc gives memory at the top of its heap back at 128 KiB and asks the kernel for larger pieces each time, so
buffers of network size are paged in again and again: with these bounds a TLS connection costs 12% less CPU, a mebibyte
over TLS 40%.
"""

from __future__ import annotations

import ctypes
import os
import sys

KEPT_BYTES = 16 * 1024 * 1024
LARGE_BYTES = 1024 * 1024
"""From here on a piece is the kernel's, and given back as soon as it is free."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h of glibc
_SAID = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


def keep_freed_memory() -> None:
    """For this process, unless its environment says how; nothing where the C library is not glibc (mallopt(3))."""
    if not sys.platform.startswith("linux") or any(name in os.environ for name in _SAID):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)
        mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES)
