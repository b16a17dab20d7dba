"""Exim as a client: it takes a message on its standard input and delivers it at once to one server, by SMTP or LMTP.

Debian's Exim cannot be installed beside Postfix, so tools/exim.sh unpacks it. It looks up the user that it was built
for, who does not exist then: nss_wrapper shows it a passwd file with that name in it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.clients.letters import Letter
from tests.needs import unpacked
from tests.processes import clean_environment

BUILT_FOR = "Debian-exim"
NOBODY = 65534  # root, who starts it, is refused as its user

CONFIGURATION = """
exim_path = {exim}
keep_environment = LD_LIBRARY_PATH : LD_PRELOAD : NSS_WRAPPER_PASSWD : NSS_WRAPPER_GROUP
add_environment =
spool_directory = {directory}/spool
log_file_path = {directory}/%slog
primary_hostname = client.example
allow_utf8_domains
message_size_limit = 0
local_from_check = false
disable_ipv6

begin routers
every:
  driver = manualroute
  route_list = * 127.0.0.1
  self = send
  transport = out

begin transports
out:
  driver = smtp
  protocol = {protocol}
  port = {port}
  hosts_try_chunking = {chunking}
  hosts_avoid_tls = *
  message_linelength_limit = 1000000

begin retry
*  *  F,1h,1m
"""


class Exim:
    """One configuration of Exim, all its files in `directory`, which its user must be able to reach."""

    def __init__(self, directory: Path, port: int, protocol: str, *, chunking: bool) -> None:
        # A copy: it starts itself again as its user, who may not be able to reach the project's directory.
        programs = shutil.copytree(unpacked("exim"), directory / "programs", symlinks=True)
        self._directory = directory
        self._exim = programs / "exim4"
        uid, gid = (NOBODY, NOBODY) if os.getuid() == 0 else (os.getuid(), os.getgid())
        names = {
            "passwd": f"root:x:0:0::/:/bin/sh\n{BUILT_FOR}:x:{uid}:{gid}::/:/bin/false\n",
            "group": f"root:x:0:\nmail:x:8:\n{BUILT_FOR}:x:{gid}:\n",
        }
        for name, content in names.items():
            (directory / name).write_text(content)
        self._configuration = directory / "exim.conf"
        self._configuration.write_text(
            CONFIGURATION.format(
                exim=self._exim, directory=directory, protocol=protocol, port=port, chunking="*" if chunking else ":"
            )
        )
        if os.getuid() == 0:
            os.chown(directory, NOBODY, NOBODY)
        self._environment = clean_environment() | {
            "LD_LIBRARY_PATH": str(programs),
            "LD_PRELOAD": str(programs / "libnss_wrapper.so"),
            "NSS_WRAPPER_PASSWD": str(directory / "passwd"),
            "NSS_WRAPPER_GROUP": str(directory / "group"),
        }

    def send(self, letter: Letter) -> str:
        """Send it and wait; returns Exim's log of it, with one `=>` line for each recipient that the server took."""
        logged = len(self.log())
        done = subprocess.run(
            [
                *(str(self._exim), "-C", str(self._configuration), "-odi", "-oi"),
                *("-f", letter.mail_from, "--", *letter.rcpt_to),
            ],
            input=letter.unix,
            env=self._environment,
            capture_output=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr.decode("utf-8", "replace")
        return self.log()[logged:]

    def log(self) -> str:
        """Its main log so far."""
        file = self._directory / "mainlog"
        return file.read_text("utf-8", "replace") if file.exists() else ""
