"""Messages of at most 10 MB, and what is left to do about the others: nothing.

python examples/size_limit.py [PORT]
"""

import sys

from mta_front import Message, Session, SMTPServer


def measure(message: Message, session: Session) -> None:
    """A larger message is answered 552, whatever happens here; `size_exceeded` says so when its end has come."""
    for _ in message:
        pass
    if message.size_exceeded:
        print(f"too large: {message.byte_length} bytes", flush=True)
    else:
        print(f"received {message.byte_length} bytes", flush=True)


# The limit is announced, too (SIZE 10485760), so most clients do not even try.
server = SMTPServer(auth_optional=True, size_bytes=10 * 1024 * 1024, on_data=measure)
host, port = server.listen("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 2525)
print(f"listening on {host}:{port}, stop with Ctrl-C", flush=True)
server.serve_forever()
