"""The smallest useful server: it takes mail from anybody and saves each message as a file.

python examples/save_messages.py [PORT]
"""

import sys
from pathlib import Path

from mta_front import Message, Session, SMTPServer


def save(message: Message, session: Session) -> str:
    """Called once for each message. What it returns is the text of the "250" that the client gets."""
    path = Path(f"{session.id}-{session.transaction}.eml")
    with path.open("wb") as file:
        for segment in message:  # the message as it arrives: however large it is, it never fills the memory
            file.write(segment)
    envelope = session.envelope
    print(f"saved {path}: {message.byte_length} bytes")
    print(f"  from {envelope.mail_from} to {', '.join(map(str, envelope.rcpt_to))}", flush=True)
    return f"saved as {path}"


# Without auth_optional=True a client would have to log in first.
server = SMTPServer(auth_optional=True, on_data=save)
host, port = server.listen("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 2525)
print(f"listening on {host}:{port}, stop with Ctrl-C", flush=True)
server.serve_forever()
