"""A next hop for tests, in a process of its own, that never lies about what it took.

Each delivery is appended to a file *before* it is answered 250, so what the file lacks was never acknowledged, whatever
was killed in between. `python -m tests.sink --port P --deliveries FILE` reads what it should do from its standard
input, one word a line, and ends when its input ends:

    deliver      take everything (the start)
    defer        451 to the final dot        reject       550 to the final dot
    defer_rcpt   450 to RCPT                 reject_rcpt  550 to RCPT
    hang         no reply to the final dot, the connection stays open
    cut_before   close at the final dot, the message is not taken
    cut_after    the message is taken (and logged), then the connection is closed without the 250

`--offer` adds extensions; with CHUNKING it takes BDAT too.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import itertools
import json
import os
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from tests.processes import ROOT, Program, python
from tests.wait import until

MODES = ("deliver", "defer", "reject", "defer_rcpt", "reject_rcpt", "hang", "cut_before", "cut_after")
LARGEST_BYTES = 256 * 1024 * 1024


@dataclass(slots=True, frozen=True, kw_only=True)
class Delivery:
    """One message that a next hop took. Times are of the monotonic clock, which all processes of a machine share."""

    message_id: str
    queue_id: str  # from the topmost Received header
    mail_from: str
    rcpt_to: tuple[str, ...]
    size_bytes: int
    intact: bool | None  # the body has the digest that its header states; None without such a header
    began_at: float
    at: float
    parameters: tuple[str, ...] = ()  # what followed the path in MAIL, then in each RCPT that was taken
    chunks: int = 0  # BDAT commands; 0: it came by DATA


def described(
    content: bytes,
    mail_from: str,
    rcpt_to: list[str],
    began_at: float,
    at: float,
    parameters: Sequence[str] = (),
    chunks: int = 0,
) -> Delivery:
    """What there is to know of a delivered message."""
    head, _, body = content.partition(b"\r\n\r\n")
    digest = _header(head, rb"X-Body-SHA256: *([0-9a-f]+)")
    return Delivery(
        message_id=_header(head, rb"Message-ID: *(\S+)"),
        queue_id=_header(head, rb"Received:(?:[^\r]|\r\n[ \t])*?\sid\s+([^\s;]+)"),
        mail_from=mail_from,
        rcpt_to=tuple(rcpt_to),
        size_bytes=len(content),
        intact=hashlib.sha256(body).hexdigest() == digest if digest else None,
        began_at=began_at,
        at=at,
        parameters=tuple(parameters),
        chunks=chunks,
    )


def read_deliveries(path: Path) -> list[Delivery]:
    """All deliveries of a log; a last line that was cut off by a kill is none."""
    if not path.exists():
        return []
    lines = path.read_text("utf-8").split("\n")[:-1]
    records: list[dict[str, Any]] = [json.loads(line) for line in lines]
    for record in records:
        record |= {name: tuple(record.get(name, ())) for name in ("rcpt_to", "parameters")}
    return [Delivery(**record) for record in records]


class Sink(Program):
    """The next hop as a test holds it."""

    def __init__(
        self, directory: Path, port: int, *, lmtp: bool = False, keep: bool = False, offer: Sequence[str] = ()
    ) -> None:
        self.port = port
        self.deliveries_log = directory / f"deliveries-{port}.jsonl"
        self.kept = directory / f"kept-{port}"
        argv = python("-m", "tests.sink", "--port", str(port), "--deliveries", str(self.deliveries_log))
        if keep:
            self.kept.mkdir()
            argv += ["--keep", str(self.kept)]
        argv += ["--lmtp"] * lmtp + [f"--offer={extension}" for extension in offer]
        super().__init__(argv, directory / f"sink-{port}.log", ROOT)

    @property
    def next_hop(self) -> str:
        """As a route names it."""
        return f"127.0.0.1:{self.port}"

    def start(self) -> Self:
        """Start it, and wait until it listens."""
        listening = self.log_text().count("listening") + 1
        super().start()
        until(lambda: self.log_text().count("listening") >= listening, 15.0, f"the sink listens on {self.port}")
        return self

    def do(self, mode: str) -> None:
        """Change what it does with the messages to come; returns when it does so."""
        assert mode in MODES
        assert self.popen is not None
        assert self.popen.stdin is not None
        seen = self.log_text().count("mode ")
        self.popen.stdin.write(f"{mode}\n".encode())
        self.popen.stdin.flush()
        until(lambda: self.log_text().count("mode ") > seen, 5.0, f"the sink obeys {mode}")

    def deliveries(self) -> list[Delivery]:
        """What it took so far."""
        return read_deliveries(self.deliveries_log)


def _header(head: bytes, pattern: bytes) -> str:
    found = re.search(rb"(?:^|\r\n)" + pattern, head, re.IGNORECASE)
    return found.group(1).decode("utf-8", "replace") if found else ""


# -- the process -----------------------------------------------------------------------------------------------------


OFFER = ("PIPELINING", "8BITMIME", "ENHANCEDSTATUSCODES")


@dataclass(slots=True)
class _Envelope:
    """A transaction so far."""

    mail_from: str
    parameters: list[str]
    began_at: float
    rcpt_to: list[str] = field(default_factory=list)
    content: bytes = b""
    chunks: int = 0


class _Service:
    def __init__(self, deliveries: Path, keep: Path | None, lmtp: bool, offer: Sequence[str]) -> None:
        self.log = os.open(deliveries, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self.keep = keep
        self.lmtp = lmtp
        self.offer = offer
        self.mode = "deliver"
        self.changed = asyncio.Event()
        self.numbers = itertools.count()

    async def session(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await self._talk(reader, writer)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        envelope = _Envelope("", [], 0.0)
        writer.write(b"220 sink.example ready\r\n")
        while True:
            line = (await reader.readuntil(b"\r\n"))[:-2].decode("utf-8", "replace")
            verb = line.split(" ", 1)[0].upper()
            reply: str | None = "250 2.0.0 OK"
            if verb in {"EHLO", "LHLO"}:
                reply = "\r\n".join(["250-sink.example", *(f"250-{each}" for each in self.offer), "250 SIZE 0"])
            elif verb == "MAIL":
                path, words = _path(line)
                envelope = _Envelope(path, [words], time.monotonic())
            elif verb == "RCPT":
                reply = self._recipient(line, envelope)
            elif verb == "DATA" and envelope.rcpt_to:
                writer.write(b"354 go on\r\n")
                envelope.content = await _content(reader)
                reply = await self._end(envelope)
            elif verb == "BDAT" and "CHUNKING" in self.offer:
                octets = await reader.readexactly(int(line.split()[1]))
                reply = "503 5.5.1 no recipients"
                if envelope.rcpt_to:
                    envelope.content += octets
                    envelope.chunks += 1
                    reply = await self._end(envelope) if line.upper().endswith(" LAST") else "250 2.0.0 counted"
            elif verb in {"DATA", "BDAT"}:
                reply = "503 5.5.1 no recipients"
            elif verb == "QUIT":
                writer.write(b"221 2.0.0 bye\r\n")
                return
            elif verb == "RSET":
                envelope = _Envelope("", [], 0.0)
            if reply is None:
                return
            writer.write(reply.encode() + b"\r\n")
            await writer.drain()

    def _recipient(self, line: str, envelope: _Envelope) -> str:
        refusal = {"defer_rcpt": "450 4.2.0 later", "reject_rcpt": "550 5.1.1 no such user"}.get(self.mode)
        if refusal is not None:
            return refusal
        path, words = _path(line)
        envelope.rcpt_to.append(path)
        envelope.parameters.append(words)
        return "250 2.0.0 OK"

    async def _end(self, envelope: _Envelope) -> str | None:
        """The replies to the end of a message, None to close the connection."""
        answer = await self._take(envelope)
        recipients, envelope.rcpt_to = len(envelope.rcpt_to), []
        return "\r\n".join([answer] * recipients) if answer and self.lmtp else answer

    async def _take(self, envelope: _Envelope) -> str | None:
        """The reply to the final dot, None to close the connection."""
        match self.mode:
            case "defer":
                return "451 4.3.0 not now"
            case "reject":
                return "550 5.7.1 never"
            case "cut_before":
                return None
            case "hang":
                await self.changed.wait()
                return None
        mode = self.mode
        delivery = described(
            envelope.content,
            envelope.mail_from,
            envelope.rcpt_to,
            envelope.began_at,
            time.monotonic(),
            envelope.parameters,
            envelope.chunks,
        )
        if self.keep is not None:
            (self.keep / f"{next(self.numbers):06}").write_bytes(envelope.content)
        fields = {name: getattr(delivery, name) for name in Delivery.__slots__}
        os.write(self.log, json.dumps(fields).encode() + b"\n")
        return None if mode == "cut_after" else "250 2.0.0 taken"

    async def obey(self) -> None:
        """Read modes from standard input until it ends."""
        reader = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := await reader.readline():
            self.mode = line.decode().strip()
            self.changed.set()
            self.changed = asyncio.Event()
            print("mode", self.mode, flush=True)


async def _content(reader: asyncio.StreamReader) -> bytes:
    """A message up to its final dot, un-stuffed."""
    lines = list[bytes]()
    while (line := await reader.readuntil(b"\r\n")) != b".\r\n":
        lines.append(line[1:] if line.startswith(b".") else line)
    return b"".join(lines)


def _path(line: str) -> tuple[str, str]:
    """The path of MAIL or RCPT, and the words behind it."""
    found = re.search(r"<(.*?)> *(.*)", line)
    return (found[1], found[2]) if found else ("", "")


async def _serve(options: argparse.Namespace) -> None:
    service = _Service(options.deliveries, options.keep, options.lmtp, (*OFFER, *options.offer))
    server = await asyncio.start_server(service.session, "127.0.0.1", options.port, limit=LARGEST_BYTES, backlog=1024)
    print("listening on", options.port, flush=True)
    async with server:
        await service.obey()


def main() -> None:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser(prog="python -m tests.sink", description="a next hop that logs each delivery")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--deliveries", type=Path, required=True, help="the log, one JSON object a line")
    parser.add_argument("--keep", type=Path, help="a directory that gets each message as a file")
    parser.add_argument("--offer", action="append", default=[], metavar="EXTENSION", help="offer this one too")
    parser.add_argument("--lmtp", action="store_true", help="one reply per recipient after the final dot")
    asyncio.run(_serve(parser.parse_args()))
    os._exit(0)  # sessions that hang are not waited for


if __name__ == "__main__":
    main()
