"""A way to a Redis that may become slow: `python -m tests.limits.slowly --listen PATH --to PATH --delay-ms 200`.

Replies are late from SIGUSR1 to SIGUSR2; none overtakes another, and their number in a second stays what it was.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
from pathlib import Path

from tests.processes import ROOT, Program, python
from tests.wait import until


class Slowly(Program):
    """It as a test holds it."""

    def __init__(self, directory: Path, to: Path, delay_ms: int) -> None:
        self.socket = directory / "slowly"
        given = ["--listen", str(self.socket), "--to", str(to), "--delay-ms", str(delay_ms)]
        super().__init__(python("-m", "tests.limits.slowly", *given), directory / "slowly.log", ROOT)

    def start(self) -> Slowly:
        """Start it and wait until it listens."""
        super().start()
        until(self.socket.is_socket, 10.0, "it listens")
        return self

    @property
    def url(self) -> str:
        """For `[limits] url`."""
        return f"unix://{self.socket}"


class _Way:
    def __init__(self, to: str, delay_s: float) -> None:
        self._to = to
        self._delay_s = delay_s
        self._late_s = 0.0
        self._tasks = set[asyncio.Task[None]]()

    def late(self, yes: bool) -> None:
        self._late_s = self._delay_s if yes else 0.0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_unix_connection(self._to)
        for task in (self._pass_on(reader, back, slow=False), self._pass_on(there, writer, slow=True)):
            started = asyncio.create_task(task)
            self._tasks.add(started)
            started.add_done_callback(self._tasks.discard)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, slow: bool) -> None:
        loop = asyncio.get_running_loop()
        due_at = 0.0
        try:
            while piece := await reader.read(1 << 16):
                due_at = max(due_at, loop.time() + (self._late_s if slow else 0.0))
                loop.call_at(due_at, writer.write, piece)
        finally:
            loop.call_at(max(due_at, loop.time()), writer.close)


async def main() -> None:
    """Pass on until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--listen", required=True)
    parser.add_argument("--to", required=True)
    parser.add_argument("--delay-ms", type=int, required=True)
    arguments = parser.parse_args()
    way = _Way(arguments.to, arguments.delay_ms / 1000)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, way.late, True)
    loop.add_signal_handler(signal.SIGUSR2, way.late, False)
    server = await asyncio.start_unix_server(way.serve, arguments.listen)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
