"""A store that would lose mail is not used: at the start the server says so and ends, later clients hear 451 (S1)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.front import Front, make
from tests.processes import Program
from tests.settingsfile import smtp_route
from tests.sink import Sink
from tests.smtp_talk import talk
from tests.stores import Store
from tests.wait import until

MESSAGE = b"Subject: x\r\n\r\nx\r\n"


@pytest.mark.parametrize(
    ("unfit", "reason"),
    [
        (("appendfsync", "everysec"), "appendfsync is everysec, must be always"),
        (("maxmemory", "0"), "maxmemory is 0, must be set"),
        (("maxmemory-policy", "allkeys-lru"), "maxmemory-policy is allkeys-lru, must be noeviction"),
    ],
)
def test_at_the_start_the_server_ends_with_78_and_says_why(tmp_path: Path, unfit: tuple[str, str], reason: str) -> None:
    store = Store("redis", tmp_path / "redis").start()
    store.ask("CONFIG", "SET", *unfit)
    front = make(tmp_path, smtp_route("127.0.0.1:9"), store={"url": store.url})
    Program.start(front)
    assert front.wait(20.0) == 78
    assert f"the store cannot be trusted with mail: {reason}" in front.log_text()
    front.assert_all_ended()


def test_later_clients_hear_451_until_it_is_fit_again(tmp_path: Path, serve: Callable[..., Front], sink: Sink) -> None:
    store = Store("redis", tmp_path / "redis").start()
    front = serve(smtp_route(sink.next_hop), store={"url": store.url})
    with talk(front.address) as session:
        assert session.send(MESSAGE).code == 250
    store.ask("CONFIG", "SET", "appendfsync", "no")
    store.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")  # every connection is made, and judged, anew

    def answer() -> str:
        with talk(front.address) as session:
            return str(session.command("MAIL FROM:<a@client.example>"))

    until(lambda: answer().startswith("451 4.3.0"), 10.0, "an unfit store is refused")
    assert front.running()
    store.ask("CONFIG", "SET", "appendfsync", "always")
    until(lambda: answer().startswith("250"), 10.0, "a fit store is used again")
