"""Whoever guesses passwords is sent away, for longer each time.

python examples/failed_logins.py [PORT]
"""

import sys
import time

from mta_front import Credentials, Defer, Reject, Session, SMTPServer

ALLOWED = 5
failed: dict[str, tuple[int, float]] = {}
"""Address → how often, and until when it is refused. A real one forgets what is old."""


def let_in(credentials: Credentials, session: Session) -> str:
    """Counts by address. In `mta-front serve` with many servers, limits are the business of its store."""
    address = session.remote_address
    count, until = failed.get(address, (0, 0.0))
    if time.monotonic() < until:
        raise Defer(421, "4.7.0", "Too many failed logins, come again later")  # 421 ends the session, too
    if not credentials.validate_password("secret"):
        count += 1
        failed[address] = count, time.monotonic() + 2.0 ** (count - ALLOWED) if count >= ALLOWED else 0.0
        raise Reject("Invalid credentials")
    failed.pop(address, None)
    return credentials.username


server = SMTPServer(on_auth=let_in)
host, port = server.listen("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 2525)
print(f"listening on {host}:{port}, stop with Ctrl-C", flush=True)
server.serve_forever()
