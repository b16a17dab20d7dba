"""Clients that send one octet a second: each is sent away in time, and nobody else waits for them.

`make bench ARGS=drip` measures the same with 5,000 of them.
"""

from __future__ import annotations

import threading

from bench.drippers import Drippers
from mta_front.hooks import Hooks, Message, Session
from tests.net.live import live
from tests.smtp_talk import Talk
from tests.wait import until

SESSIONS = 300
TIMEOUT_S = 4.0


class Keeping(Hooks):
    """Reads and counts."""

    def __init__(self) -> None:
        self.messages = 0

    def on_data(self, message: Message, session: Session) -> None:
        message.read()
        self.messages += 1


def test_drippers_end_by_the_least_rate_while_others_are_served() -> None:
    hooks = Keeping()
    with live(hooks, socket_timeout_s=TIMEOUT_S, min_data_rate_bytes_s=500) as server:
        drippers = Drippers(server.address, SESSIONS)
        enough = threading.Event()

        def drip() -> None:
            while not (drippers.over or enough.is_set()):
                drippers.tick()

        thread = threading.Thread(target=drip)
        thread.start()
        try:
            until(lambda: drippers.settled, 20.0)
            with Talk(server.address) as client:
                client.greeting()
                assert client.send(b"between the drops\r\n").code == 250
                assert drippers.dripping > 0, "they were gone before the message came"
            until(lambda: drippers.over, 30.0)
        finally:
            enough.set()
            thread.join(20)
            drippers.close()
    assert len(drippers.ended) == SESSIONS
    assert [dripper.heard for dripper in drippers.ended if not dripper.timed_out] == []
    assert hooks.messages == 1
    # Half of them dripped into a message. Each octet buys 2 ms; the roster's sweep is late by up to 0.5 s.
    assert min(dripper.lasted_s for dripper in drippers.ended) > TIMEOUT_S - 1.0
