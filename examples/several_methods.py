"""Several ways to log in, on one port: `credentials.method` says which one the client has chosen.

python examples/several_methods.py [PORT]
"""

import sys

from mta_front import AuthRejected, Credentials, Session, SMTPServer

PASSWORDS = {"user": "secret"}
TOKENS = {"ya29.good": "user"}


def let_in(credentials: Credentials, session: Session) -> str | None:
    """`validate_password` serves all methods that have a password, in constant time."""
    match credentials.method:
        case "PLAIN" | "LOGIN" | "CRAM-MD5" | "SCRAM-SHA-256":
            known = credentials.validate_password(PASSWORDS.get(credentials.username, ""))
        case "XOAUTH2":
            known = TOKENS.get(credentials.access_token) == credentials.username
            if not known:
                raise AuthRejected(data={"status": "401"})
        case _:
            known = False
    return f"{credentials.username}, by {credentials.method}" if known else None


server = SMTPServer(
    auth_methods=["PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-256", "XOAUTH2"],
    on_auth=let_in,
    on_data=lambda message, session: f"taken from {session.user}",
)
host, port = server.listen("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 2525)
print(f"listening on {host}:{port}, stop with Ctrl-C", flush=True)
server.serve_forever()
