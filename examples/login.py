"""PLAIN and LOGIN, with passwords that are kept as hashes only.

python examples/login.py [PORT]
"""

import hashlib
import hmac
import os
import sys

from mta_front import Credentials, Reject, Session, SMTPServer


def hashed(password: str, salt: bytes) -> bytes:
    """Slow on purpose, so that stolen hashes are of little use."""
    return hashlib.scrypt(password.encode(), salt=salt, n=2**14, r=8, p=1)


SALT = os.urandom(16)
USERS = {"user": (SALT, hashed("secret", SALT))}
NOBODY = (os.urandom(16), b"")


def let_in(credentials: Credentials, session: Session) -> str:
    """Both methods have `username` and `password`. Who is not there costs the same time as a wrong password."""
    salt, expected = USERS.get(credentials.username, NOBODY)
    if not hmac.compare_digest(hashed(credentials.password, salt), expected):
        raise Reject("Invalid credentials")  # 535 5.7.8
    return credentials.username


# Only over TLS: without it AUTH is not even offered, unless allow_insecure_auth=True. Hashing blocks: hence threads.
server = SMTPServer(auth_methods=["PLAIN", "LOGIN"], on_auth=let_in, blocking_hooks=True)
host, port = server.listen("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 2525)
print(f"listening on {host}:{port}, stop with Ctrl-C", flush=True)
server.serve_forever()
