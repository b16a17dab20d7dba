"""A policy in 20 lines: a class with the hooks that matter, and a memory for each session.

python examples/policy.py [PORT]
"""

import sys

from mta_front import Address, Defer, Hooks, Message, Reject, Session, SMTPServer

MAILBOXES = {"alice@ours.example", "bob@ours.example"}


class Policy(Hooks):
    """The same class works for `mta-front serve`, named as `[hooks] class = "policy:Policy"`."""

    def on_connect(self, session: Session) -> None:
        session.store["unknown"] = 0  # for the hook's own things, as long as the session lasts

    def on_mail_from(self, address: Address, session: Session) -> None:
        if address.domain.lower() == "ours.example":
            raise Reject("Nobody but us sends in our name")  # 550 5.7.1: each hook has a code of its own

    def on_rcpt_to(self, address: Address, session: Session) -> None:
        if session.store["unknown"] >= 3:
            raise Defer(450, "4.7.1", "You are guessing, come again later")
        if str(address).lower() not in MAILBOXES:
            session.store["unknown"] += 1
            raise Reject(550, "5.1.1", f"No mailbox {address} here")

    def on_data(self, message: Message, session: Session) -> str:
        return f"{len(message.read())} bytes for {len(session.envelope.rcpt_to)} recipients"


server = SMTPServer(Policy(), auth_optional=True)
host, port = server.listen("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 2525)
print(f"listening on {host}:{port}, stop with Ctrl-C", flush=True)
server.serve_forever()
