"""Refusing: raise `Reject` (for good, 5xx) or `Defer` (not now, 4xx) in any hook.

python examples/refuse_spam.py [PORT]
"""

import sys

from mta_front import Message, Reject, Session, SMTPServer


def look(message: Message, session: Session) -> None:
    """Code, enhanced code and text go to the client as they are. Each may be left out: `Reject("Spam detected")`."""
    if b"SPAM" in message.read():  # all of it, in memory: set size_bytes, or iterate
        raise Reject(550, "5.7.1", "Spam detected")


def hear(error: BaseException, session: Session) -> None:
    """A hook that fails in any other way has a bug: the client hears 451 and tries again later, and we hear of it."""
    print(f"{session.remote_address}: {error!r}", file=sys.stderr)


server = SMTPServer(auth_optional=True, size_bytes=1_000_000, on_data=look, on_error=hear)
host, port = server.listen("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 2525)
print(f"listening on {host}:{port}, stop with Ctrl-C", flush=True)
server.serve_forever()
