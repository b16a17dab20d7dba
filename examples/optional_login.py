"""Mail for us from anybody, mail for others from those only who have logged in.

python examples/optional_login.py [PORT]
"""

import sys

from mta_front import Address, Credentials, Hooks, Reject, Session, SMTPServer


class Policy(Hooks):
    def on_auth(self, credentials: Credentials, session: Session) -> str | None:
        return credentials.username if credentials.validate_password("secret") else None

    def on_rcpt_to(self, address: Address, session: Session) -> None:
        if session.user is None and address.domain.lower() != "ours.example":  # None: has not logged in
            raise Reject(550, "5.7.1", "Log in to send to others")


server = SMTPServer(Policy(), auth_optional=True)
host, port = server.listen("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 2525)
print(f"listening on {host}:{port}, stop with Ctrl-C", flush=True)
server.serve_forever()
