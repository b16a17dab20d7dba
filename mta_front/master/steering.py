"""Steering: the kernel gives new connections only to the slots that we choose (SO_ATTACH_REUSEPORT_CBPF, socket(7)).

The sockets of one TCP address form a group; for each SYN a program of ours, in classic BPF, draws the number of the
socket that gets it. Sockets are numbered in the order in which they began to listen. A slot's sockets stay open for as
long as the address does, so the number of a socket is its slot's, and never changes: a slot that goes away is no longer
chosen, and nothing is closed that a connection may lie in.

Needs no privileges, and costs 20 µs a change (measured on Linux 6.18). Where the option is missing the kernel spreads
over all listening sockets, by a hash, and the workers that can accept take over from those that cannot (see
`master.spread`).
"""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Collection, Iterator

SO_ATTACH_REUSEPORT_CBPF = 51
"""asm-generic/socket.h; Python has no name for it."""

_DRAW = 0x20, 0, 0, 0xFFFFF000 + 56
"""BPF_LD|BPF_W|BPF_ABS at SKF_AD_OFF + SKF_AD_RANDOM: A = a random number (linux/filter.h)."""

_MODULO, _ADD = 0x94, 0x04
_UNLESS_LESS = 0x35
"""BPF_JMP|BPF_JGE|BPF_K."""

_RETURN_A = 0x16, 0, 0, 0


def program(chosen: Collection[int]) -> bytes:
    """The instructions that draw one of `chosen`, all equally likely. `chosen` must not be empty."""
    instructions = [_DRAW, (_MODULO, 0, 0, len(chosen))]
    before = 0
    for first, length in _runs(sorted(chosen)):
        # Numbers from `before` to `before + length` stand for this run; greater ones pass on to the next.
        instructions += [(_UNLESS_LESS, 2, 0, before + length), (_ADD, 0, 0, (first - before) & 0xFFFFFFFF), _RETURN_A]
        before += length
    instructions.append(_RETURN_A)  # never reached, but a program must not run off its end
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in instructions)


def steer(member: socket.socket, chosen: Collection[int]) -> None:
    """From now on the group of `member` gives new connections to the sockets numbered `chosen`. Raises OSError.

    EINVAL: it is no group (one socket alone), or the kernel cannot.
    """
    code = program(chosen)
    held = ctypes.create_string_buffer(code, len(code))
    descriptor = struct.pack("HP", len(code) // 8, ctypes.addressof(held))  # struct sock_fprog
    member.setsockopt(socket.SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, descriptor)


def _runs(numbers: list[int]) -> Iterator[tuple[int, int]]:
    """Numbers that follow each other: where they begin, and how many they are."""
    first = numbers[0]
    for number, after in zip(numbers, [*numbers[1:], None], strict=True):
        if after != number + 1:
            yield first, number - first + 1
            first = after if after is not None else first
