"""250 means fsynced: seen with the store's fdatasync delayed, and with it failing, by strace on the embedded store.

kill -9 would prove nothing here: it leaves the page cache (DECISIONS S2).
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tests.front import Front
from tests.needs import missing, program
from tests.processes import Program
from tests.settingsfile import smtp_route
from tests.sink import Sink
from tests.smtp_talk import Answer, stuffed, talk
from tests.wait import until

DELAY_S = 0.5
MESSAGE = b"Subject: durable?\r\n\r\nIs it?\r\n"


class Strace(Program):
    """strace attached to a process and its threads, injecting into its fdatasync and fsync."""

    def __init__(self, directory: Path, pid: int, injection: str) -> None:
        self.calls_log = directory / "strace.calls"
        calls = "fdatasync,fsync"
        argv = [program("strace"), "-f", "-p", str(pid), "-e", f"trace={calls}", "-e", f"inject={calls}:{injection}"]
        super().__init__([*argv, "-ttt", "-T", "-o", str(self.calls_log)], directory / "strace.log", directory)

    def start(self) -> Self:
        """Attach; returns when it is attached."""
        super().start()
        until(lambda: "attached" in self.log_text() or not self.running(), 10.0, "strace attaches")
        if not self.running():  # Yama's ptrace_scope, or a container without the capability
            missing(f"strace may not attach to another process here: {self.log_text()}")
        return self

    def syncs(self) -> list[tuple[float, float]]:
        """Begin and end of each sync that succeeded, in unix seconds."""
        begun: dict[str, float] = {}
        done = list[tuple[float, float]]()
        for line in self.calls_log.read_text().splitlines():
            found = re.match(r"(\d+)\s+(\d+\.\d+) (.*)", line)
            assert found is not None, line
            thread, at, what = found.group(1), float(found.group(2)), found.group(3)
            took = re.search(r"<(\d+\.\d+)>$", what)
            if what.endswith("<unfinished ...>"):
                begun[thread] = at
            elif took and " = 0" in what:
                begin = begun.pop(thread, at)
                done.append((begin, begin + float(took.group(1))))
        return done


@dataclass(slots=True, frozen=True)
class Handover:
    """One message: when its last byte was about to be sent, when the reply was there."""

    sent_at: float
    answered_at: float
    answer: Answer


def hand_over(front: Front, handovers: list[Handover], times: int) -> None:
    """Send messages one after the other, note the times."""
    with talk(front.address) as session:
        for _ in range(times):
            session.envelope("a@client.example", ["b@ours.example"])
            wire = stuffed(MESSAGE)
            session.raw(wire[:-3])
            sent_at = time.time()
            session.raw(wire[-3:])
            answer = session.reply()
            handovers.append(Handover(sent_at, time.time(), answer))


def test_no_250_before_its_fdatasync_has_ended(
    tmp_path: Path, serve: Callable[..., Front], sink: Sink, figures: Callable[[str], None]
) -> None:
    """Each fdatasync takes 500 ms longer: every 250 has one that began after the message was sent, and ended before."""
    front = serve(smtp_route(sink.next_hop))
    (store,) = front.pids("store")
    tracer = Strace(tmp_path, store, f"delay_enter={int(DELAY_S * 1e6)}").start()
    handovers = list[Handover]()
    clients = [threading.Thread(target=hand_over, args=(front, handovers, 2)) for _ in range(5)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    tracer.end()
    syncs = tracer.syncs()
    assert len(handovers) == 10
    for handover in handovers:
        assert handover.answer.code == 250, str(handover.answer)
        assert any(begin >= handover.sent_at and end <= handover.answered_at for begin, end in syncs), handover
    until(lambda: len(sink.deliveries()) == 10, 20.0, "all are delivered")
    figures(
        f"10 x 250, {len(syncs)} fdatasyncs of {DELAY_S * 1000:.0f} ms, quickest 250 after "
        f"{min(h.answered_at - h.sent_at for h in handovers) * 1000:.0f} ms, 0 before its fdatasync"
    )


def test_failing_fdatasync_answers_451_and_recovers(
    tmp_path: Path, serve: Callable[..., Front], sink: Sink, figures: Callable[[str], None]
) -> None:
    """Fdatasync says EIO: 451, never 250. The store ends itself (as it must) and is started again; then mail flows."""
    front = serve(smtp_route(sink.next_hop))
    (store,) = front.pids("store")
    tracer = Strace(tmp_path, store, "error=EIO").start()
    handovers = list[Handover]()
    hand_over(front, handovers, 1)
    refused = handovers[0].answer
    assert (refused.code, refused.text[:5]) == (451, "4.3.0"), str(refused)
    failed_at = time.monotonic()
    tracer.wait(10.0)
    with talk(front.address) as session:

        def accepted() -> bool:
            if session.command("MAIL FROM:<a@client.example>").code != 250:
                return False
            session.expect("RCPT TO:<b@ours.example>", 250)
            session.expect("DATA", 354)
            return session.body(b"Message-ID: <after@client.example>\r\n\r\nafter\r\n").code == 250

        until(accepted, 20.0, "the server recovers by itself", every_s=0.1)
        recovered_s = time.monotonic() - failed_at
    assert front.pids("store") != [store]
    until(lambda: "<after@client.example>" in {d.message_id for d in sink.deliveries()}, 10.0, "mail flows again")
    front.await_empty_queue()
    figures(f"EIO: {refused}; 250 again {recovered_s:.1f} s later, with a new store")
