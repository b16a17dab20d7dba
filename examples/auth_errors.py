"""What a client hears that may not log in, or has not.

python examples/auth_errors.py [PORT]
"""

import sys

from mta_front import Credentials, Defer, Reject, Session, SMTPServer

SUSPENDED = {"mallory"}


def let_in(credentials: Credentials, session: Session) -> str:
    """An exception that is neither Reject nor Defer is a bug: 454, and `on_error` hears of it."""
    if credentials.username in SUSPENDED:
        raise Reject(554, "5.7.1", "Account suspended")
    if credentials.username == "busy":
        raise Defer(454, "4.7.0", "The directory is away, come again")  # for now: clients try again
    if not credentials.validate_password("secret"):
        raise Reject("Invalid username or password")  # without a code 535 5.7.8
    return credentials.username


server = SMTPServer(
    auth_required_message="Please log in before you send mail",  # the text of the 530
    max_unauthenticated_commands=10,  # then 421; the default
    on_auth=let_in,
)
host, port = server.listen("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 2525)
print(f"listening on {host}:{port}, stop with Ctrl-C", flush=True)
server.serve_forever()
