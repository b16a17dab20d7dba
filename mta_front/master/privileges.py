"""From root to nobody in particular: what needs root is done first, then the master and all its children are the user.

Sockets are bound by root (ports below 1024 need it), key files are read once, data_dir is made the user's; then user,
group and supplementary groups change, for good. Nothing that is executed later can gain rights (no_new_privs).
"""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import resource
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mta_front.master.failure import CannotStart
from mta_front.master.kernel import allow_no_new_privileges
from mta_front.observe import log

if TYPE_CHECKING:
    from mta_front.config import Settings

OPEN_FILES_MAX = 1 << 20
"""fs.nr_open's default: what no process can pass without the administrator's doing."""

OWN_FILES = 200
"""What a worker has open beside its sessions: listening sockets of all slots, the store, logs, users files."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom the processes are to run as."""

    name: str
    uid: int
    gid: int

    def own(self, path: str | Path) -> None:
        """Give a file to the user."""
        os.chown(path, self.uid, self.gid)

    @contextlib.contextmanager
    def acting(self) -> Iterator[None]:
        """For a while, do as the user: what is made is his."""
        os.setegid(self.gid)
        os.seteuid(self.uid)
        try:
            yield
        finally:
            os.seteuid(0)
            os.setegid(0)

    def become(self) -> None:
        """For good."""
        os.initgroups(self.name, self.gid)
        os.setresgid(self.gid, self.gid, self.gid)
        os.setresuid(self.uid, self.uid, self.uid)


def wanted(user: str, group: str) -> Identity | None:
    """Who we are to become; None: nobody else. Raises CannotStart: 78 no such user or group, 77 we are not root."""
    if not user:
        if os.geteuid() == 0:
            log.logger().warning("runs as root: server.user would make it somebody with fewer rights")
        return None
    try:
        found = pwd.getpwnam(user)
        gid = grp.getgrnam(group).gr_gid if group else found.pw_gid
    except KeyError as error:
        raise CannotStart(os.EX_CONFIG, f"server.user, server.group: {error.args[0]}") from None
    if os.geteuid() == 0:
        return Identity(user, found.pw_uid, gid)
    if os.geteuid() != found.pw_uid:
        raise CannotStart(os.EX_NOPERM, f"server.user = {user}: only root can become somebody else")
    return None


def forgo() -> None:
    """Never gain rights again, we and whatever we execute."""
    allow_no_new_privileges()


def close_inherited(kept: Collection[int] = ()) -> None:
    """Close what whoever started us left open: it is not ours, and our children would hold it for ever."""
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208
        fd = int(name)
        if fd > 2 and fd not in kept:
            with contextlib.suppress(OSError):  # the descriptor of this very listing
                os.close(fd)


def raise_open_files_limit(settings: Settings) -> None:
    """Take as many descriptors as we may: each session is one. Say so when they cannot suffice."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = OPEN_FILES_MAX if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES_MAX)
    if soft < limit:
        with contextlib.suppress(OSError, ValueError):  # a filter of system calls may forbid it
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    sessions = settings.server.max_connections
    limits = [listener.max_clients for listener in settings.listeners]
    if limits and all(limits):
        sessions = min(sessions, sum(limits))
    if sessions + OWN_FILES > limit:
        log.logger().warning(
            "too few file handles: sessions beyond them will wait",
            limit=limit,
            sessions=sessions,
            remedy="ulimit -n, or LimitNOFILE in the unit, or a lower server.max_connections",
        )
