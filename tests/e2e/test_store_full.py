"""A store without room: 452, nothing half-written, and what is there can still be delivered (DECISIONS S10)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.front import Front
from tests.settingsfile import smtp_route
from tests.sink import Sink
from tests.smtp_talk import Answer, talk
from tests.stores import Store
from tests.wait import until

ROOM = "8mb"
SMALL = b"Subject: small\r\n\r\n" + b"x" * 20_000 + b"\r\n"
LARGE = b"Subject: large\r\n\r\n" + b"y" * 2_000_000 + b"\r\n"


def test_full_refuses_and_drains(
    tmp_path: Path, serve: Callable[..., Front], sink: Sink, figures: Callable[[str], None]
) -> None:
    """Filled while the next hop is away: 452 4.3.1 for small and large; the next hop comes back: all is delivered."""
    store = Store("redis", tmp_path / "redis", maxmemory=ROOM).start()
    sink.do("defer")
    front = serve(smtp_route(sink.next_hop), store={"url": store.url})
    accepted, refused = list[Answer](), list[Answer]()
    with talk(front.address) as session:
        while len(refused) < 5 and len(accepted) < 2000:
            answer = session.send(SMALL)
            (accepted if answer.code == 250 else refused).append(answer)
        refused.append(session.send(LARGE))
    assert {str(answer)[:9] for answer in refused} == {"452 4.3.1"}
    queue = front.queue()
    assert (queue["entries"], queue["bodies"], queue["unfinished"]) == (len(accepted), 0, 0)

    sink.do("deliver")
    until(lambda: len(sink.deliveries()) >= len(accepted), 30.0, "the relay drains a full store")
    front.await_empty_queue(10.0)
    with talk(front.address) as session:
        assert session.send(LARGE).code == 250
    figures(f"{ROOM}: {len(accepted)} accepted, then {refused[0]}; all delivered, then 250 again")
