"""The sending core and a receiver, without sockets: bytes carried between them in any pieces."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from mta_front.smtp.client import ClientConnection
from mta_front.smtp.transaction import Transaction

Cut = Callable[[int], int]
"""How many of so many waiting octets are carried now; at least 1."""


class Receiver(Protocol):
    """What hears the client: takes bytes, gives all that it has answered so far."""

    def receive(self, data: bytes) -> None: ...

    def answers(self) -> bytes: ...


class Sending:
    """One message to send: its transaction, and its body in segments."""

    def __init__(self, transaction: Transaction, segments: Iterable[bytes]) -> None:
        self.transaction = transaction
        self.left = list(segments)


def carry(
    client: ClientConnection, receiver: Receiver, sendings: list[Sending], cut: Cut = lambda waiting: waiting
) -> None:
    """Send all messages, as a driver does, until neither side has anything to say."""
    waiting = list(sendings)
    out, heard = b"", 0
    while True:
        _drive(client, waiting, sendings)
        out += client.data_to_send()
        size = cut(len(out)) if out else 0
        if size:
            receiver.receive(out[:size])
            out = out[size:]
        answers = receiver.answers()
        count = cut(len(answers) - heard) if len(answers) > heard else 0
        if count:
            client.receive(answers[heard : heard + count])
            heard += count
        if not size and not count:
            return


def _drive(client: ClientConnection, waiting: list[Sending], sendings: list[Sending]) -> None:
    while True:
        if client.body_wanted is not None:
            if client.body_held:
                return
            (sending,) = (one for one in sendings if one.transaction is client.body_wanted)
            if sending.left:
                client.write(sending.left.pop(0))
            else:
                client.finish()
        elif waiting and client.can_begin:
            client.begin(waiting.pop(0).transaction)
        else:
            return
