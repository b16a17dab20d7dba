"""XOAUTH2: the client comes with a token, and is told in JSON what is wrong with it.

python examples/xoauth2.py [PORT]
"""

import sys

from mta_front import AuthRejected, Credentials, Session, SMTPServer

TOKENS = {"ya29.good": "user@example.com"}  # a real server asks who has issued them


def let_in(credentials: Credentials, session: Session) -> dict[str, str]:
    """`data` is the error challenge: a client that sees status 401 gets itself a new token and comes again."""
    email = TOKENS.get(credentials.access_token)
    if email is None or email != credentials.username:
        raise AuthRejected(
            "Invalid token", data={"status": "401", "schemes": "bearer", "scope": "https://mail.example.com/"}
        )
    return {"email": email}


server = SMTPServer(auth_methods=["XOAUTH2"], on_auth=let_in)
host, port = server.listen("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 2525)
print(f"listening on {host}:{port}, stop with Ctrl-C", flush=True)
server.serve_forever()
