"""A mail server in a test: does the program under test send what it should?

    python -m pytest examples/in_a_test.py

No monkey patching: the server has a thread of its own, so code that blocks may talk to it, as smtplib does here.
"""

import smtplib

from mta_front import Message, Session, SMTPServer


def send_welcome(host: str, port: int) -> None:
    """The program under test."""
    with smtplib.SMTP(host, port) as client:
        client.sendmail("shop@example.com", ["new@example.com"], "Subject: Welcome\r\n\r\nHello!\r\n")


def test_new_customers_get_a_mail() -> None:
    received: list[tuple[str, bytes]] = []

    def keep(message: Message, session: Session) -> None:
        received.append((str(session.envelope.rcpt_to[0]), message.read()))

    with SMTPServer(auth_optional=True, on_data=keep) as server:
        host, port = server.listen()  # any free port
        send_welcome(host, port)
    assert received == [("new@example.com", b"Subject: Welcome\r\n\r\nHello!\r\n")]
