"""TLS from the first octet. In the wild it is port 465.

python examples/implicit_tls.py [PORT], with ./cert/key.pem and ./cert/cert.pem
"""

import sys

from mta_front import Credentials, Message, Session, SMTPServer


def let_in(credentials: Credentials, session: Session) -> str | None:
    """What is returned becomes `session.user`; None refuses."""
    if credentials.username == "user" and credentials.validate_password("secret"):
        return credentials.username
    return None


def take(message: Message, session: Session) -> str:
    """`transmission_type` is ESMTPSA: with TLS (S) and a login (A)."""
    return f"taken by {session.transmission_type}"


server = SMTPServer(secure=True, key="cert/key.pem", cert="cert/cert.pem", on_auth=let_in, on_data=take)
host, port = server.listen("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 2465)
print(f"listening on {host}:{port}, stop with Ctrl-C", flush=True)
server.serve_forever()
