"""Behind HAProxy: the client's address is the client's, not the proxy's.

python examples/behind_haproxy.py [PORT]; in haproxy.cfg, where haproxy has the address 127.0.0.1 for us:

    listen smtp
        mode tcp
        bind :25
        server here 127.0.0.1:2525 send-proxy-v2 check check-send-proxy
"""

import sys

from mta_front import Hooks, Message, Reject, Session, SMTPServer


class Policy(Hooks):
    def on_connect(self, session: Session) -> None:
        """Not called for HAProxy's health checks."""
        if session.remote_address == "192.0.2.66":
            raise Reject("We know you")

    def on_data(self, message: Message, session: Session) -> str:
        via = f" through {session.proxy.address}" if session.proxy else ""
        return f"taken from {session.remote_address}{via}"


# Those in these networks must send a header, or are cut without a banner. From anybody else none is taken: whoever may
# send one may be whom he likes.
server = SMTPServer(Policy(), auth_optional=True, use_proxy=["127.0.0.1"])
host, port = server.listen("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 2525)
print(f"listening on {host}:{port}, stop with Ctrl-C", flush=True)
server.serve_forever()
