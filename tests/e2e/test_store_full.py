"""A store without room: 452, nothing half-written, and what is there can still be delivered (DECISIONS S10)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.front import Front
from tests.settingsfile import smtp_route
from tests.sink import Sink
from tests.smtp_talk import Answer, Talk, talk
from tests.stores import Store
from tests.wait import until

ROOM = "8mb"
SMALL = b"Subject: small\r\n\r\n" + b"x" * 20_000 + b"\r\n"
LARGE = b"Subject: large\r\n\r\n" + b"y" * 2_000_000 + b"\r\n"


def offered(session: Talk, body: bytes) -> Answer:
    """The answer to a message: to its MAIL, when that is refused, else to its end."""
    answer = session.command("MAIL FROM:<a@client.example>")
    if answer.code != 250:
        return answer
    session.expect("RCPT TO:<b@ours.example>", 250)
    session.expect("DATA", 354)
    return session.body(body)


def test_full_refuses_and_drains(
    tmp_path: Path, serve: Callable[..., Front], sink: Sink, figures: Callable[[str], None]
) -> None:
    """Filled to the brim while the next hop is away: 452 4.3.1 for small and large; the next hop comes back: all is
    delivered.
    """
    store = Store("redis", tmp_path / "redis", maxmemory=ROOM).start()
    sink.do("defer")
    front = serve(smtp_route(sink.next_hop), store={"url": store.url, "store_high_water": 1.0})
    accepted, refused = list[Answer](), list[Answer]()
    with talk(front.address) as session:
        while len(refused) < 5 and len(accepted) < 2000:
            answer = offered(session, SMALL)
            (accepted if answer.code == 250 else refused).append(answer)
        refused.append(offered(session, LARGE))
    assert {str(answer)[:9] for answer in refused} == {"452 4.3.1"}
    queue = front.queue()
    assert (queue["entries"], queue["bodies"], queue["unfinished"]) == (len(accepted), 0, 0)

    sink.do("deliver")
    until(lambda: len(sink.deliveries()) >= len(accepted), 30.0, "the relay drains a full store")
    front.await_empty_queue(10.0)
    with talk(front.address) as session:
        assert session.send(LARGE).code == 250
    figures(f"{ROOM}: {len(accepted)} accepted, then {refused[0]}; all delivered, then 250 again")


def stopped(front: Front) -> float:
    return front.metric("mta_front_reception_stopped")


def test_reception_stops_at_the_high_water_mark_and_goes_on_below_it(
    tmp_path: Path, serve: Callable[..., Front], sink: Sink
) -> None:
    """At MAIL, by the declared size too; the store itself has room for what the relay has to write."""
    store = Store("redis", tmp_path / "redis", maxmemory="16mb").start()
    sink.do("defer")
    front = serve(smtp_route(sink.next_hop), store={"url": store.url, "store_high_water": 0.5})
    accepted = 0
    with talk(front.address) as session:
        while accepted < 2000:
            answer = session.command(f"MAIL FROM:<a@client.example> SIZE={len(SMALL)}")
            if answer.code != 250:
                break
            session.command("RSET")
            assert session.send(SMALL).code == 250
            accepted += 1
        assert str(answer)[:9] == "452 4.3.1"
        used = store.client().info("memory")["used_memory"]
        assert 6.5 * 2**20 < used < 12 * 2**20, "what came since the store was last asked is estimated"
        until(lambda: stopped(front) == 1, 5.0, "it is told")
        sink.do("deliver")
        front.await_empty_queue(30.0)
        until(lambda: session.command("MAIL FROM:<a@client.example>").code == 250, 5.0, "there is room again")
        session.command("RSET")
        size = 12 * 2**20
        assert session.command(f"MAIL FROM:<a@client.example> SIZE={size}").code == 452, "this one alone is too large"
        assert session.command("MAIL FROM:<a@client.example> SIZE=1000").code == 250
    until(lambda: stopped(front) == 0, 5.0, "it is told")
    assert len(sink.deliveries()) == accepted
