"""One port, several names: the client says which one it wants (SNI), and is shown that certificate.

python examples/sni.py [PORT], with ./cert/{default,example,another}.{key,crt}
"""

import sys

from mta_front import Session, SMTPServer


def look(session: Session) -> None:
    """`servername` is "" for clients that ask for no name."""
    print(f"asked for {session.servername or 'no name'}", flush=True)


server = SMTPServer(
    secure=True,
    key="cert/default.key",  # for all other names, and for none
    cert="cert/default.crt",
    sni={
        "mail.example.com": {"key": "cert/example.key", "cert": "cert/example.crt"},
        "*.another.example": {"key": "cert/another.key", "cert": "cert/another.crt"},  # one label
    },
    auth_optional=True,
    on_secure=look,
)
host, port = server.listen("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 2465)
print(f"listening on {host}:{port}, stop with Ctrl-C", flush=True)
server.serve_forever()
