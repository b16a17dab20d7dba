"""What is known of a TLS connection, once its handshake is over.

python examples/tls_facts.py [PORT]
"""

import sys

from mta_front import Reject, Session, SMTPServer


def look(session: Session) -> None:
    """Called after each handshake, that of STARTTLS too. To refuse is to end the session."""
    facts = session.tls_options
    assert facts is not None
    print(f"protocol {facts.version}, cipher {facts.name}, in IANA's words {facts.standard_name}")
    print(f"asked for {session.servername or 'no name'}", flush=True)
    if session.servername == "old.example":
        raise Reject(554, "5.7.1", "This name has moved")


server = SMTPServer(auth_optional=True, on_secure=look, min_version="TLSv1.2")
host, port = server.listen("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 2525)
print(f"listening on {host}:{port}, stop with Ctrl-C", flush=True)
server.serve_forever()
