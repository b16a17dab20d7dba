"""LMTP: the last hop, where each recipient has a mailbox, and each gets an answer of its own.

python examples/lmtp.py [PORT, or unix:PATH]
"""

import sys

from mta_front import Message, Reject, Session, SMTPServer

FULL = {"bob@ours.example"}


def deliver(message: Message, session: Session) -> list[str | Reject]:
    """One answer for each recipient, in their order: a text, None for "Ok", or a Reject or Defer (not raised)."""
    size_bytes = len(message.read())
    answers: list[str | Reject] = []
    for recipient in session.envelope.rcpt_to:
        if recipient.address in FULL:
            answers.append(Reject(552, "5.2.2", "Mailbox full"))
        else:
            answers.append(f"{size_bytes} bytes for {recipient.local_part}")
    return answers


server = SMTPServer(lmtp=True, auth_optional=True, on_data=deliver)
where = sys.argv[1] if len(sys.argv) > 1 else "2424"
host, port = server.listen(where) if where.startswith("unix:") else server.listen("127.0.0.1", int(where))
print(f"listening on {host}:{port}, stop with Ctrl-C", flush=True)
server.serve_forever()
