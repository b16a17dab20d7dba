r"""What the protocol core costs by itself: bytes in, events and replies out, no socket, no hook, no store.

Thread CPU time on one CPU, so what else runs on the machine disturbs little; best and median of N runs. Messages are
fed as a client's packets would come: `lock-step` one command at a time and the body with its dot (smtp-source -d, W2),
`pipelined` the commands in one packet (W4). Bodies of 1 MiB come in pieces as large as one receive.

The same bytes through `bytes.count(b"\n")`, or a copy, are the yardstick: they say what this machine, now, makes of
bytes, and the ratio to them can be compared from one machine to another.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

from mta_front.smtp import events, replies, scan
from mta_front.smtp.connection import Connection, ConnectionOptions

MESSAGES = 2000
"""Of 4 KiB, in one run."""

LARGE = 8
"""Of 1 MiB, in one run."""

MAIL = b"MAIL FROM:<from@client.example>\r\n"
RCPT = b"RCPT TO:<to@bench.example>\r\n"
DATA = b"DATA\r\n"
LINE = b"x" * 74 + b"\r\n"
STUFFED = b"." + LINE[1:]


@dataclass(slots=True)
class Figure:
    """One line of the table. `unit` µs: less is better; GB/s: more. `yardstick`: the same of the plain `bytes` method
    that `against` names.
    """

    name: str
    unit: str
    best: float
    median: float
    yardstick: float
    against: str

    @property
    def ratio(self) -> float:
        """How many times the yardstick's time."""
        return self.best / self.yardstick if self.unit == "µs" else self.yardstick / self.best


class Talk:
    """A session that has said EHLO; its owner says yes to everything and throws messages away."""

    def __init__(self) -> None:
        self.connection = Connection(ConnectionOptions())
        self.connection.reply(replies.banner("bench.example"))
        self.hear([b"EHLO client.example\r\n"])

    def hear(self, packets: list[bytes]) -> None:
        """What the pump does with what it receives, packet by packet."""
        connection = self.connection
        next_event, reply = connection.next_event, connection.reply
        segment, data = events.Segment, events.Data
        yes, go_on = replies.OK, replies.START_MAIL_INPUT
        for packet in packets:
            connection.receive(packet)
            while (event := next_event()) is not None:
                kind = type(event)
                if kind is segment:
                    continue
                reply(go_on if kind is data else yes)
            connection.data_to_send()


def measure(runs: int) -> list[Figure]:
    """All figures. Pins this process to its last CPU."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    small, large = _lines(LINE, 4096), _lines(LINE, 1 << 20)
    rare = _lines(LINE * 19 + STUFFED, 1 << 20)
    dots = _lines(STUFFED, 1 << 20)
    end = small + b".\r\n"
    figures = [
        _message("4 KiB, lock-step", [MAIL, RCPT, DATA, end], small, runs),
        _message("4 KiB, pipelined", [MAIL + RCPT + DATA, end], small, runs),
        _message("4 KiB, pipelined, with parameters",
                 [MAIL[:-2] + b" SIZE=4096 BODY=8BITMIME\r\n" + RCPT + DATA, end], small, runs),
        _message("4 KiB, BDAT", [MAIL + RCPT + b"BDAT %d LAST\r\n" % len(small) + small], small, runs),
    ]  # fmt: skip
    for kib in (64, 128):
        piece = kib * 1024
        figures += [
            _body(f"1 MiB, 76-byte lines, {kib} KiB pieces", [DATA], large, b".\r\n", piece, runs),
            _body(f"1 MiB, a dot on each 20th line, {kib} KiB pieces", [DATA], rare, b".\r\n", piece, runs),
            _body(f"1 MiB, a dot on each line, {kib} KiB pieces", [DATA], dots, b".\r\n", piece, runs),
            _body(f"1 MiB, BDAT, {kib} KiB pieces", [b"BDAT %d LAST\r\n" % len(large)], large, b"", piece, runs),
        ]
    return figures


def _lines(line: bytes, size_bytes: int) -> bytes:
    return line * (size_bytes // len(line))


def _message(name: str, packets: list[bytes], body: bytes, runs: int) -> Figure:
    talk = Talk()
    batch = packets * MESSAGES
    times = _times(lambda: talk.hear(batch), runs)

    def count() -> None:
        for _ in range(MESSAGES):
            body.count(b"\n")

    yardstick = min(_times(count, runs))
    to_us = 1e6 / MESSAGES
    return Figure(name, "µs", min(times) * to_us, statistics.median(times) * to_us, yardstick * to_us, "count")


def _body(name: str, start: list[bytes], body: bytes, end: bytes, piece_bytes: int, runs: int) -> Figure:
    talk = Talk()
    stream = body + end
    pieces = [stream[at : at + piece_bytes] for at in range(0, len(stream), piece_bytes)]
    times = []
    for _ in range(runs):
        spent = 0.0
        for _ in range(LARGE):
            talk.hear([MAIL + RCPT, *start])
            began = time.thread_time()
            talk.hear(pieces)
            spent += time.thread_time() - began
        times.append(spent)
    copied = not end  # counted octets are not looked at, only handed on

    def read() -> None:
        for _ in range(LARGE):
            for piece in pieces:
                _ = bytearray(piece) if copied else piece.count(b"\n")

    yardstick = min(_times(read, runs))
    octets = LARGE * len(body) / 1e9
    return Figure(name, "GB/s", octets / min(times), octets / statistics.median(times), octets / yardstick,
                  "copy" if copied else "count")  # fmt: skip


def _times(work: Callable[[], object], runs: int) -> list[float]:
    """CPU seconds of each run."""
    times = []
    for _ in range(runs):
        began = time.thread_time()
        work()
        times.append(time.thread_time() - began)
    return times


def run(runs: int) -> list[dict[str, float | str | int]]:
    """Measure, print the table, and return what is to be kept."""
    simd = scan.find is not bytes.find
    print(f"The core alone ({'StringZilla' if simd else 'bytes methods'})")
    print(f"{'':46} {'best':>7} {'median':>7}      {'yardstick':>16} {'time':>6}")
    figures = measure(runs)
    for f in figures:
        peer = f"{f.against} {f.yardstick:.2f}"
        print(f"{f.name:46} {f.best:7.2f} {f.median:7.2f} {f.unit:4} {peer:>16} {f.ratio:5.1f}x", flush=True)
    return [
        {"workload": f"core: {f.name}", "unit": f.unit, "best": round(f.best, 3), "median": round(f.median, 3),
         "yardstick": f"{f.against} {f.yardstick:.3f}", "ratio": round(f.ratio, 3)}
        for f in figures
    ]  # fmt: skip
