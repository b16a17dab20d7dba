"""CRAM-MD5: the password itself is never sent, but must be known here, in clear. SCRAM (scram.py) needs neither.

python examples/cram_md5.py [PORT]
"""

import sys

from mta_front import Credentials, Session, SMTPServer

PASSWORDS = {"user": "secret"}


def let_in(credentials: Credentials, session: Session) -> str | None:
    """The client has sent a digest of `challenge` and the password: `challenge_response`. False for no password, ""."""
    if credentials.validate_password(PASSWORDS.get(credentials.username, "")):
        return credentials.username
    return None


server = SMTPServer(auth_methods=["CRAM-MD5"], on_auth=let_in)
host, port = server.listen("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 2525)
print(f"listening on {host}:{port}, stop with Ctrl-C", flush=True)
server.serve_forever()
