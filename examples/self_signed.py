"""TLS without a certificate of one's own: for development the server makes one, in memory, new at each start.

    python examples/self_signed.py [PORT]

Clients cannot know it, so they must be told not to look. For one that stays, and that they can be told to trust:

    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 365 -keyout cert/key.pem \
        -out cert/cert.pem -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1
"""

import sys

from mta_front import SMTPServer

# Neither key nor cert: STARTTLS is offered all the same. Never leave it so where strangers can connect.
server = SMTPServer(auth_optional=True, name="localhost")
host, port = server.listen("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 2525)
print(f"listening on {host}:{port}, stop with Ctrl-C", flush=True)
server.serve_forever()
