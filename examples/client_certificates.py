"""Clients show a certificate that our authority has issued, and log in with it (EXTERNAL) instead of a password.

python examples/client_certificates.py [PORT], with ./cert/key.pem, ./cert/cert.pem and ./cert/ca.pem
"""

import sys

from mta_front import Credentials, Session, SMTPServer


def look(session: Session) -> None:
    """The handshake is over: the certificate is there, and it is a good one, or nobody would be here."""
    certificate = session.peer_certificate
    assert certificate is not None
    print(f"{certificate.subject}, {certificate.fingerprint[:16]}…", flush=True)


def let_in(credentials: Credentials, session: Session) -> str:
    """With EXTERNAL `username` is whom the certificate names: its e-mail address, else host name, else common name."""
    return credentials.username


server = SMTPServer(
    secure=True,
    key="cert/key.pem",
    cert="cert/cert.pem",
    ca="cert/ca.pem",
    request_cert=True,
    reject_unauthorized=True,  # the default; with False look at `peer_certificate.verified` yourself
    auth_methods=["EXTERNAL"],
    on_secure=look,
    on_auth=let_in,
)
host, port = server.listen("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 2465)
print(f"listening on {host}:{port}, stop with Ctrl-C", flush=True)
server.serve_forever()
