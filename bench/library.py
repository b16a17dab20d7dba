"""`SMTPServer` with a hook that takes a message and forgets it: what peers without a store are measured against.

`python -m bench.library PORT way` is the server; `LibraryServer` starts and stops it as `bench.server.Server` does the
front door.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from bench.server import DRAIN_TIMEOUT_S, ROOT, Server, free_port, on_cpu


class LibraryServer(Server):
    """`way`: "implicit" for TLS from the first octet, else STARTTLS is offered."""

    def __init__(self, directory: Path, way: str) -> None:
        self.port = free_port()
        self.log = directory / "server.log"
        command = [sys.executable, "-m", "bench.library", str(self.port), way]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen([*on_cpu(0), *command], cwd=ROOT, stdout=subprocess.PIPE, stderr=log)

    def await_ready(self) -> None:
        """Until it listens."""
        assert self.process.stdout is not None
        if self.process.stdout.readline() != b"ready\n":
            raise SystemExit(f"the server is not ready\n{self.log.read_text('utf-8', 'replace')[-2000:]}")

    def stop(self) -> None:
        """TERM, and wait until it has ended."""
        self.process.terminate()
        self.process.communicate(timeout=DRAIN_TIMEOUT_S)


def main() -> None:
    """Serve until TERM."""
    from mta_front import Message, Session, SMTPServer

    def discard(message: Message, session: Session) -> None:
        for _ in message:
            pass

    port, way = int(sys.argv[1]), sys.argv[2]
    server = SMTPServer(auth_optional=True, reverse_lookup=False, secure=way == "implicit", on_data=discard)
    server.listen("127.0.0.1", port)
    print("ready", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
