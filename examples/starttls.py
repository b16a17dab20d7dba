"""A submission port: STARTTLS first, then a login, then mail. In the wild it is 587.

python examples/starttls.py [PORT], with ./cert/key.pem and ./cert/cert.pem
"""

import sys

from mta_front import Credentials, Message, Session, SMTPServer


def let_in(credentials: Credentials, session: Session) -> str | None:
    """Here `session.secure` is True. What is returned becomes `session.user`; None refuses."""
    if credentials.username == "user" and credentials.validate_password("secret"):
        return credentials.username
    return None


def take(message: Message, session: Session) -> str:
    """Nobody comes here without TLS and without a login."""
    assert session.tls_options is not None
    return f"taken from {session.user} over {session.tls_options.version}"


server = SMTPServer(
    key="cert/key.pem",
    cert="cert/cert.pem",
    needs_upgrade=True,  # until STARTTLS, AUTH and MAIL are answered 530
    on_auth=let_in,
    on_data=take,
)
host, port = server.listen("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 2587)
print(f"listening on {host}:{port}, stop with Ctrl-C", flush=True)
server.serve_forever()
