"""A private Postfix that relays all its mail to one server: its smtp(8) or lmtp(8) is the client under test.

It shares nothing with an installed one but the programs: configuration, queue and data are in a directory of its own,
and its mail comes in by a port of its own. Only root can run it.
"""

from __future__ import annotations

import os
import pwd
import re
from pathlib import Path
from typing import Self

from tests.needs import missing, program
from tests.ports import accepting, free_port
from tests.processes import Program
from tests.wait import until

DAEMONS = (Path("/usr/lib/postfix/sbin"), Path("/usr/libexec/postfix"))
QUEUES = (
    *("active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "private", "saved", "trace"),
    *("maildrop", "public"),
)
MAIN = """
compatibility_level = 3.6
config_directory = {directory}
queue_directory = {directory}/queue
data_directory = {directory}/data
daemon_directory = {daemons}
maillog_file = /dev/stdout
myhostname = client.example
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mydestination =
alias_maps =
local_recipient_maps =
local_header_rewrite_clients =
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_peername_lookup = no
message_size_limit = 0
smtputf8_enable = yes
disable_dns_lookups = yes
smtp_host_lookup = native
default_transport = {transport}
{client}_line_length_limit = 0
{client}_discard_ehlo_keywords = {discarded}
"""
# service type private unpriv chroot wakeup maxproc command
MASTER = """
127.0.0.1:{port} inet n - n - - smtpd
cleanup    unix  n  -  n  -     0  cleanup
qmgr       unix  n  -  n  300   1  qmgr
rewrite    unix  -  -  n  -     -  trivial-rewrite
bounce     unix  -  -  n  -     0  bounce
defer      unix  -  -  n  -     0  bounce
trace      unix  -  -  n  -     0  bounce
flush      unix  n  -  n  1000? 0  flush
proxymap   unix  -  -  n  -     -  proxymap
smtp       unix  -  -  n  -     1  smtp -v
lmtp       unix  -  -  n  -     1  lmtp -v
error      unix  -  -  n  -     -  error
anvil      unix  -  -  n  -     1  anvil
tlsmgr     unix  -  -  n  1000? 1  tlsmgr
scache     unix  -  -  n  -     1  scache
postlog    unix-dgram n - n -   1  postlogd
"""


class PostfixRelay(Program):
    """Relays to 127.0.0.1:`next_port` by `protocol`, "smtp" or "lmtp". `directory` must be open to every user."""

    def __init__(
        self, directory: Path, next_port: int, protocol: str, *, pipelining: bool = True, settings: str = ""
    ) -> None:
        """`settings`: more lines of main.cf, which go over ours."""
        program("smtp-source")  # Postfix is installed
        if os.getuid() != 0:
            missing("Postfix starts only for root")
        daemons = next(path for path in DAEMONS if (path / "master").exists())
        owner = pwd.getpwnam("postfix")
        self.port = free_port()
        transport = {"smtp": f"smtp:[127.0.0.1]:{next_port}", "lmtp": f"lmtp:inet:127.0.0.1:{next_port}"}[protocol]
        main = MAIN.format(
            directory=directory,
            daemons=daemons,
            transport=transport,
            client=protocol,
            discarded="" if pipelining else "pipelining",
        )
        main += settings or f"{protocol}_tls_security_level = none\n"
        (directory / "main.cf").write_text(main)
        (directory / "master.cf").write_text(MASTER.format(port=self.port))
        for name in ("data", *(f"queue/{queue}" for queue in QUEUES)):
            (directory / name).mkdir(parents=True)
            os.chown(directory / name, owner.pw_uid, owner.pw_gid)
        (directory / "queue" / "pid").mkdir()
        super().__init__([str(daemons / "master"), "-d", "-c", str(directory)], directory / "postfix.log", directory)

    def start(self) -> Self:
        """Start it, and wait until it takes mail."""
        super().start()
        until(lambda: accepting(self.port) or not self.running(), 10.0, "Postfix listens")
        assert self.running(), self.log_tail()
        return self

    def dialog(self) -> list[str]:
        """What its client said and heard so far: "> EHLO client.example", "< 250 2.1.0 Ok", …"""
        said = re.findall(r": ([<>]) \S+\[127\.0\.0\.1\]:\d+: (.*)", self.log_text())
        return [f"{way} {text}" for way, text in said]
