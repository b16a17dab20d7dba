"""A real HAProxy in front of what a test serves: a configuration of its own, its own socket for commands.

The socket lies in a short temporary directory, since HAProxy needs room in its path for a suffix of its own.
"""

from __future__ import annotations

import csv
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Self

from tests import needs
from tests.processes import Program
from tests.smtp_talk import Talk
from tests.wait import until

GLOBAL = """\
global
    nbthread 1
    maxconn 4000
    log stdout format raw local0
    stats socket {socket} mode 600 level admin
    stats timeout 30s
    tune.ssl.default-dh-param 2048

defaults
    mode tcp
    log global
    option tcplog
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    timeout check 5s
"""


def listen(name: str, port: int, servers: Mapping[str, int], *lines: str, bind: str = "", server: str = "") -> str:
    """A `listen` section on 127.0.0.1: `lines` as they are, `bind` and `server` are options of those lines.

    `servers`: ports of 127.0.0.1 by name.
    """
    rows = [f"bind 127.0.0.1:{port} {bind}", *lines]
    rows += [f"server {each} 127.0.0.1:{to} weight 100 {server}" for each, to in servers.items()]
    return f"\nlisten {name}\n" + "".join(f"    {row.rstrip()}\n" for row in rows)


class Balancer(Program):
    """`haproxy -db` with these sections behind `global` and `defaults`; or with `whole`, a file's text as it is, in
    which `{socket}` is the path of the socket for commands.
    """

    def __init__(self, directory: Path, *sections: str, whole: str = "") -> None:
        self._run = Path(tempfile.mkdtemp(prefix="mta-ha-"))
        self.file = directory / "haproxy.cfg"
        text = whole or GLOBAL + "".join(sections)
        self.file.write_text(text.replace("{socket}", str(self._run / "s")), "utf-8")
        super().__init__([needs.program("haproxy"), "-db", "-f", str(self.file)], directory / "haproxy.log", directory)

    def start(self) -> Self:
        """Start it and wait until it takes commands; its ports are open then."""
        super().start()

        def there() -> bool:
            assert self.running(), f"haproxy ended with {self.wait(1.0)}\n{self.log_tail()}"
            return (self._run / "s").exists() and bool(self.command("show info"))

        until(there, 10.0, "haproxy takes commands")
        return self

    def end(self) -> None:
        """See Program."""
        super().end()
        shutil.rmtree(self._run, ignore_errors=True)

    def command(self, text: str) -> str:
        """What it answers to a command of its management manual."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(5.0)
            try:
                client.connect(str(self._run / "s"))
            except ConnectionRefusedError:
                return ""
            client.sendall(text.encode() + b"\n")
            return b"".join(iter(lambda: client.recv(65_536), b"")).decode()

    def stat(self, proxy: str, server: str) -> dict[str, str]:
        """The row of `show stat` for one server, FRONTEND or BACKEND: status, weight, check_status, econ …"""
        text = self.command("show stat").removeprefix("# ")
        rows = [row for row in csv.DictReader(text.splitlines()) if (row["pxname"], row["svname"]) == (proxy, server)]
        assert len(rows) == 1, f"{proxy}/{server}: {text}"
        return rows[0]

    def await_status(self, proxy: str, wanted: Mapping[str, str], timeout_s: float = 15.0) -> None:
        """Until each server named has this status: `{"a": "UP", "b": "DRAIN"}`."""
        seen: dict[str, str] = {}

        def reached() -> bool:
            seen.update({server: self.stat(proxy, server)["status"].removesuffix(" (agent)") for server in wanted})
            return seen == dict(wanted)

        try:
            until(reached, timeout_s, f"{proxy}: {dict(wanted)}", every_s=0.02)
        except AssertionError as error:
            raise AssertionError(f"{error}; at last {seen}") from None


def complaints(files: Iterable[Path]) -> list[str]:
    """What `haproxy -c` says of these files together: warnings and alerts; [] when they are good."""
    words = [word for file in files for word in ("-f", str(file))]
    done = subprocess.run(
        [needs.program("haproxy"), "-c", "-V", *words], capture_output=True, text=True, timeout=30, check=False
    )
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("[")]
    bad = [line for line in lines if not line.startswith("[NOTICE]")]
    assert done.returncode == 0 or bad, done.stdout + done.stderr
    return bad


class Caller(Talk):
    """A client with an address of its own: `source`, of 127.0.0.0/8."""

    def __init__(self, port: int, source: str, timeout_s: float = 10.0) -> None:
        self.timeout_s = timeout_s
        self.sock = socket.create_connection(("127.0.0.1", port), timeout_s, (source, 0))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._input = b""
