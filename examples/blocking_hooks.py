"""Hooks that block: a database, a file system over the network, a slow computation.

    python examples/blocking_hooks.py [PORT]

Sessions are greenlets in one thread: a hook that blocks would stop all of them. With `blocking_hooks=True` each hook
runs in a thread, and stops nobody but its own session. (Not needed for what gevent knows, its own sockets first.)
"""

import sqlite3
import sys
import time
from contextlib import closing

from mta_front import Message, Session, SMTPServer


def store(message: Message, session: Session) -> str:
    """Everything here may block. `message` is read through the session, never more than a segment ahead."""
    body = message.read()
    with closing(sqlite3.connect("messages.sqlite")) as database, database:  # one each: SQLite's belong to a thread
        database.execute("CREATE TABLE IF NOT EXISTS messages (sender TEXT, body BLOB)")
        time.sleep(0.2)  # a slow disk
        row = database.execute("INSERT INTO messages VALUES (?, ?)", (str(session.envelope.mail_from), body))
    return f"stored as {row.lastrowid}"


server = SMTPServer(auth_optional=True, size_bytes=10_000_000, blocking_hooks=True, on_data=store)
host, port = server.listen("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 2525)
print(f"listening on {host}:{port}, stop with Ctrl-C", flush=True)
server.serve_forever()
