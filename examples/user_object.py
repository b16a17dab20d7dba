"""The user may be any object; it stays in `session.user` for all hooks that follow.

python examples/user_object.py [PORT]
"""

import sys
from dataclasses import dataclass

from mta_front import Address, Credentials, Hooks, Message, Reject, Session, SMTPServer


@dataclass
class User:
    address: str
    quota_bytes: int


USERS = {"alice": User("alice@ours.example", 1000)}


class Policy(Hooks):
    def on_auth(self, credentials: Credentials, session: Session) -> User | None:
        return USERS.get(credentials.username) if credentials.validate_password("secret") else None

    def on_mail_from(self, address: Address, session: Session) -> None:
        if address.address != session.user.address:
            raise Reject(553, "5.7.1", f"You are {session.user.address}")

    def on_data(self, message: Message, session: Session) -> str:
        session.user.quota_bytes -= len(message.read())
        if session.user.quota_bytes < 0:
            raise Reject(552, "5.2.2", "Your quota is used up")
        return f"{session.user.quota_bytes} bytes are left"


server = SMTPServer(Policy())
host, port = server.listen("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 2525)
print(f"listening on {host}:{port}, stop with Ctrl-C", flush=True)
server.serve_forever()
