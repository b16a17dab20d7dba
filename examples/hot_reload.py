"""A certificate that is renewed while the server serves: nobody is cut, and nobody waits.

python examples/hot_reload.py [PORT [SECONDS]], with ./cert/key.pem and ./cert/cert.pem
"""

import sys
import time
from contextlib import suppress
from pathlib import Path

from mta_front import SMTPServer

KEY, CERT = Path("cert/key.pem"), Path("cert/cert.pem")
EVERY_S = float(sys.argv[2]) if len(sys.argv) > 2 else 60.0


def changed_at() -> tuple[int, int]:
    """Follows links: certbot and Kubernetes exchange those."""
    return KEY.stat().st_mtime_ns, CERT.stat().st_mtime_ns


server = SMTPServer(secure=True, key=KEY, cert=CERT, auth_optional=True)
host, port = server.listen("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 2465)
with suppress(KeyboardInterrupt), server:  # `with` serves in a thread of its own
    known = changed_at()
    print(f"listening on {host}:{port}, stop with Ctrl-C", flush=True)
    while True:
        time.sleep(EVERY_S)
        try:
            if (now := changed_at()) != known:
                server.update_secure_context()  # reads the files anew; or give it key=… and cert=…
                known = now
                print("new connections get the new certificate", flush=True)
        except (OSError, ValueError) as error:  # half written, perhaps: the old one serves on, and we come again
            print(f"not yet: {error}", flush=True)
