"""Ending without losing mail: SIGTERM lets transactions finish, tells idle clients 421, and cuts after ten seconds.

    python examples/graceful_close.py [PORT]

The server runs in a thread of its own; the program goes on with its own work and need not know gevent.
"""

import signal
import sys

from mta_front import Message, Session, SMTPServer


def keep(message: Message, session: Session) -> str:
    """After its "250" a message is ours."""
    return f"kept {len(message.read())} bytes"


server = SMTPServer(auth_optional=True, on_data=keep, close_timeout_s=10.0)
host, port = server.listen("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 2525)
server.start()
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
print(f"listening on {host}:{port}, stop with SIGTERM or Ctrl-C", flush=True)

signal.sigwait({signal.SIGTERM, signal.SIGINT})  # here a real program does its own work
print(f"closing with {server.sessions} clients", flush=True)
clean = server.close()
print("all done" if clean else "some had to be cut", flush=True)
sys.exit(0 if clean else 1)
