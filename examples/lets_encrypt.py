"""A certificate from Let's Encrypt, where certbot leaves it.

python examples/lets_encrypt.py [PORT [DIRECTORY]]
"""

import sys
from pathlib import Path

from mta_front import SMTPServer

LIVE = Path(sys.argv[2] if len(sys.argv) > 2 else "/etc/letsencrypt/live/mail.example.com")

try:
    server = SMTPServer(
        secure=True,
        key=LIVE / "privkey.pem",
        cert=LIVE / "fullchain.pem",  # with the chain: cert.pem alone is not enough for most clients
        auth_optional=True,
    )
except ValueError as error:  # unreadable, expired, of another key: it is said here, not to the first client
    sys.exit(f"{error}")
host, port = server.listen("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 2465)
print(f"listening on {host}:{port}, stop with Ctrl-C", flush=True)
server.serve_forever()  # and when certbot renews it: see hot_reload.py
