"""SCRAM-SHA-256: the password is never sent, and not known here; client and server prove themselves to each other.

python examples/scram.py [PORT]
"""

import os
import sys

from mta_front import Credentials, ScramKeys, Session, SMTPServer, decoy_keys

# What is stored, as keys.text(); the password is needed only to make them.
KEYS = {"user": ScramKeys.of_password("secret", salt=os.urandom(16))}
SECRET = os.urandom(32)


def let_in(credentials: Credentials, session: Session) -> str | None:
    """`scram` plays the exchange with the client. For who is not there, too: with keys that nobody has."""
    keys = KEYS.get(credentials.username) or decoy_keys(SECRET, credentials.username)
    return credentials.username if credentials.scram(keys) else None


# -PLUS is offered over TLS, and binds the login to it: nobody in the middle can pass it on.
server = SMTPServer(auth_methods=["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"], on_auth=let_in)
host, port = server.listen("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 2525)
print(f"listening on {host}:{port}, stop with Ctrl-C", flush=True)
server.serve_forever()
